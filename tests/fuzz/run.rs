//! The loop: make an input, run the target's body on it, keep it if its verdict is of a new kind.
//!
//! There is no coverage to go by on the stable toolchain, so the verdict's kind stands in for it: which reason,
//! which fault, which shape of value. Equal seeds make equal runs.

use crate::mutate::mutate;
use driftless::adapter::system::SystemClock;
use driftless::base::time::Clock;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

/// Inputs kept for being of a new kind.
const KEPT_MAX: usize = 4_096;
/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(20);

/// What a body found of an input. It panics where it found something that may not be.
pub struct Verdict {
    pub accepted: bool,
    /// Tells verdicts of different kinds apart.
    pub kind: u64,
    /// The most that the code under test held at once.
    pub bytes: usize,
}

impl Verdict {
    /// `kind` in words; digits and what stands in quotes do not make another kind.
    pub fn new(accepted: bool, kind: &str, bytes: usize) -> Self {
        let mut quoted = false;
        let mut bare = Vec::new();
        for byte in kind.bytes() {
            quoted ^= matches!(byte, b'"' | b'`');
            if !quoted && !byte.is_ascii_digit() {
                bare.push(byte);
            }
        }
        Self { accepted, kind: xxhash_rust::xxh3::xxh3_64(&bare), bytes }
    }
}

pub struct Target {
    pub name: &'static str,
    /// Makes a good input.
    pub good: fn(&mut SmallRng) -> Vec<u8>,
    /// What its inputs are made of, to be put where it does not belong.
    pub words: &'static [&'static [u8]],
    pub body: fn(&[u8]) -> Verdict,
    /// The most that the code under test may hold for an input: so much, and so much for each of its bytes.
    pub bytes_max: (usize, usize),
}

#[derive(Clone, Copy)]
pub enum Budget {
    Executions(u64),
    Time(Duration),
}

#[derive(Default)]
pub struct Figures {
    pub executions: u64,
    pub accepted: u64,
    /// Inputs as they were made, undamaged, and how many of them were accepted.
    pub good: u64,
    pub good_accepted: u64,
    pub kinds: usize,
    pub bytes_peak: usize,
    /// The most bytes held for each byte of an input, beyond the allowance that any input has.
    pub bytes_per_byte: usize,
    pub elapsed: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { executions, accepted, kinds, bytes_peak, bytes_per_byte, elapsed, .. } = self;
        let (refused, seconds) = (executions - accepted, elapsed.as_secs_f64());
        let rate = *executions as f64 / seconds.max(0.001);
        write!(f, "{executions} executions in {seconds:.1} s ({rate:.0}/s), {accepted} accepted, {refused} refused, ")?;
        write!(f, "{kinds} kinds of verdict, at most {bytes_peak} bytes held ({bytes_per_byte} for each of the input's)")
    }
}

/// Runs the target; panics with what it found, and leaves the input in a file.
pub fn run(target: &Target, seed: u64, budget: Budget) -> Figures {
    listen_to_panics();
    let clock = SystemClock::start();
    let watch = Watch::start(target.name, seed);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut kinds, mut kept) = (HashSet::new(), Vec::<Vec<u8>>::new());
    let mut figures = Figures::default();
    loop {
        let is_over = match budget {
            Budget::Executions(count) => figures.executions >= count,
            Budget::Time(span) => figures.executions.is_multiple_of(64) && clock.now().monotonic >= span,
        };
        if is_over {
            break;
        }
        let mut input = if kept.is_empty() || rng.random() { (target.good)(&mut rng) } else { pick(&mut rng, &kept) };
        let is_good = rng.random_range(0..8) == 0;
        if is_good {
            input = (target.good)(&mut rng);
        } else {
            let other = if kept.is_empty() || rng.random() { (target.good)(&mut rng) } else { pick(&mut rng, &kept) };
            mutate(&mut rng, &mut input, &other, target.words);
        }
        watch.begin(&input);
        let verdict = attempt(target, &input).unwrap_or_else(|finding| report(target, seed, &figures, &input, &finding));
        figures.executions += 1;
        figures.accepted += u64::from(verdict.accepted);
        figures.good += u64::from(is_good);
        figures.good_accepted += u64::from(is_good && verdict.accepted);
        figures.bytes_peak = figures.bytes_peak.max(verdict.bytes);
        let beyond = verdict.bytes.saturating_sub(target.bytes_max.0);
        figures.bytes_per_byte = figures.bytes_per_byte.max(beyond / input.len().max(1));
        if kinds.insert(verdict.kind) && kept.len() < KEPT_MAX {
            kept.push(input);
        }
    }
    (figures.kinds, figures.elapsed) = (kinds.len(), clock.now().monotonic);
    figures
}

fn pick(rng: &mut SmallRng, kept: &[Vec<u8>]) -> Vec<u8> {
    kept[rng.random_range(0..kept.len())].clone()
}

/// One input; the finding in words if there is one.
pub fn attempt(target: &Target, input: &[u8]) -> Result<Verdict, String> {
    UNDER_TEST.set(true);
    let done = catch_unwind(AssertUnwindSafe(|| (target.body)(input)));
    UNDER_TEST.set(false);
    let verdict = done.map_err(|_| LAST_PANIC.take())?;
    let (base, per_byte) = target.bytes_max;
    let allowed = base + per_byte * input.len();
    if verdict.bytes > allowed {
        return Err(format!("held {} bytes for an input of {}, at most {allowed} are allowed", verdict.bytes, input.len()));
    }
    Ok(verdict)
}

fn report(target: &Target, seed: u64, figures: &Figures, input: &[u8], finding: &str) -> ! {
    let smaller = shrink(target, input.to_vec());
    let file = save(target.name, seed, &smaller);
    let shown = String::from_utf8_lossy(&smaller);
    panic!(
        "{}: {finding}\n  seed {seed}, after {} executions; the input, made smaller, is in {file}:\n  {shown:?}",
        target.name, figures.executions
    );
}

/// Takes pieces away for as long as something is found.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len() / 2;
    while length > 0 {
        let mut from = 0;
        while from < input.len() {
            let mut smaller = input.clone();
            smaller.drain(from..(from + length).min(input.len()));
            if attempt(target, &smaller).is_err() {
                input = smaller;
            } else {
                from += length;
            }
        }
        length /= 2;
    }
    input
}

fn save(name: &str, seed: u64, input: &[u8]) -> String {
    let file = format!("{}/fuzz-{name}-{seed}", env!("CARGO_TARGET_TMPDIR"));
    match std::fs::write(&file, input) {
        Ok(()) => file,
        Err(error) => format!("(not saved: {error})"),
    }
}

thread_local! {
    static UNDER_TEST: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic of a body is a finding, to be told once it has been made smaller; any other one is told as ever.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(
            move |panic| {
                if UNDER_TEST.get() { LAST_PANIC.set(panic.to_string()) } else { others(panic) }
            },
        ));
    });
}

/// Ends the process, with the input in a file, when one takes too long.
struct Watch {
    input: Arc<Mutex<Vec<u8>>>,
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: thread::Thread,
}

impl Watch {
    fn start(name: &'static str, seed: u64) -> Self {
        let (input, begun, ended) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (watched, count, over) = (input.clone(), begun.clone(), ended.clone());
        let handle = thread::spawn(move || {
            let mut last = count.load(Ordering::Relaxed);
            while !over.load(Ordering::Relaxed) {
                thread::park_timeout(HANG);
                let now = count.load(Ordering::Relaxed);
                if now == last && !over.load(Ordering::Relaxed) {
                    let file = save(name, seed, &watched.lock().expect("only written to"));
                    eprintln!("{name}: an input hangs; it is in {file}");
                    std::process::abort();
                }
                last = now;
            }
        });
        Self { input, begun, ended, thread: handle.thread().clone() }
    }

    fn begin(&self, input: &[u8]) {
        let mut held = self.input.lock().expect("only read from");
        held.clear();
        held.extend_from_slice(input);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}
