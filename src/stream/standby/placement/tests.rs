use super::*;
use proptest::prelude::*;

fn task(partition: i32) -> TaskId {
    TaskId { shard: 0, partition }
}

/// Members of so many threads each, and as many tasks, as the group shares them out: evenly, the first by id more.
fn group(threads: &[usize], tasks: i32) -> Vec<Member> {
    let mut members = Vec::new();
    for (process, count) in threads.iter().enumerate() {
        for thread in 0..*count {
            let process = format!("worker-{process}");
            members.push(Member { id: format!("{process}-{thread}"), process, tasks: BTreeSet::new() });
        }
    }
    let count = members.len();
    for partition in 0..tasks {
        members[partition as usize % count].tasks.insert(task(partition));
    }
    members
}

/// What the group does with the tasks of a process that is gone.
fn after_losing(members: &[Member], process: &str) -> Vec<Member> {
    let (gone, mut left): (Vec<Member>, Vec<Member>) = members.iter().cloned().partition(|member| member.process == process);
    let orphans: BTreeSet<TaskId> = gone.into_iter().flat_map(|member| member.tasks).collect();
    for orphan in orphans {
        let heir = left.iter_mut().min_by(|a, b| (a.tasks.len(), &a.id).cmp(&(b.tasks.len(), &b.id)));
        heir.expect("somebody is left").tasks.insert(orphan);
    }
    left
}

fn standbys(placement: &Placement<'_>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for keeper in placement.values().flatten() {
        *counts.entry((*keeper).to_owned()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn of_two_processes_each_keeps_what_the_other_has() {
    let members = group(&[1, 1], 6);
    assert_eq!(standby_tasks(&members, 1, "worker-0"), members[1].tasks);
    assert_eq!(standby_tasks(&members, 1, "worker-1"), members[0].tasks);
    assert_eq!(standby_tasks(&members, 0, "worker-0"), BTreeSet::new());
    assert_eq!(standby_tasks(&group(&[3], 6), 1, "worker-0"), BTreeSet::new(), "its own threads are no other process");
}

#[test]
fn an_even_group_finds_a_standby_wherever_a_task_goes() {
    for (threads, tasks) in [(vec![1, 1], 12), (vec![1, 1, 1], 12), (vec![1, 1, 1, 1], 12), (vec![2, 2], 8), (vec![1; 6], 30)] {
        let members = group(&threads, tasks);
        let placement = place(&members, 1);
        for lost in 0..threads.len() {
            let left = after_losing(&members, &format!("worker-{lost}"));
            for (task, member) in left.iter().flat_map(|member| member.tasks.iter().map(move |task| (task, member))) {
                let was_there = members.iter().any(|before| before.id == member.id && before.tasks.contains(task));
                assert!(
                    was_there || placement[task] == [member.process.as_str()],
                    "{threads:?}, {tasks} tasks, {lost} lost: {task}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn each_task_has_its_standbys_elsewhere_and_no_move_would_spread_them_more_evenly(
        threads in prop::collection::vec(1usize..4, 1..7),
        tasks in 0i32..40,
        replicas in 0usize..4,
    ) {
        let members = group(&threads, tasks);
        let placement = place(&members, replicas);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &members {
            *counts.entry(&member.process).or_default() += member.tasks.len();
        }
        for (process, standbys) in standbys(&placement) {
            *counts.get_mut(process.as_str()).expect("a process of the group") += standbys;
        }
        for member in &members {
            for task in &member.tasks {
                let keepers = &placement[task];
                let others: BTreeSet<&&str> = keepers.iter().collect();
                prop_assert_eq!(others.len(), keepers.len(), "twice in one process");
                prop_assert_eq!(keepers.len(), replicas.min(threads.len() - 1));
                prop_assert!(!keepers.contains(&member.process.as_str()), "beside the active one");
                for keeper in keepers {
                    for (process, count) in &counts {
                        let free = *process != member.process && !keepers.contains(process);
                        prop_assert!(!free || count + 2 > counts[keeper], "{} has {}, {} has {}", keeper, counts[keeper], process, count);
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_members_are_told_plays_no_part(
        threads in prop::collection::vec(1usize..4, 1..6),
        tasks in 0i32..30,
        replicas in 1usize..3,
        seed in any::<u64>(),
    ) {
        let members = group(&threads, tasks);
        let mut turned = members.clone();
        let by = seed as usize % turned.len();
        turned.rotate_left(by);
        turned.reverse();
        prop_assert_eq!(place(&members, replicas), place(&turned, replicas));
    }

    /// What a process that goes leaves behind must be placed anew: its standbys, and those of the tasks that it had. Of
    /// three, most others stay. (Of more, many move: the group's order of succession turns, and a standby goes with it.)
    #[test]
    fn when_one_of_three_processes_goes_most_other_standbys_stay_where_they_are(tasks_each in 2i32..12, lost in 0usize..3) {
        let members = group(&[1; 3], tasks_each * 3);
        let lost = format!("worker-{lost}");
        let left = after_losing(&members, &lost);
        let (before, after) = (place(&members, 1), place(&left, 1));
        let owned_by_lost = &members.iter().find(|member| member.process == lost).expect("one of them").tasks;
        let untouched = before.iter().filter(|(task, keepers)| !owned_by_lost.contains(task) && keepers[0] != lost);
        let (mut stayed, mut moved) = (0, 0);
        for (task, keepers) in untouched {
            if after[task] == *keepers { stayed += 1 } else { moved += 1 }
        }
        prop_assert!(moved <= stayed, "{moved} moved, {stayed} stayed: {before:?} {after:?}");
    }
}
