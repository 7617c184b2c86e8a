//! What this process knows of its leases by its own clock, which no other clock has to agree with:
//! how long one lives after it was renewed, and whether another process has them now.
//!
//! When a lease was last renewed is the attempt's to know ([`crate::attempt::Attempt::proven`]):
//! the time at which the renewal was *sent* that the server has answered. A renewal without an
//! answer proves nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a lease lives when the server does not say.
const DURATION: Duration = Duration::from_secs(30);

/// What holds for all leases of this process.
#[derive(Debug)]
pub(crate) struct Leases {
    state: Mutex<State>,
    started: Instant,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// None until the server has said it.
    duration: Option<Duration>,
    closed: bool,
}

impl Leases {
    /// Before anything was heard of the server.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                duration: None,
                closed: false,
            }),
            started: Instant::now(),
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The server says how long leases live; kept while the link is down.
    pub(crate) fn last(&self, duration: Option<Duration>) {
        let said = duration.filter(|duration| !duration.is_zero());
        self.update(|state| state.duration = Some(said.unwrap_or(DURATION)));
    }

    /// Another process has all leases now: this one begins nothing any more.
    pub(crate) fn close(&self) {
        self.update(|state| state.closed = true);
    }

    /// Whether another process has them.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether a lease that was proven then is sure to hold now.
    pub(crate) fn holds(&self, proven: Option<Instant>) -> bool {
        let state = self.state();
        !state.closed && proven.is_some_and(|at| at.elapsed() < state.duration.unwrap_or(DURATION))
    }

    /// How long an attempt may run without a proof when `wish` is its limit: never less than its
    /// lease, which holds without one.
    pub(crate) fn limit(&self, wish: Duration) -> Duration {
        self.state().duration.map_or(wish, |lease| lease.max(wish))
    }

    /// Since when nothing is known of a lease: since it was proven, or since this process began
    /// when it was not yet.
    pub(crate) fn silent_since(&self, proven: Option<Instant>) -> Instant {
        proven.unwrap_or(self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_from_its_proof_and_as_long_as_the_server_said() {
        let leases = Leases::new();
        let wish = Duration::from_secs(1);
        assert_eq!(leases.limit(wish), wish, "nothing is known of leases yet");
        leases.last(Some(Duration::from_mins(1)));
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        assert!(!leases.holds(None), "nothing was proven");
        assert!(leases.holds(ago(0)));
        assert!(leases.holds(ago(50)));
        assert!(!leases.holds(ago(60)));
        leases.last(Some(Duration::ZERO));
        assert!(!leases.holds(ago(50)), "no duration is the default");
        assert!(leases.holds(ago(0)));
        assert_eq!(leases.limit(Duration::from_secs(1)), DURATION);
        leases.close();
        assert!(!leases.holds(ago(0)));
    }
}
