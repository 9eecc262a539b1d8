#!/usr/bin/env python3
"""Plants bugs, one at a time, and expects the simulator to find each within 1 000 seeds.

usage: scripts/mutants.py [--only WORD …] [--list]

Each is a change of one place of the engine, in a copy of this tree, built apart. Prints the seed that finds it and the
check that broke. Exit code: 0 all found, 1 one was not, or does not apply any more. Long: a build for each.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "driftless"
SEEDS = 1000

# Name, file, what stands there, what is put in its place; and the scenario that finds it where the swarm seldom
# brings together what it takes.
MUTANTS = [
    ("offset settled before the ack", "src/task/stream_task/effects.rs",
     "        self.hold_open(ticket);\n        let item = Item {", "        let item = Item {"),
    ("a lost reply taken for an ack (mark durable early)", "src/task/lane.rs",
     "            StoreError::Ambiguous(_) => {\n                self.wait(batch, now);\n                Some(Settled::Retrying { suspects: true })",
     "            StoreError::Ambiguous(_) => {\n                Some(Settled::Acknowledged { items: batch.items, took: now.since(since) })"),
    ("last instead of greatest on restore", "src/store/memory.rs",
     "            entry.version.hlc <= held.hlc() && entry", "            entry.vector_offset < 0 && entry.version.hlc <= held.hlc() && entry"),
    ("ties broken by arrival", "src/merge/lww.rs",
     "    match change.cmp(holder) {",
     "    match if change == holder { change.cmp(holder) } else { change.hlc.cmp(&holder.hlc).then(std::cmp::Ordering::Greater) } {"),
    ("tombstones dropped by the clock", "src/task/stream_task/commit.rs",
     "        let Some(floor) = self.committing.floor else { return };\n        // What may",
     "        let floor = Hlc::at(UnixMs(now.wall.0 - 5_000));\n        // What may"),
    ("a gap in time not noticed (epoch not checked)", "src/stream/stream_thread.rs",
     "if let Some(gap) = gap.filter(|gap| *gap > self.settings.pause_max) {",
     "if let Some(gap) = gap.filter(|gap| *gap > self.settings.pause_max * 1_000) {"),
    ("admission by a clock of the region", "src/processor/admit.rs",
     "inadmissible(change.lateness_ms(), context.task.max_lateness_ms)",
     "inadmissible(change.lateness_ms() + 3_000 * i64::from(context.task.region.as_str() == \"us\"), context.task.max_lateness_ms)"),
    ("two batches under way", "src/task/lane.rs",
     "            State::Idle => self.seal(items, now, draining)?,\n            busy => {",
     "            State::Idle => self.seal(items, now, draining)?,\n            State::InFlight { batch, since } if now.since(since) > Duration::from_millis(3) => batch,\n            busy => {"),
    ("heartbeats in the wrong partition", "src/task/stream_task/heartbeats.rs",
     "            &self.topics.local.clone(),\n            Some(key.into()),",
     "            &crate::base::ids::TopicPartition::new(self.topics.local.topic.clone(), 0),\n            Some(key.into()),"),
    ("a restore that ends by the last offset", "src/stream/tail.rs",
     "        self.position = next.min(end);",
     "        self.position = records.last().map_or(self.position, |record| (record.offset + 1).min(end)).min(next);"),
    ("no entry for winners over another origin", "src/task/stream_task/answers.rs",
     "                self.append_entry(token.id, commands);\n            }\n            Purpose::Entry",
     "                let item = self.items.get(token.id);\n                let over_another = self.store.get(&item.key).is_some_and(|held| held.version.origin != item.version().origin);\n                if over_another { self.finish(token.id) } else { self.append_entry(token.id, commands) }\n            }\n            Purpose::Entry"),
    ("a full buffer that drops", "src/task/stream_task.rs",
     "        self.metrics.polled(source);\n        self.group.push(source, record);",
     "        self.metrics.polled(source);\n        if !self.group.is_full(source) {\n            self.group.push(source, record);\n        }"),
    ("the floor not asked", "src/processor/lww_merge.rs",
     "change.version.hlc < floor);", "change.version.hlc.0 < floor.0 / 2);", "tests/scenarios/forgotten.toml"),
    ("the safety window not asserted again", "src/task/reassert.rs",
     "        self.window = Some((from, due));", "        self.window = Some((from, due)).filter(|_| from < 0);"),
    ("suspects not read back", "src/task/reassert.rs",
     "        let id = (due, self.suspicions);\n        self.suspects.insert(id, suspicion);",
     "        let id = (due, self.suspicions);\n        drop(suspicion);"),
    ("zombies' entries not answered", "src/task/stream_task/repair.rs",
     "        if offset > expected {", "        if offset > expected && offset < 0 {"),
    ("the scrubber deletes rows above the floor", "src/task/stream_task/scrub.rs",
     "self.would_know(version) && !scrub::may_still_come(version.hlc, self.floor(), now)", "self.would_know(version) && now.wall.0 > 0",
     "tests/scenarios/scrub.toml"),
    ("the scrubber takes what it never heard of for nobody's", "src/task/stream_task/scrub.rs",
     "        told && self.completeness.is_whole()", "        (told || !self.draining) && self.completeness.is_whole()",
     "tests/scenarios/scrub.toml"),
    ("the scrubber compares without the sequence", "src/task/scrub.rs",
     "        Some(version) if *version == entry.version => Finding::Same,",
     "        Some(version) if (version.hlc, &version.origin) == (entry.version.hlc, &entry.version.origin) => Finding::Same,"),
    ("the scrubber does not notice missing rows", "src/task/scrub.rs",
     "return if entry.tombstone { Finding::Same } else { Finding::Missing };", "return Finding::Same;"),
    ("a standby promoted without reading to the end", "src/stream/restore.rs",
     "        self.state = State::Reading(Reading { tail, end: bounds.end, partitions, begun });",
     "        let end = if begun.from_standby { tail.position() } else { bounds.end };\n        self.state = State::Reading(Reading { tail, end, partitions, begun });"),
    ("a chunk's records beyond the end passed over", "src/stream/tail.rs",
     "        self.position = next.min(end);", "        self.position = next;"),
    ("the clock of an origin's log believed", "src/task/skew.rs",
     "{ 0 } else { self.middle_ms() }", "{ 0 } else { 0 }"),
    ("the entry before the vector's place is known", "src/task/stream_task/answers.rs",
     "                    entry.vector_offset = offset;", "                    entry.vector_offset = offset - 1;"),
    ("a rebuild does not follow past the swap", "src/ops/rebuild.rs",
     "            follower.follow_past(history, self.patience, work)?;\n", "", "tests/scenarios/rebuild.toml"),
    ("a rebuild goes on where it was when the alias turns back", "src/ops/rebuild.rs",
     "            follower.positions.clone_from(&begin);\n        }\n    }", "            let _ = &begin;\n        }\n    }",
     "tests/scenarios/rebuild.toml"),
    ("a rebuild does not ask what the alias reaches", "src/ops/rebuild.rs",
     "} else if self.admin.reaches(&spec.name, new)? {", "} else if self.admin.reaches(&spec.name, new)? || true {",
     "tests/scenarios/rebuild.toml"),
    ("a rebuild takes what was not answered for not done", "src/ops/rebuild/writer.rs",
     "if matches!(error, StoreError::Ambiguous(_)) {", "if matches!(error, StoreError::Refused(_)) {",
     "tests/scenarios/rebuild.toml"),
    ("a roll-back writes rows that are as they were", "src/ops/rollback/decide.rs",
     "target if digest(target.as_ref()) == digest(Some(newest)) => Decision::Nothing,",
     "target if digest(target.as_ref()) == digest(Some(newest)) && target.is_none() => Decision::Nothing,",
     "tests/scenarios/rollback.toml"),
    ("a roll-back takes the last instead of the greatest", "src/ops/rollback/decide.rs",
     "if is_target && is_greater(&point, self.target.as_ref()) {", "if is_target {", "tests/scenarios/rollback.toml"),
    ("a roll-back undoes what other origins wrote", "src/ops/rollback.rs",
     "self.origin.as_ref().is_none_or(|origin| *origin == version.origin)\n    }\n\n    fn undoes",
     "self.origin.as_ref().is_none_or(|_| version.sequence > 0)\n    }\n\n    fn undoes", "tests/scenarios/rollback.toml"),
    ("a roll-back does not wait for what is under way", "src/ops/rollback.rs",
     "Ok(frontier_passed(setting, followed, past_r)))?;",
     "Ok(frontier_passed(setting, followed, past_r).filter(|_| false)))?;", "tests/scenarios/rollback.toml"),
]


def say(text):
    print(text, flush=True)


def apply(tree, mutant):
    """Answers why it can't be applied, or None."""
    name, file, old, new = mutant[:4]
    path = tree / file
    text = path.read_text()
    if text.count(old) != 1:
        return f"{file} holds its place {text.count(old)} times: mend the list in scripts/mutants.py"
    path.write_text(text.replace(old, new))
    return None


def build(tree, target):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target), CARGO_PROFILE_DEV_OPT_LEVEL="1")
    done = subprocess.run(["cargo", "build", "--locked", "--bin", "driftless"], cwd=tree, env=environment,
                          capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr[-2000:]


def hunt(tree, target, scenario):
    """Seed and check that found it, and the seeds that it took; None if none did."""
    command = [str(target / "debug" / "driftless"), "sim", "--json", "--no-shrink", "--seeds", str(SEEDS)]
    command += [f"--scenario={file}" for file in scenario]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    report = json.loads(done.stdout)
    if done.returncode != 3:
        return None
    outcome = report["failures"][0]["outcome"]
    violation = outcome["violations"][0]
    return outcome["seed"], f"{violation['check']}: {violation['detail'][:90]}", report["seeds"]


def main():
    words = sys.argv[1:]
    if "-h" in words or "--help" in words:
        say(__doc__.strip())
        return 0
    if "--list" in words:
        for mutant in MUTANTS:
            say(mutant[0])
        return 0
    only = words[words.index("--only") + 1:] if "--only" in words else [""]
    target = Path(os.environ.get("DRIFTLESS_MUTANTS_TARGET", CACHE / "mutants"))
    missed = 0
    with tempfile.TemporaryDirectory(prefix="driftless-mutants-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), "HEAD"], cwd=ROOT, check=True)
        try:
            for mutant in (mutant for mutant in MUTANTS if any(word in mutant[0] for word in only)):
                began = time.monotonic()
                subprocess.run(["git", "checkout", "--quiet", "."], cwd=tree, check=True)
                problem = apply(tree, mutant) or build(tree, target)
                found = None if problem else hunt(tree, target, mutant[4:])
                missed += found is None
                seconds = time.monotonic() - began
                if found:
                    say(f"ok - {mutant[0]}: seed {found[0]} ({found[2]} run, {seconds:.0f} s), {found[1]}")
                else:
                    say(f"not ok - {mutant[0]}: {problem or f'not found in {SEEDS} seeds'}")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
