//! A command's code waits where it stands, so it runs in a thread of its own: but only while the world waits for it, and
//! the world only while it does. So there is one history of both, the same with each run.

use crate::testing::random::SplitMix64;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a call takes time, in percent, and how much at most.
const TAKES_TIME_PERCENT: usize = 20;
const CALL_MS_MAX: u64 = 12;

enum Wish<T> {
    GoOnIn(Duration),
    Ended(T),
}

struct Seat {
    turns: Receiver<()>,
    give_back: Box<dyn FnMut(Duration) + Send>,
    random: SplitMix64,
    left: u64,
}

/// The command's end. A cheap handle, for each of its ports.
#[derive(Clone)]
pub(super) struct Baton {
    seat: Arc<Mutex<Seat>>,
    killed: Arc<AtomicBool>,
    immortal: Arc<AtomicBool>,
}

impl Baton {
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    pub fn killed(&self) -> &AtomicBool {
        &self.killed
    }

    /// The world goes on for so long; or the process is killed here, and everything that it still does is in vain.
    pub fn pass(&self, span: Duration) {
        if self.is_killed() {
            return;
        }
        let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
        if seat.left == 0 && !self.immortal.load(Ordering::Relaxed) {
            self.killed.store(true, Ordering::Relaxed);
            return;
        }
        seat.left = seat.left.saturating_sub(1);
        (seat.give_back)(span.max(Duration::from_millis(1)));
        if seat.turns.recv().is_err() {
            self.killed.store(true, Ordering::Relaxed);
        }
    }

    /// Now and then a call takes its time.
    pub fn call(&self) {
        let span = {
            let mut seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
            let takes_time = seat.random.percent(TAKES_TIME_PERCENT);
            takes_time.then(|| Duration::from_millis(seat.random.between(1, CALL_MS_MAX)))
        };
        if let Some(span) = span {
            self.pass(span);
        }
    }
}

/// The world's end: a process that is under way.
pub(super) struct Process<T> {
    turns: Option<Sender<()>>,
    wishes: Receiver<Wish<T>>,
    thread: Option<JoinHandle<()>>,
    killed: Arc<AtomicBool>,
    immortal: Arc<AtomicBool>,
    pub due: Duration,
}

impl<T: Send + 'static> Process<T> {
    /// `lives`: it is killed when it has waited so often.
    pub fn start(
        lives: Option<u64>,
        random: SplitMix64,
        now: Duration,
        command: impl FnOnce(&Baton) -> T + Send + 'static,
    ) -> Self {
        let (turns, turns_taken) = channel();
        let (wishes, wishes_heard) = channel();
        let wish = wishes.clone();
        // A world that has ended hears nothing any more.
        let give_back = Box::new(move |span| _ = wish.send(Wish::GoOnIn(span)));
        let killed = Arc::new(AtomicBool::new(false));
        let immortal = Arc::new(AtomicBool::new(lives.is_none()));
        let seat = Seat { turns: turns_taken, give_back, random, left: lives.unwrap_or(0) };
        let baton = Baton { seat: Arc::new(Mutex::new(seat)), killed: killed.clone(), immortal: immortal.clone() };
        let thread = thread::spawn(move || {
            let begins = baton.seat.lock().unwrap_or_else(PoisonError::into_inner).turns.recv().is_ok();
            if begins {
                let ended = command(&baton);
                _ = wishes.send(Wish::Ended(ended));
            }
        });
        Self { turns: Some(turns), wishes: wishes_heard, thread: Some(thread), killed, immortal, due: now }
    }

    pub fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// From here on nothing kills it.
    pub fn spare(&self) {
        self.immortal.store(true, Ordering::Relaxed);
    }

    /// Its turn. Answers with what it ended with, if it has.
    pub fn step(&mut self, now: Duration) -> Option<T> {
        let given = self.turns.as_ref().is_some_and(|turns| turns.send(()).is_ok());
        match self.wishes.recv() {
            Ok(Wish::GoOnIn(span)) if given => {
                self.due = now + span;
                None
            }
            Ok(Wish::Ended(ended)) => Some(ended),
            _ => self.fail(),
        }
    }

    /// It has panicked, and so does the world.
    fn fail(&mut self) -> Option<T> {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            panic::resume_unwind(panic);
        }
        None
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        // Without turns it is killed at its next wait.
        self.turns = None;
        if let Some(thread) = self.thread.take() {
            // A panic in its last moments says nothing that was not said.
            _ = thread.join();
        }
    }
}
