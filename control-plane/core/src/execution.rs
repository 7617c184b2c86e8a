//! The execution state machine: the only code that decides a transition. Pure and synchronous;
//! effects are data, performed after commit by whoever stored the result.
//!
//! Which agent gets an execution, and when a lease counts as lost, is decided elsewhere.

#![warn(clippy::wildcard_enum_match_arm)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::AttemptId;

/// Where an execution is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted and durable, waits for an agent.
    Queued,
    /// Leased to an agent that has not begun to prepare it.
    Assigned,
    /// The agent makes the pod, images are pulled, the conductor starts.
    Preparing,
    /// The conductor walks the plan.
    Running,
    /// Every process of the current step is stopped until resumed.
    Paused,
    /// The steps are over; the last log bytes and artifacts are on their way.
    Finishing,
    /// Terminal: every step that counts passed, proven by the completion record.
    Passed,
    /// Terminal: a step that counts failed.
    Failed,
    /// Terminal: infrastructure ended it, not the test.
    Aborted,
    /// Terminal: a caller canceled it.
    Canceled,
    /// Terminal: a deadline of the whole run passed.
    TimedOut,
}

impl State {
    /// All states, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Assigned,
        Self::Preparing,
        Self::Running,
        Self::Paused,
        Self::Finishing,
        Self::Passed,
        Self::Failed,
        Self::Aborted,
        Self::Canceled,
        Self::TimedOut,
    ];

    /// Whether it never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Queued
            | Self::Assigned
            | Self::Preparing
            | Self::Running
            | Self::Paused
            | Self::Finishing => false,
            Self::Passed | Self::Failed | Self::Aborted | Self::Canceled | Self::TimedOut => true,
        }
    }

    /// Whether an agent holds a lease on it.
    #[must_use]
    pub const fn is_leased(self) -> bool {
        !self.is_terminal() && !matches!(self, Self::Queued)
    }

    /// The name that is stored and shown, for example `timed_out`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finishing => "finishing",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Canceled => "canceled",
            Self::TimedOut => "timed_out",
        }
    }

    /// The state of a stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The live lease of an execution. The epoch grows with every attempt, so an old holder is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The attempt that holds it.
    pub attempt: AttemptId,
    /// Its epoch, from 1.
    pub epoch: i64,
}

/// An accepted wish to end the execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// `after` steps and `always` artifacts still run.
    Orderly,
    /// Everything is killed now.
    Forced,
}

/// On whose behalf an execution is to end. The first one stays, whoever presses on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A caller wants it, or the parent of a child.
    #[default]
    Caller,
    /// It runs longer than it may.
    Deadline,
}

impl Cause {
    /// How an execution ends that is stopped for this, when nobody proves another end.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Caller => Outcome::Canceled,
            Self::Deadline => Outcome::TimedOut,
        }
    }
}

/// The newest wish of a caller to stop an execution for a while, or to let it go on.
///
/// A wish is an event and not a level: a step may pause the run by itself, so that letting it go on
/// twice means two different things. The sequence tells them apart, and a repeat from a new wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pause {
    /// Grows with every wish; 0 before the first.
    pub sequence: i64,
    /// Stop, or go on.
    pub paused: bool,
}

/// Where a live attempt is, as its agent tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Pod and images are on their way.
    Preparing,
    /// The conductor walks the plan.
    Running,
    /// Every process is stopped.
    Paused,
    /// The steps are over.
    Finishing,
}

/// How a completion record says that the run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All that counts passed.
    Passed,
    /// Something that counts failed.
    Failed,
    /// The infrastructure ended it.
    Aborted,
    /// A caller canceled it.
    Canceled,
    /// A deadline of the whole run passed.
    TimedOut,
}

impl Outcome {
    const fn state(self) -> State {
        match self {
            Self::Passed => State::Passed,
            Self::Failed => State::Failed,
            Self::Aborted => State::Aborted,
            Self::Canceled => State::Canceled,
            Self::TimedOut => State::TimedOut,
        }
    }
}

/// What can happen to an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The scheduler gives it to an agent.
    Assign(Lease),
    /// The agent gives an attempt back that was never started.
    Decline(Lease),
    /// The agent tells where the attempt is.
    Report(Lease, Phase),
    /// The conductor's completion record arrived. `retry` is the policy's answer to whether it may
    /// be queued again, for ends that are worth it.
    Complete {
        /// The lease of the attempt.
        lease: Lease,
        /// How it ended.
        outcome: Outcome,
        /// Queue it again when it did not pass.
        retry: bool,
    },
    /// The agent says that the attempt ended without a completion record, for example that the pod
    /// is gone. `retry` is the policy's answer to whether it may be queued again.
    AttemptLost {
        /// The lease of the attempt.
        lease: Lease,
        /// Queue it again.
        retry: bool,
    },
    /// The attempt is taken from its agent, which may not know yet: the lease expired, it was not
    /// begun in time, its cluster is drained. `retry` as with [`Event::AttemptLost`].
    Revoke {
        /// The lease of the attempt.
        lease: Lease,
        /// Queue it again.
        retry: bool,
    },
    /// A caller wants it to end.
    Cancel(Stop),
    /// It runs longer than it may: it is stopped, and what then ends it has timed out.
    RunDeadline,
    /// A caller wants its processes to stop for a while.
    Pause,
    /// A caller, or the parent of a worker, wants it to go on.
    Resume,
    /// It waited longer than its queue deadline.
    QueueDeadline,
}

/// What to do once a transition is stored. Each may be performed again without harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The scheduler has something to place.
    WakeScheduler,
    /// What waits for a place beside this one may be placed now.
    FreePlace,
    /// Tell the agent of the attempt to end it.
    StopAttempt(Lease, Stop),
    /// Tell the agent of the attempt to stop it for a while or to let it go on.
    PauseAttempt(Lease, Pause),
    /// Tell the agent that the attempt is over and can be cleaned up.
    CloseAttempt(Lease),
    /// Tell the agent that the attempt is not its any more and has to be killed.
    RevokeAttempt(Lease),
}

/// The part of an execution that decides what may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Where it is.
    pub state: State,
    /// The live lease; present exactly when the state is leased.
    pub lease: Option<Lease>,
    /// An accepted wish to end it.
    pub stop: Option<Stop>,
    /// On whose behalf; means something only with `stop`.
    pub cause: Cause,
    /// The newest wish to pause it, under the live lease.
    pub pause: Pause,
    /// Epoch of the newest lease so far; 0 before the first.
    pub last_epoch: i64,
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Transition {
    /// The new lifecycle; equal to the old one when the event was a repeat.
    pub next: Lifecycle,
    /// What to do once it is stored.
    pub effects: Vec<Effect>,
}

/// An event that can not happen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTransition {
    /// The event carries a lease that is not the live one.
    #[error("the lease with epoch {epoch} is not the live one")]
    LeaseLost {
        /// Epoch that the event carried.
        epoch: i64,
    },
    /// The state does not allow it.
    #[error("an execution that is {state} can not be {wanted}")]
    State {
        /// The state.
        state: State,
        /// What was wanted, as a participle.
        wanted: &'static str,
    },
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            state: State::Queued,
            lease: None,
            stop: None,
            cause: Cause::Caller,
            pause: Pause::default(),
            last_epoch: 0,
        }
    }
}

impl Lifecycle {
    /// Returns what follows from `event`.
    ///
    /// Reads no clock and performs no I/O. An event that has already taken effect returns the
    /// same lifecycle and no effects, which makes reports safe to retry.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition::LeaseLost`] for a report under a lease that is not the live one;
    /// [`IllegalTransition::State`] when the event can not happen in this state. Neither is ever
    /// worth a retry.
    ///
    /// # Examples
    ///
    /// ```
    /// use muster_core::execution::{Event, Lifecycle, State, Stop};
    ///
    /// let canceled = Lifecycle::default().on(Event::Cancel(Stop::Orderly))?.next;
    /// assert_eq!(canceled.state, State::Canceled); // nothing runs yet, so it ends at once
    /// # Ok::<(), muster_core::execution::IllegalTransition>(())
    /// ```
    pub fn on(&self, event: Event) -> Result<Transition, IllegalTransition> {
        match event {
            Event::Assign(lease) => self.assign(lease),
            Event::Decline(lease) => self.decline(lease),
            Event::Report(lease, phase) => self.report(lease, phase),
            Event::Complete {
                lease,
                outcome,
                retry,
            } => self.complete(lease, outcome, retry),
            Event::AttemptLost { lease, retry } => {
                self.give_up(lease, retry, Effect::CloseAttempt(lease))
            }
            Event::Revoke { lease, retry } => {
                self.give_up(lease, retry, Effect::RevokeAttempt(lease))
            }
            Event::Cancel(stop) => Ok(self.stop(stop, Cause::Caller)),
            Event::RunDeadline => self.run_deadline(),
            Event::Pause => self.pause(),
            Event::Resume => self.resume(),
            Event::QueueDeadline => self.queue_deadline(),
        }
    }

    fn assign(&self, lease: Lease) -> Result<Transition, IllegalTransition> {
        if self.lease == Some(lease) {
            return Ok(self.unchanged());
        }
        if self.state != State::Queued || lease.epoch <= self.last_epoch {
            return Err(self.illegal("assigned"));
        }
        let next = Self {
            state: State::Assigned,
            lease: Some(lease),
            last_epoch: lease.epoch,
            ..*self
        };
        Ok(Transition {
            next,
            effects: Vec::new(),
        })
    }

    fn decline(&self, lease: Lease) -> Result<Transition, IllegalTransition> {
        self.check(lease)?;
        match self.state {
            State::Assigned => Ok(self.requeue(Effect::CloseAttempt(lease))),
            State::Queued
            | State::Preparing
            | State::Running
            | State::Paused
            | State::Finishing
            | State::Passed
            | State::Failed
            | State::Aborted
            | State::Canceled
            | State::TimedOut => Err(self.illegal("declined")),
        }
    }

    fn report(&self, lease: Lease, phase: Phase) -> Result<Transition, IllegalTransition> {
        self.check(lease)?;
        let state = match phase {
            Phase::Preparing => State::Preparing,
            Phase::Running => State::Running,
            Phase::Paused => State::Paused,
            Phase::Finishing => State::Finishing,
        };
        // Paused and running alternate; everything else only moves forward.
        let back = state < self.state && !(state == State::Running && self.state == State::Paused);
        if back || state == self.state {
            return Ok(self.unchanged());
        }
        // No step is left that could wait, and nobody may let it go on: see `can_pause`.
        let pause = match state {
            State::Finishing => Pause {
                paused: false,
                ..self.pause
            },
            State::Queued
            | State::Assigned
            | State::Preparing
            | State::Running
            | State::Paused
            | State::Passed
            | State::Failed
            | State::Aborted
            | State::Canceled
            | State::TimedOut => self.pause,
        };
        Ok(Transition {
            next: Self {
                state,
                pause,
                ..*self
            },
            effects: Vec::new(),
        })
    }

    fn complete(
        &self,
        lease: Lease,
        outcome: Outcome,
        retry: bool,
    ) -> Result<Transition, IllegalTransition> {
        self.check(lease)?;
        let again = match outcome {
            Outcome::Failed | Outcome::Aborted => retry && self.stop.is_none(),
            // Who was told to end it has what was wanted.
            Outcome::Passed | Outcome::Canceled | Outcome::TimedOut => false,
        };
        if again {
            return Ok(self.requeue(Effect::CloseAttempt(lease)));
        }
        Ok(self.end(
            outcome.state(),
            vec![Effect::CloseAttempt(lease), Effect::FreePlace],
        ))
    }

    /// Ends an attempt that has no completion record; `close` is for its agent.
    fn give_up(
        &self,
        lease: Lease,
        retry: bool,
        close: Effect,
    ) -> Result<Transition, IllegalTransition> {
        self.check(lease)?;
        if retry || self.stop.is_some() {
            return Ok(self.requeue(close));
        }
        Ok(self.end(State::Aborted, vec![close, Effect::FreePlace]))
    }

    fn stop(&self, stop: Stop, cause: Cause) -> Transition {
        if self.state.is_terminal() || self.stop >= Some(stop) {
            return self.unchanged();
        }
        let cause = match self.stop {
            Some(_) => self.cause,
            None => cause,
        };
        let next = Self {
            stop: Some(stop),
            cause,
            ..*self
        };
        let Some(lease) = self.lease else {
            return next.end(cause.outcome().state(), Vec::new());
        };
        Transition {
            next: Self {
                // Nothing that ends is stopped on its way.
                pause: Pause {
                    paused: false,
                    ..self.pause
                },
                ..next
            },
            effects: vec![Effect::StopAttempt(lease, stop)],
        }
    }

    /// The clock of a run stands still before its first step, and after its last one.
    fn run_deadline(&self) -> Result<Transition, IllegalTransition> {
        match self.state {
            State::Running | State::Paused => Ok(self.stop(Stop::Orderly, Cause::Deadline)),
            State::Finishing
            | State::Passed
            | State::Failed
            | State::Aborted
            | State::Canceled
            | State::TimedOut => Ok(self.unchanged()),
            State::Queued | State::Assigned | State::Preparing => Err(self.illegal("timed out")),
        }
    }

    fn pause(&self) -> Result<Transition, IllegalTransition> {
        if !self.can_pause() {
            return Err(self.illegal("paused"));
        }
        if self.pause.paused {
            return Ok(self.unchanged());
        }
        Ok(self.wish(true))
    }

    fn resume(&self) -> Result<Transition, IllegalTransition> {
        let is_paused = self.state == State::Paused || self.pause.paused;
        if !is_paused || !self.can_pause() {
            return Err(self.illegal("resumed"));
        }
        Ok(self.wish(false))
    }

    /// One that ends does not stop on its way. One that waits for an agent begins paused.
    const fn can_pause(&self) -> bool {
        self.stop.is_none()
            && match self.state {
                State::Queued
                | State::Assigned
                | State::Preparing
                | State::Running
                | State::Paused => true,
                State::Finishing
                | State::Passed
                | State::Failed
                | State::Aborted
                | State::Canceled
                | State::TimedOut => false,
            }
    }

    fn wish(&self, paused: bool) -> Transition {
        let pause = Pause {
            sequence: self.pause.sequence + 1,
            paused,
        };
        let tell = |lease| Effect::PauseAttempt(lease, pause);
        Transition {
            next: Self { pause, ..*self },
            effects: self.lease.map(tell).into_iter().collect(),
        }
    }

    fn queue_deadline(&self) -> Result<Transition, IllegalTransition> {
        match self.state {
            State::Queued => Ok(self.end(State::Aborted, Vec::new())),
            State::Aborted => Ok(self.unchanged()),
            State::Assigned
            | State::Preparing
            | State::Running
            | State::Paused
            | State::Finishing
            | State::Passed
            | State::Failed
            | State::Canceled
            | State::TimedOut => Err(self.illegal("expired in the queue")),
        }
    }

    /// An event of an agent must carry the live lease.
    fn check(&self, lease: Lease) -> Result<(), IllegalTransition> {
        if self.lease == Some(lease) {
            return Ok(());
        }
        Err(IllegalTransition::LeaseLost { epoch: lease.epoch })
    }

    /// Gives the attempt up and queues the execution again, or ends it where a stop is wanted.
    fn requeue(&self, close: Effect) -> Transition {
        if self.stop.is_some() {
            let effects = vec![close, Effect::FreePlace];
            return self.end(self.cause.outcome().state(), effects);
        }
        Transition {
            next: Self {
                state: State::Queued,
                lease: None,
                // A wish to go on was for a step of the attempt that is gone.
                pause: match self.pause.paused {
                    true => self.pause,
                    false => Pause::default(),
                },
                ..*self
            },
            effects: vec![close, Effect::WakeScheduler],
        }
    }

    fn end(&self, state: State, effects: Vec<Effect>) -> Transition {
        Transition {
            next: Self {
                state,
                lease: None,
                pause: Pause::default(),
                ..*self
            },
            effects,
        }
    }

    fn unchanged(&self) -> Transition {
        Transition {
            next: *self,
            effects: Vec::new(),
        }
    }

    fn illegal(&self, wanted: &'static str) -> IllegalTransition {
        IllegalTransition::State {
            state: self.state,
            wanted,
        }
    }
}

#[cfg(test)]
mod tests;
