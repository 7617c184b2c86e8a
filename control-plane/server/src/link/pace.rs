//! How fast logs may come: a bucket for each project that has a limit, and one for each log. Who writes
//! faster is read from more slowly, and nobody else is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use muster_core::id::ProjectId;
use muster_storage::project::LogLimits;
use tokio::time::Instant;

/// Time whose bytes may come at once.
const BURST: Duration = Duration::from_secs(1);
/// Longest time for which nothing is read: shorter than any deadline of the link.
const LONGEST: Duration = Duration::from_secs(5);

/// Bytes that may still come, and a debt when more have come.
#[derive(Debug)]
struct Bucket {
    /// Bytes a second.
    rate: f64,
    left: f64,
    looked: Instant,
}

impl Bucket {
    fn new(rate: i64, now: Instant) -> Self {
        let rate = float(rate.max(1));
        Self {
            rate,
            left: rate * BURST.as_secs_f64(),
            looked: now,
        }
    }

    /// Takes note of bytes; returns how long nothing should be read.
    fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.looked).as_secs_f64();
        self.looked = now;
        let most = self.rate * BURST.as_secs_f64();
        self.left = (self.left + passed * self.rate).min(most);
        self.left -= float(i64::try_from(bytes).unwrap_or(i64::MAX));
        // No debt is older than the longest wait: who comes later does not pay for it.
        self.left = self.left.max(-self.rate * LONGEST.as_secs_f64());
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.left / self.rate).unwrap_or(LONGEST)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
const fn float(bytes: i64) -> f64 {
    bytes as f64
}

/// The buckets of projects.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<ProjectId, Arc<Mutex<Bucket>>>>);

impl Paces {
    /// The pace of one log.
    pub(super) fn of(&self, project: ProjectId, limits: LogLimits, now: Instant) -> Pace {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match limits.max_rate {
            None => {
                all.remove(&project);
                None
            }
            Some(rate) => {
                let known = all.entry(project);
                let bucket = known.or_insert_with(|| Arc::new(Mutex::new(Bucket::new(rate, now))));
                let mut inner = bucket.lock().unwrap_or_else(PoisonError::into_inner);
                inner.rate = float(rate.max(1));
                drop(inner);
                Some(Arc::clone(bucket))
            }
        };
        Pace {
            shared,
            own: limits.max_rate_each.map(|rate| Bucket::new(rate, now)),
        }
    }
}

/// The pace of one log.
#[derive(Debug)]
pub(crate) struct Pace {
    shared: Option<Arc<Mutex<Bucket>>>,
    own: Option<Bucket>,
}

impl Pace {
    /// Takes note of bytes; returns when more may be read, when that is not now.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut wait = Duration::ZERO;
        if let Some(own) = &mut self.own {
            wait = own.take(bytes, now);
        }
        if let Some(shared) = &self.shared {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            wait = wait.max(shared.take(bytes, now));
        }
        // To sleep for no time costs a millisecond.
        (!wait.is_zero()).then(|| now + wait.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_comes_in_a_second_is_what_is_allowed() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.take(1000, start), Duration::ZERO);
        assert_eq!(bucket.take(500, start), SECOND / 2);
        assert_eq!(bucket.take(1000, start + SECOND / 2), SECOND);
        // A long rest is worth one second of bytes, not more.
        let later = start + 100 * SECOND;
        assert_eq!(bucket.take(1000, later), Duration::ZERO);
        assert_eq!(bucket.take(1000, later), SECOND);
    }

    #[test]
    fn logs_of_a_project_share_its_rate_and_another_project_has_its_own() {
        let paces = Paces::default();
        let limits = LogLimits {
            max_rate: Some(1000),
            ..LogLimits::default()
        };
        let (one, other) = (ProjectId::generate(), ProjectId::generate());
        let now = Instant::now();
        let (mut first, mut second) = (paces.of(one, limits, now), paces.of(one, limits, now));
        assert_eq!(first.take(1000, now), None);
        assert_eq!(second.take(1000, now), Some(now + SECOND));
        assert_eq!(paces.of(other, limits, now).take(1000, now), None);
        let unlimited = paces
            .of(other, LogLimits::default(), now)
            .take(1 << 30, now);
        assert_eq!(unlimited, None);
    }
}
