//! Whether what is written arrives: what the object store said last, kept for those who wait for it, and
//! told in the log once in a while.
//!
//! Who reads is told by the answer; that is not counted here.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{Error, error::Away};

/// How often it is told while it lasts.
const TELL: Duration = Duration::from_secs(60);
/// How long a failure counts when nothing was written since: who waits tries again long before.
const FRESH: Duration = Duration::from_secs(120);

/// Why nothing can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What the object store does.
    pub why: Away,
    /// For how long.
    pub lasts: Duration,
}

/// What is known from the last write.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Failing>>);

#[derive(Debug, Clone, Copy)]
struct Failing {
    why: Away,
    since: Instant,
    last: Instant,
    told: Instant,
}

impl Health {
    /// Takes note of how a write ended.
    pub(super) fn note<T>(&self, place: &str, written: Result<T, Error>) -> Result<T, Error> {
        match &written {
            Ok(_) => self.well(place),
            Err(Error::StoreAway { why, source, .. }) => {
                if self.failed(*why, Instant::now()) {
                    tracing::warn!(place, error = %source, "{why}: logs and artifacts wait for it");
                }
            }
            Err(_) => {}
        }
        written
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        let failing = *self.lock();
        let failing = failing.filter(|it| it.last.elapsed() < FRESH)?;
        Some(Trouble {
            why: failing.why,
            lasts: failing.since.elapsed(),
        })
    }

    fn well(&self, place: &str) {
        let failing = self.lock().take();
        if let Some(failing) = failing {
            let seconds = failing.since.elapsed().as_secs();
            tracing::info!(
                place,
                seconds,
                "the object store takes what is written again"
            );
        }
    }

    /// Takes note of a failure; whether it is to be told.
    fn failed(&self, why: Away, now: Instant) -> bool {
        let mut known = self.lock();
        // What failed long ago, with nothing written since, is another matter.
        if known.is_some_and(|failing| now.duration_since(failing.last) >= FRESH) {
            *known = None;
        }
        match known.as_mut().filter(|failing| failing.why == why) {
            Some(failing) => {
                failing.last = now;
                let tell = now.duration_since(failing.told) >= TELL;
                if tell {
                    failing.told = now;
                }
                tell
            }
            None => {
                let since = known.map_or(now, |failing| failing.since);
                let (last, told) = (now, now);
                *known = Some(Failing {
                    why,
                    since,
                    last,
                    told,
                });
                true
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(why: Away) -> Result<(), Error> {
        Err(Error::StoreAway {
            operation: "put_blob",
            why,
            source: "503 Slow Down".into(),
        })
    }

    #[test]
    fn a_failure_lasts_until_something_is_written() {
        let health = Health::default();
        assert_eq!(health.trouble(), None);
        for why in [Away::Unreachable, Away::Refusing] {
            health.note("s3://b", away(why)).expect_err("it is kept");
            assert_eq!(health.trouble().map(|it| it.why), Some(why));
        }
        let refused = Error::invalid("key", "is none");
        let refused = health.note::<()>("s3://b", Err(refused));
        refused.expect_err("it is no matter of the store");
        assert!(health.trouble().is_some());
        health.note("s3://b", Ok(())).expect("it is kept");
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn it_is_told_once_a_minute() {
        let health = Health::default();
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(health.failed(Away::Unreachable, begin));
        assert!(!health.failed(Away::Unreachable, after(59)));
        assert!(health.failed(Away::Unreachable, after(60)));
        assert!(!health.failed(Away::Unreachable, after(61)));
        assert!(health.failed(Away::Refusing, after(62)), "that is news");
        let since = || health.lock().expect("it fails").since;
        assert_eq!(since(), begin);
        assert!(health.failed(Away::Refusing, after(500)));
        assert_eq!(since(), after(500), "another failure, long after");
    }
}
