//! Waiting for children: all of them, known or not, so that no zombie stays.

use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    fn of(status: WaitStatus) -> Option<Self> {
        let code = status.exit_status().map(Self::Code);
        code.or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

/// Waits for children.
#[derive(Debug)]
pub(crate) struct Reaper(Signal);

impl Reaper {
    /// Must be made before the first child is started.
    pub(crate) fn new() -> io::Result<Self> {
        signal(SignalKind::child()).map(Self)
    }

    /// Waits until children may have ended. Nothing is lost when the future is dropped.
    pub(crate) async fn woken(&mut self) {
        self.0.recv().await;
    }
}

/// All children that have ended since the last call.
pub(crate) fn take() -> Vec<(Pid, Ended)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        ended.extend(Ended::of(status).map(|how| (pid, how)));
    }
    ended
}
