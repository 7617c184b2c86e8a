//! A process, known by its id and the time of its start, so that an id that was used again is not
//! mistaken for it.

use std::{fs, path::Path, time::Duration};

use rustix::process::{
    Pid, Signal, getpid, kill_process, kill_process_group, test_kill_process_group,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// How long shims may take to end what they run when their conductor is gone.
const SHIM_GRACE: Duration = Duration::from_secs(2);

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Conductor {
    pid: i32,
    /// In ticks since the machine started.
    start: u64,
}

impl Conductor {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = getpid().as_raw_nonzero().get();
        Self {
            pid,
            start: start_time(pid).unwrap_or(0),
        }
    }

    /// The process that has this id now.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        Some(Self {
            pid,
            start: start_time(pid)?,
        })
    }

    /// The conductor that was started for `directory`, by its command line.
    pub(super) fn find(directory: &Path) -> Option<Self> {
        let wanted = directory.as_os_str().as_encoded_bytes();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|byte| *byte == 0).collect();
            let is_it = words
                .windows(3)
                .any(|w| w == [b"conductor".as_slice(), b"--sandbox", wanted]);
            if is_it {
                return Self::of(pid);
            }
        }
        None
    }

    /// Whether it still runs.
    pub(super) fn runs(self) -> bool {
        start_time(self.pid) == Some(self.start)
    }

    /// Waits for its end. It may be no child of this process, so there is nothing to wait on.
    pub(super) async fn ended(self) {
        while self.runs() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks it and its children to end.
    pub(super) fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends it and its children. Its shims see that it is gone and end what they run, which may
    /// have left the group; only who of the group is still there after that is killed.
    pub(super) async fn kill(self) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.runs()) else {
            return;
        };
        note(self.pid, kill_process(pid, Signal::KILL));
        let end = Instant::now() + SHIM_GRACE;
        // As long as the group was never seen empty its id can not have gone to another one.
        while test_kill_process_group(pid).is_ok() {
            if Instant::now() >= end {
                return note(self.pid, kill_process_group(pid, Signal::KILL));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.runs()) else {
            return;
        };
        note(self.pid, kill_process_group(pid, signal));
    }
}

fn note(pid: i32, signalled: rustix::io::Result<()>) {
    if let Err(error) = signalled {
        tracing::debug!(pid, %error, "cannot signal a conductor");
    }
}

/// When a process started; none when it is gone or only waits to be collected.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_start_time(&stat)
}

/// The name in parentheses may hold anything, so begin behind the last one.
fn parse_start_time(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse_start_time(stat), Some(4711));
        assert_eq!(parse_start_time(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn this_process_runs_and_another_with_its_id_does_not() {
        let this = Conductor::this();
        assert!(this.runs());
        let other = Conductor {
            start: this.start + 1,
            ..this
        };
        assert!(!other.runs());
    }
}
