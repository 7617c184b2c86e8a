//! What can end steps before their time: a cancel, a lost attempt, timeouts. A pause stops the
//! clock of timeouts.

use std::time::Duration;

use muster_proto::runner::v1::Outcome;
use tokio::{sync::watch, time::Instant};

use super::pause::Pause;

/// How long `after` steps and artifacts may take after an orderly cancel, unless another time is
/// given.
pub(crate) const AFTER_GRACE: Duration = Duration::from_secs(300);

/// A wish to end the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cancel {
    /// No `after` steps.
    pub(crate) force: bool,
    /// What to record.
    pub(crate) outcome: Outcome,
    /// For people.
    pub(crate) message: String,
    /// When `after` steps must be done.
    pub(crate) deadline: Instant,
}

/// The wishes of the agent.
#[derive(Debug, Clone)]
pub(crate) struct Halt {
    cancel: watch::Sender<Option<Cancel>>,
    lost: watch::Sender<bool>,
    grace: Duration,
    /// Whether all of it stands still for a while.
    pub(crate) pause: Pause,
}

impl Halt {
    /// With the time that `after` steps have after an orderly cancel.
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            cancel: watch::Sender::new(None),
            lost: watch::Sender::new(false),
            pause: Pause::new(),
        }
    }

    /// Takes note of a cancel; only a forced one can follow another.
    pub(crate) fn cancel(&self, message: &muster_proto::runner::v1::Cancel) {
        self.cancel.send_if_modified(|cancel| {
            if cancel
                .as_ref()
                .is_some_and(|known| known.force || !message.force)
            {
                return false;
            }
            let outcome = match message.outcome() {
                Outcome::Canceled | Outcome::Unspecified => Outcome::Canceled,
                outcome => outcome,
            };
            *cancel = Some(Cancel {
                force: message.force,
                outcome,
                message: message.message.clone(),
                deadline: Instant::now() + self.grace,
            });
            true
        });
        self.pause.lift();
    }

    /// Somebody outside stops the pod: what can be saved is saved.
    pub(crate) fn interrupt(&self) {
        self.cancel(&muster_proto::runner::v1::Cancel {
            force: false,
            outcome: Outcome::Aborted.into(),
            message: "the pod is being stopped from outside".to_owned(),
        });
    }

    /// The attempt is lost: nothing may go on.
    pub(crate) fn lose(&self) {
        self.lost.send_replace(true);
    }

    /// Waits until the attempt is lost.
    pub(crate) async fn lost(&self) {
        let mut lost = self.lost.subscribe();
        // The sender lives in `self`, so this ends only when it is true.
        let _closed = lost.wait_for(|lost| *lost).await;
    }

    /// The cancel, if there is one.
    pub(crate) fn canceled(&self) -> Option<Cancel> {
        self.cancel.borrow().clone()
    }
}

/// Why a step has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The timeout of this step or of one around it passed.
    Timeout {
        /// Reference of the step whose timeout it is.
        step: String,
        /// The timeout.
        after: Duration,
    },
    /// A cancel.
    Cancel(Cancel),
}

/// What a step must obey: the cancel, and the timeouts around it.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    halt: Halt,
    /// It survives an orderly cancel until its deadline.
    after: bool,
    deadlines: Vec<Deadline>,
}

#[derive(Debug, Clone)]
struct Deadline {
    /// On the clock that stands while the run is paused.
    at: Duration,
    step: String,
    after: Duration,
}

impl Limits {
    pub(crate) fn new(halt: Halt) -> Self {
        Self {
            halt,
            after: false,
            deadlines: Vec::new(),
        }
    }

    /// The same for `after` steps and artifacts.
    pub(crate) fn surviving_cancel(&self) -> Self {
        Self {
            after: true,
            ..self.clone()
        }
    }

    /// The same for artifacts, which no timeout takes away either.
    pub(crate) fn for_artifacts(&self) -> Self {
        Self {
            after: true,
            deadlines: Vec::new(),
            ..self.clone()
        }
    }

    /// The same with a timeout that begins now.
    pub(crate) fn with_timeout(&self, step: &str, after: Duration) -> Self {
        let mut limits = self.clone();
        limits.deadlines.push(Deadline {
            at: self.halt.pause.clock() + after,
            step: step.to_owned(),
            after,
        });
        limits
    }

    /// Whether the run stands still for a while.
    pub(crate) fn pause(&self) -> &Pause {
        &self.halt.pause
    }

    /// Waits until the run is not paused, or until there is a cause to end.
    pub(crate) async fn unpaused(&self) {
        if self.halt.pause.is_paused() {
            tokio::select! {
                () = self.halt.pause.until(false) => {}
                _ = self.reached() => {}
            }
        }
    }

    /// Whether somebody wants the run to end, also where that does not concern this step.
    pub(crate) fn is_canceled(&self) -> bool {
        self.halt.canceled().is_some()
    }

    /// A container of the pod is being stopped by somebody outside, and the others with it, though they
    /// may not have heard yet. Returns why the step has ended, if nothing else has ended it before.
    pub(crate) fn interrupt(&self) -> Option<Cause> {
        self.halt.interrupt();
        self.halt.canceled().map(Cause::Cancel)
    }

    /// Waits until a forced cancel.
    pub(crate) async fn forced(&self) {
        let mut cancel = self.halt.cancel.subscribe();
        // The sender lives in `self`, so this ends only when it is true.
        let _closed = cancel
            .wait_for(|cancel| cancel.as_ref().is_some_and(|cancel| cancel.force))
            .await;
    }

    /// Why to end now, if so.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let now = Instant::now();
        if let Some(cancel) = self.halt.canceled()
            && (cancel.force || !self.after || cancel.deadline <= now)
        {
            return Some(Cause::Cancel(cancel));
        }
        let clock = self.halt.pause.clock();
        let passed = self.deadlines.iter();
        let passed = passed.filter(|deadline| deadline.at <= clock);
        passed
            .min_by_key(|deadline| deadline.at)
            .map(|deadline| Cause::Timeout {
                step: deadline.step.clone(),
                after: deadline.after,
            })
    }

    /// Waits until there is a cause.
    pub(crate) async fn reached(&self) -> Cause {
        let mut cancel = self.halt.cancel.subscribe();
        loop {
            if let Some(cause) = self.cause() {
                return cause;
            }
            let grace = self.halt.canceled().map(|cancel| cancel.deadline);
            let timer = async {
                match self.deadlines.iter().map(|deadline| deadline.at).min() {
                    Some(at) => self.halt.pause.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let grace = async {
                match grace {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = grace => {}
                // The sender lives in `self`.
                _ = cancel.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(force: bool) -> muster_proto::runner::v1::Cancel {
        muster_proto::runner::v1::Cancel {
            force,
            ..muster_proto::runner::v1::Cancel::default()
        }
    }

    #[tokio::test]
    async fn after_steps_survive_an_orderly_cancel_until_the_grace_is_over() {
        let halt = Halt::new(Duration::from_millis(30));
        let limits = Limits::new(halt.clone());
        let after = limits.surviving_cancel();
        halt.cancel(&cancel(false));
        assert!(limits.cause().is_some());
        assert!(after.cause().is_none());
        let begun = Instant::now();
        after.reached().await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn the_timeout_that_passed_first_is_named() {
        let limits = Limits::new(Halt::new(AFTER_GRACE))
            .with_timeout("s1", Duration::from_secs(20))
            .with_timeout("s1.1", Duration::from_millis(5));
        let Cause::Timeout { step, .. } = limits.reached().await else {
            panic!("nobody canceled");
        };
        assert_eq!(step, "s1.1");
    }

    #[tokio::test(start_paused = true)]
    async fn no_timeout_passes_during_a_pause() {
        let halt = Halt::new(AFTER_GRACE);
        let limits = Limits::new(halt.clone()).with_timeout("s1", Duration::from_secs(2));
        halt.pause.order(1, true);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(limits.cause().is_none());
        halt.pause.order(2, false);
        let begun = Instant::now();
        limits.reached().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_forced_cancel_follows_an_orderly_one_and_not_the_other_way() {
        let halt = Halt::new(AFTER_GRACE);
        halt.cancel(&cancel(true));
        halt.cancel(&cancel(false));
        assert!(halt.canceled().expect("it is canceled").force);
    }
}
