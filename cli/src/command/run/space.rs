//! The disk below the data of this machine: a run that can keep nothing waits until there is room,
//! and the user is told so.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::terminal::measure;

/// With fewer bytes than this the disk counts as full: the log of a run is kept in larger steps.
const FULL: u64 = 2 * 1024 * 1024;
/// Between two looks at the disk.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was last said about the disk below a folder.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    full: bool,
    next: Instant,
}

impl Space {
    /// Nothing is said as yet.
    pub(super) const fn new(folder: PathBuf, now: Instant) -> Self {
        Self {
            folder,
            full: false,
            next: now,
        }
    }

    /// Looks at the disk when it is time to; returns what there is to tell.
    pub(super) fn look(&mut self, now: Instant) -> Option<String> {
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        let disk = rustix::fs::statvfs(&self.folder).ok()?;
        self.judge(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn judge(&mut self, available: u64) -> Option<String> {
        let full = available < FULL;
        if std::mem::replace(&mut self.full, full) == full {
            return None;
        }
        let folder = self.folder.display();
        Some(match full {
            true => format!(
                "the disk that holds {folder} is full ({} are left): log and results can not be kept; the run waits until there is room",
                measure::size(i64::try_from(available).unwrap_or(i64::MAX))
            ),
            false => format!("there is room again on the disk that holds {folder}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_once_and_its_end_too() {
        let mut space = Space::new(PathBuf::from("/data"), Instant::now());
        assert_eq!(space.judge(FULL), None);
        let told = space.judge(0).expect("it is told");
        assert!(told.contains("/data is full"), "{told}");
        assert_eq!(space.judge(1), None);
        let told = space.judge(FULL).expect("it is told");
        assert!(told.contains("room again"), "{told}");
        assert_eq!(space.judge(FULL), None);
    }

    #[test]
    fn the_disk_is_not_asked_at_every_tick() {
        let now = Instant::now();
        let mut space = Space::new(PathBuf::from("/"), now);
        space.look(now);
        assert_eq!(space.next, now + INTERVAL);
        space.look(now + INTERVAL / 2);
        assert_eq!(space.next, now + INTERVAL);
    }
}
