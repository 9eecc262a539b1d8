//! Which process keeps which standby task: a pure function of the group's members and what each has, so that all
//! come to the same result without a word between them.
//!
//! A standby is worth something only where its task will go. That is not ours to say: the group's assignor gives what
//! a lost member leaves, by number, to whoever has least, and of several such to the first by id (librdkafka's
//! `cooperative-sticky` does, and the embedded broker). So each task's first standby goes to the process that would
//! get it. Then some are moved until no process has two tasks more than another, active and standby ones together.
//!
//! A placement by hashes would move fewer of them when members come and go, and be right once in so many workers. What
//! moves is read again in the background; what is not there when its task comes is waited for.

use crate::base::ids::TaskId;
use std::collections::{BTreeMap, BTreeSet};

/// A member of the group with its active tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub process: String,
    pub tasks: BTreeSet<TaskId>,
}

/// Of each task the processes that keep a standby of it, the likeliest successor first.
pub type Placement<'a> = BTreeMap<TaskId, Vec<&'a str>>;

/// The standby tasks of one process.
pub fn standby_tasks(members: &[Member], replicas: usize, process: &str) -> BTreeSet<TaskId> {
    let placed = place(members, replicas);
    placed.into_iter().filter(|(_, keepers)| keepers.contains(&process)).map(|(task, _)| task).collect()
}

/// At most `replicas` standbys of each task, on processes other than the one where it is active.
pub fn place(members: &[Member], replicas: usize) -> Placement<'_> {
    let processes: BTreeSet<&str> = members.iter().map(|member| member.process.as_str()).collect();
    let mut placement = Placement::new();
    for process in &processes {
        successors(members, process, replicas, &mut placement);
    }
    let owners: BTreeMap<TaskId, &str> =
        members.iter().flat_map(|member| member.tasks.iter().map(|task| (*task, member.process.as_str()))).collect();
    while even_out_one(&processes, &owners, &mut placement) {}
    placement
}

/// Plays through what the group would do if this process were gone.
fn successors<'a>(members: &'a [Member], lost: &str, replicas: usize, placement: &mut Placement<'a>) {
    let (gone, left): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.process == lost);
    let mut queue: BTreeSet<(usize, &str, &str)> =
        left.iter().map(|member| (member.tasks.len(), member.id.as_str(), member.process.as_str())).collect();
    let orphans: BTreeSet<TaskId> = gone.iter().flat_map(|member| member.tasks.iter().copied()).collect();
    for task in orphans {
        let keepers = placement.entry(task).or_default();
        for (_, _, process) in &queue {
            if keepers.len() < replicas && !keepers.contains(process) {
                keepers.push(process);
            }
        }
        if let Some((count, id, process)) = queue.pop_first() {
            queue.insert((count + 1, id, process));
        }
    }
}

/// Moves one standby from the process that has most to the one that has least, if they are two tasks apart or more.
/// Each move makes the squares of the counts less in all, so there is a last one.
fn even_out_one<'a>(processes: &BTreeSet<&'a str>, owners: &BTreeMap<TaskId, &'a str>, placement: &mut Placement<'a>) -> bool {
    let mut counts: BTreeMap<&'a str, usize> = processes.iter().map(|process| (*process, 0)).collect();
    for process in owners.values().chain(placement.values().flatten()) {
        *counts.entry(process).or_default() += 1;
    }
    let mut by_count: Vec<(usize, &'a str)> = counts.into_iter().map(|(process, count)| (count, process)).collect();
    by_count.sort_unstable();
    for (least, poor) in &by_count {
        for (_, rich) in by_count.iter().rev().take_while(|(most, _)| *most >= least + 2) {
            for (task, keepers) in placement.iter_mut().rev() {
                if owners.get(task) == Some(poor) || keepers.contains(poor) {
                    continue;
                }
                if let Some(keeper) = keepers.iter_mut().find(|keeper| *keeper == rich) {
                    *keeper = poor;
                    return true;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
