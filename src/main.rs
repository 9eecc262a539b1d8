//! The program. Its allocator is mimalloc, librdkafka's too (`override`): a record is allocated by the thread that reads
//! from the broker and freed by the one that applies it, and glibc spends a tenth of a worker's CPU time on it
//! (`scripts/bench.sh worker`).

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    driftless::cli::main()
}
