//! Doubt about pooled connections: after one was found broken, the others are tried before they
//! are used, for a while. After a restart of the database all of them are broken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
}

impl Suspicion {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            until: Arc::default(),
        }
    }

    /// A connection was broken.
    pub(crate) fn raise(&self) {
        let until = self.since.elapsed() + LASTS;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
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
    }
}
