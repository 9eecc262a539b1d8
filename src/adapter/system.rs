//! The machine's own clocks, and its user's wish to end.

use crate::base::time::{Clock, Now, UnixMs};
use std::io;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Wall time as the system has it, monotonic time since this clock was made. Copies agree with each other.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // A wall clock before 1970 reads as 1970: no stamp made of it is admitted anywhere.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall: UnixMs(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)), monotonic: self.started.elapsed() }
    }
}

/// While it lives, Ctrl-C (SIGINT) calls what was given instead of ending the process.
pub struct CtrlC {
    _ends_when_dropped: oneshot::Sender<()>,
}

impl CtrlC {
    /// `act` runs on a thread of its own, once per signal.
    pub fn listen(act: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (sender, mut dropped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listen = async move {
            loop {
                tokio::select! {
                    _ = &mut dropped => return,
                    signal = tokio::signal::ctrl_c() => match signal {
                        Ok(()) => act(),
                        Err(error) => return tracing::warn!("Ctrl-C can't be listened to: {error}"),
                    },
                }
            }
        };
        thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || runtime.block_on(listen))?;
        Ok(Self { _ends_when_dropped: sender })
    }
}
