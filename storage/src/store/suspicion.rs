//! Doubt about pooled connections: after one was found broken, or may be in a transaction that nobody
//! knows of, all are tried before they are used, for a while. After a restart of the database all of
//! them are broken.
//!
//! The one connection of SQLite that writes is replaced after a fault: SQLite may have ended its
//! transaction by itself, which the connection does not know of, and then it begins no other one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the doubt lasts.
const LASTS: Duration = Duration::from_secs(10);

/// Shared by the pool and by those who find a broken connection.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    since: Instant,
    /// Milliseconds after `since` at which the doubt ends.
    until: Arc<AtomicU64>,
    /// The connection that writes has to be replaced.
    replace: Arc<AtomicBool>,
}

impl Suspicion {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            until: Arc::default(),
            replace: Arc::default(),
        }
    }

    /// A connection was broken, or may be in a transaction.
    pub(crate) fn raise(&self) {
        let until = self.since.elapsed() + LASTS;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }

    /// The connection that writes met a fault.
    pub(crate) fn replace_writer(&self) {
        self.replace.store(true, Ordering::Release);
    }

    /// Whether the connection that writes is good; one that is not is asked about once.
    pub(super) fn is_writer_good(&self) -> bool {
        !self.replace.swap(false, Ordering::AcqRel)
    }

    pub(super) fn holds(&self) -> bool {
        let until = Duration::from_millis(self.until.load(Ordering::Relaxed));
        self.since.elapsed() < until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_begins_with_a_broken_connection() {
        let suspicion = Suspicion::new();
        assert!(!suspicion.holds());
        let pool = suspicion.clone();
        suspicion.raise();
        assert!(pool.holds());
        assert!(pool.is_writer_good());
        suspicion.replace_writer();
        assert!(!pool.is_writer_good());
        assert!(pool.is_writer_good(), "it was replaced");
    }
}
