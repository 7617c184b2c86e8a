//! How long to wait before the next try: exponential with full jitter.

use std::time::Duration;

/// Delays between tries of one thing.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// The first delay is below `first`, none is above `most`.
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// Begins again after a success.
    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next delay: anything from a tenth of the current bound up to all of it, so that many
    /// clients never come back at once.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(self.most);
        bound.mul_f64(rand::random_range(0.1..=1.0))
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_begin_again() {
        let (first, most) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, most);
        assert!(backoff.next() <= first);
        for _ in 0..20 {
            assert!(backoff.next() <= most);
        }
        assert_eq!(backoff.next, most);
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
