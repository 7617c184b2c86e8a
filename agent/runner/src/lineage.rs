//! All processes below this one: finding, signalling and ending them.
//!
//! This process must be process 1 of its namespace or a subreaper, so that orphans come to it
//! and stay in its line. A process that entered the container by other means (`kubectl exec`)
//! is not in the line and is left alone.

use std::{collections::HashSet, fs, time::Duration};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// Most rounds of finding and killing: each sees what was forked during the one before.
const ROUNDS: u32 = 100;
/// Pause between rounds.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes orphans below this process its own children.
pub(crate) fn adopt_orphans() {
    if getpid() != Pid::INIT {
        rustix::process::set_child_subreaper(Some(getpid())).ok();
    }
}

/// All living processes below this one; `None` when `/proc` can not tell.
fn descendants() -> Option<Vec<Pid>> {
    let own = getpid();
    let shown = fs::read_link("/proc/self").ok()?;
    if shown.to_str()?.parse::<i32>().ok()? != own.as_raw_nonzero().get() {
        return None;
    }
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Ok(stat) = fs::read(entry.path().join("stat"))
            && let Some((parent, alive)) = parent(&stat)
        {
            all.push((pid, parent, alive));
        }
    }
    let mut found = vec![own.as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        next += 1;
        found.extend(all.iter().filter(|one| one.1 == above).map(|one| one.0));
    }
    let living = |pid: &&i32| all.iter().any(|one| one.0 == **pid && one.2);
    let below = found.iter().skip(1).filter(living);
    Some(below.filter_map(|pid| Pid::from_raw(*pid)).collect())
}

/// Parent, and whether it is more than a zombie, from `/proc/PID/stat`.
fn parent(stat: &[u8]) -> Option<(i32, bool)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((parent, !matches!(state, "Z" | "X")))
}

/// How many processes live below this one; 0 when nobody can tell.
pub(crate) fn count() -> usize {
    descendants().map_or(0, |found| found.len())
}

/// Sends a signal to all processes below this one, and to `group` where they can not be found.
pub(crate) fn signal(signal: Signal, group: Option<Pid>) {
    let Some(found) = descendants() else {
        signal_blindly(signal, group);
        return;
    };
    for pid in found {
        kill_process(pid, signal).ok();
    }
}

/// Stops all processes below this one, those that are forked meanwhile too: one that is stopped
/// forks no more.
pub(crate) fn stop(group: Option<Pid>) {
    let mut stopped = HashSet::new();
    for _ in 0..ROUNDS {
        let Some(found) = descendants() else {
            signal_blindly(Signal::STOP, group);
            return;
        };
        let before = stopped.len();
        for pid in found {
            if stopped.insert(pid) {
                kill_process(pid, Signal::STOP).ok();
            }
        }
        if stopped.len() == before {
            return;
        }
    }
}

fn signal_blindly(signal: Signal, group: Option<Pid>) {
    if getpid() == Pid::INIT {
        // `kill(-1)`: everything but this process.
        kill_process_group(Pid::INIT, signal).ok();
    } else if let Some(group) = group {
        kill_process_group(group, signal).ok();
    }
}

/// Kills all processes below this one until none is left, and says how many there were at
/// first. `reap` is called between the rounds: a killed child stays until it is waited for.
pub(crate) async fn kill_all(group: Option<Pid>, mut reap: impl FnMut()) -> usize {
    let before = count();
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            signal_blindly(Signal::KILL, group);
        }
        signal(Signal::KILL, group);
        reap();
        if count() == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_is_read_behind_names_with_spaces_and_parentheses() {
        assert_eq!(parent(b"7 (a) b (c) S 3 7 7 0"), Some((3, true)));
        assert_eq!(parent(b"7 (x) Z 1 7"), Some((1, false)));
        assert_eq!(parent(b"7 (x"), None);
        assert_eq!(parent(b""), None);
    }

    #[test]
    fn grandchildren_are_found() {
        let script = "sleep 30 & sleep 30 & wait";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        let pid = i32::try_from(child.id()).unwrap();
        while descendants().unwrap().len() < 3 {
            assert!(std::time::Instant::now() < end, "the children do not show");
        }
        let found = descendants().unwrap();
        assert!(found.contains(&Pid::from_raw(pid).unwrap()));
        for pid in found {
            kill_process(pid, Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }
}
