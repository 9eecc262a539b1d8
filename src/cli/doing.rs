//! A long command as a person sees it: the line that says how far it is, and Ctrl-C.

use crate::adapter::system::{CtrlC, SystemClock};
use crate::base::error::{Error, Result};
use crate::ops::work::{Told, Work};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a line is written where lines stay.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Listens to Ctrl-C as long as it is there.
pub struct Doing {
    clock: SystemClock,
    interrupted: Arc<AtomicBool>,
    _ctrl_c: CtrlC,
}

impl Doing {
    pub fn begin() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let (flag, caller) = (interrupted.clone(), std::thread::current());
        let ctrl_c = CtrlC::listen(move || {
            flag.store(true, Ordering::Relaxed);
            caller.unpark();
        });
        let _ctrl_c = ctrl_c.map_err(|error| Error::fatal(format!("Ctrl-C cannot be listened to: {error}")))?;
        Ok(Self { clock: SystemClock::start(), interrupted, _ctrl_c })
    }

    /// Does the work with the progress line. None: it was interrupted, and the line says so.
    pub fn run<T>(&mut self, act: impl FnOnce(&mut Work<'_>) -> Result<T>) -> Result<Option<T>> {
        let mut line = Line::default();
        let mut tell = |told| line.tell(told);
        let mut pause = |span| std::thread::park_timeout(span);
        let outcome = act(&mut Work::new(&self.clock, &self.interrupted, &mut tell, &mut pause));
        line.clear();
        match outcome {
            Err(error) if self.interrupted.load(Ordering::Relaxed) => {
                eprintln!("driftless: {error}");
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }
}

/// The line at the bottom of standard error: rewritten on a terminal, now and then a new one elsewhere.
#[derive(Default)]
struct Line {
    written: bool,
    last: Option<Instant>,
}

impl Line {
    fn tell(&mut self, told: Told) {
        let terminal = std::io::stderr().is_terminal();
        match told {
            Told::Pace(pace) => self.passing(terminal, &pace.to_string()),
            Told::Waiting(what) => self.passing(terminal, &what),
            // Of a stage that took no time nobody needs to hear where lines stay.
            Told::Ended(pace) if terminal || pace.elapsed >= Duration::from_secs(1) => self.lasting(&pace.to_string()),
            Told::Ended(_) => {}
            Told::Note(text) => self.lasting(&text),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "how often a line is printed, at the rim")]
    fn passing(&mut self, terminal: bool, text: &str) {
        if terminal {
            eprint!("\r\x1b[K{text}");
            self.written = true;
        } else if self.last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            eprintln!("{text}");
            self.last = Some(Instant::now());
        }
    }

    fn lasting(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.written) {
            eprint!("\r\x1b[K");
        }
    }
}
