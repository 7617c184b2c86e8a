//! Pauses: who has asked for one, and a clock that does not count them. Stopping and continuing
//! processes is done by whoever follows them ([`super::process`]).

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// Whether the run is paused.
#[derive(Debug, Clone)]
pub(crate) struct Pause(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// Sequence of the newest order.
    sequence: u64,
    /// The newest order says so.
    wanted: bool,
    /// A step has paused the run by itself.
    held: bool,
    /// The run is to end: nothing pauses it any more.
    over: bool,
    /// When the clock began.
    began: Instant,
    /// When the pause began that is now.
    since: Option<Instant>,
    /// All pauses before it.
    total: Duration,
}

impl State {
    /// Notes when a pause begins and ends. Whether anything changed.
    fn settle(&mut self) -> bool {
        let paused = !self.over && (self.wanted || self.held);
        match self.since {
            None if paused => self.since = Some(Instant::now()),
            Some(since) if !paused => {
                self.total += since.elapsed();
                self.since = None;
            }
            None | Some(_) => return false,
        }
        true
    }
}

impl Pause {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            sequence: 0,
            wanted: false,
            held: false,
            over: false,
            began: Instant::now(),
            since: None,
            total: Duration::ZERO,
        }))
    }

    /// Takes an order; one that was heard before changes nothing. To go on ends the pause of a step
    /// too.
    pub(crate) fn order(&self, sequence: u64, paused: bool) {
        self.0.send_if_modified(|state| {
            if sequence <= state.sequence {
                return false;
            }
            state.sequence = sequence;
            state.wanted = paused;
            state.held &= paused;
            state.settle()
        });
    }

    /// A step pauses the run, until an order lets it go on.
    pub(crate) fn hold(&self) {
        self.0.send_if_modified(|state| {
            state.held = true;
            state.settle()
        });
    }

    /// The run is to end: it goes on, and nothing pauses it any more.
    pub(crate) fn lift(&self) {
        self.0.send_if_modified(|state| {
            state.over = true;
            state.settle()
        });
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.borrow().since.is_some()
    }

    /// How long the run has been at work: its time without pauses.
    pub(crate) fn clock(&self) -> Duration {
        let state = self.0.borrow();
        let now = state.since.unwrap_or_else(Instant::now);
        now.duration_since(state.began).saturating_sub(state.total)
    }

    /// Waits until it is paused, or until it is not.
    pub(crate) async fn until(&self, paused: bool) {
        let mut states = self.0.subscribe();
        // The sender lives in `self`, so this ends only when it is so.
        let _closed = states
            .wait_for(|state| state.since.is_some() == paused)
            .await;
    }

    /// Waits until the clock shows `at`.
    pub(crate) async fn sleep_until(&self, at: Duration) {
        loop {
            self.until(false).await;
            let left = at.saturating_sub(self.clock());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.until(true) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_while_the_run_is_paused() {
        let pause = Pause::new();
        tokio::time::advance(SECOND).await;
        pause.order(1, true);
        tokio::time::advance(SECOND * 10).await;
        assert_eq!(pause.clock(), SECOND);
        pause.order(2, false);
        tokio::time::advance(SECOND).await;
        assert_eq!(pause.clock(), SECOND * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_longer_by_the_pause() {
        let pause = Pause::new();
        let begun = Instant::now();
        let sleep = pause.sleep_until(SECOND * 3);
        let disturb = async {
            tokio::time::sleep(SECOND).await;
            pause.order(1, true);
            tokio::time::sleep(SECOND * 5).await;
            pause.order(2, false);
        };
        tokio::join!(sleep, disturb);
        assert_eq!(begun.elapsed(), SECOND * 8);
    }

    #[tokio::test]
    async fn an_order_counts_once_and_ends_the_pause_of_a_step() {
        let pause = Pause::new();
        pause.hold();
        pause.order(1, false);
        assert!(!pause.is_paused());
        pause.hold();
        pause.order(1, false);
        assert!(pause.is_paused(), "it was for the pause before");
        pause.order(2, false);
        assert!(!pause.is_paused());
    }

    #[tokio::test]
    async fn a_run_that_is_to_end_is_not_paused() {
        let pause = Pause::new();
        pause.order(1, true);
        pause.lift();
        assert!(!pause.is_paused());
        pause.hold();
        assert!(!pause.is_paused());
    }
}
