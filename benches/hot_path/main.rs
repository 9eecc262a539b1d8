//! Wall time of the hot path, operation by operation: `cargo bench`, or `cargo bench -- task` for those that are named so.
//! Rates are records a second on one core, memory to memory.
#![allow(clippy::disallowed_methods, reason = "a measurement asks the clock")]

mod changes;
mod operations;
mod steady_task;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use operations::{OPERATIONS, RECORDS};
use std::time::{Duration, Instant};

fn hot_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot_path");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (name, make) in OPERATIONS {
        group.bench_function(*name, |bencher| {
            let mut operation = make();
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    operation.prepare();
                    let begin = Instant::now();
                    operation.run();
                    took += begin.elapsed();
                }
                took
            });
            operation.check();
        });
    }
    group.finish();
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
