//! The deadline of what an execution does now: to start, to run, to end. Pure; whoever stores a
//! transition stores the timer with it, and a sweep asks what is due.
//!
//! All times are the server's: an agent's clock counts for nothing here.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    execution::{Lifecycle, State, Stop},
    policy::Policy,
};

/// How long an agent may take to kill what is to be killed, until the attempt is taken from it.
pub const FORCE_LIMIT: Duration = Duration::from_secs(120);

/// The deadline of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timer {
    /// When the stage has taken too long; `None` for never.
    pub deadline: Option<Timestamp>,
    /// What is left of the time to run while it is paused.
    pub left: Option<Duration>,
}

/// What a deadline means that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// No step has begun in time: another agent may do better.
    Start,
    /// The steps take too long: they are told to end.
    Run,
    /// It does not end by itself: it is killed.
    Grace,
    /// It does not even die: it is taken from its agent.
    Force,
}

/// What it means that the deadline of this execution has passed.
#[must_use]
pub const fn due(life: &Lifecycle) -> Option<Due> {
    match (life.state, life.stop) {
        (
            State::Queued
            | State::Passed
            | State::Failed
            | State::Aborted
            | State::Canceled
            | State::TimedOut,
            _,
        ) => None,
        (_, Some(Stop::Orderly)) => Some(Due::Grace),
        (_, Some(Stop::Forced)) => Some(Due::Force),
        (State::Assigned | State::Preparing, None) => Some(Due::Start),
        (State::Running | State::Paused, None) => Some(Due::Run),
        (State::Finishing, None) => None,
    }
}

impl Timer {
    /// The timer behind a transition.
    #[must_use]
    pub fn after(
        self,
        policy: &Policy,
        before: &Lifecycle,
        next: &Lifecycle,
        now: Timestamp,
    ) -> Self {
        let at = |wait: Duration| Self {
            deadline: now.checked_add(wait).ok(),
            left: None,
        };
        if next.lease.is_none() {
            return Self::default();
        }
        if next.stop > before.stop {
            return match next.stop {
                Some(Stop::Orderly) => at(policy.stop_grace()),
                Some(Stop::Forced) => at(FORCE_LIMIT),
                None => self,
            };
        }
        if next.stop.is_some() || next.state == before.state {
            return self;
        }
        let begins = matches!(
            before.state,
            State::Queued | State::Assigned | State::Preparing
        );
        match next.state {
            State::Assigned => at(policy.start_timeout()),
            State::Running if begins => policy.run_timeout().map_or_else(Self::default, at),
            State::Running => self.left.map_or_else(Self::default, at),
            State::Paused if begins => Self {
                deadline: None,
                left: policy.run_timeout(),
            },
            State::Paused => Self {
                deadline: None,
                left: self.deadline.map(|deadline| {
                    Duration::try_from(deadline.duration_since(now)).unwrap_or(Duration::ZERO)
                }),
            },
            State::Finishing => Self::default(),
            State::Preparing
            | State::Queued
            | State::Passed
            | State::Failed
            | State::Aborted
            | State::Canceled
            | State::TimedOut => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use uuid::Uuid;

    use super::*;
    use crate::{
        execution::{Event, Lease, Phase},
        id::AttemptId,
    };

    const LEASE: fn() -> Lease = || Lease {
        attempt: AttemptId::from(Uuid::from_u128(1)),
        epoch: 1,
    };

    fn policy() -> Policy {
        Policy {
            start_timeout_ms: Some(10_000),
            run_timeout_ms: Some(60_000),
            stop_grace_ms: Some(5_000),
            ..Policy::default()
        }
    }

    struct Run {
        life: Lifecycle,
        timer: Timer,
        now: Timestamp,
    }

    impl Run {
        fn new() -> Self {
            Self {
                life: Lifecycle::default(),
                timer: Timer::default(),
                now: Timestamp::UNIX_EPOCH,
            }
        }

        /// Seconds until the deadline after an event.
        fn after(&mut self, event: Event) -> Option<i64> {
            let next = self.life.on(event).expect("it can happen").next;
            self.timer = self.timer.after(&policy(), &self.life, &next, self.now);
            self.life = next;
            let deadline = self.timer.deadline?;
            Some(deadline.duration_since(self.now).as_secs())
        }

        fn wait(&mut self, seconds: i64) {
            self.now += seconds.seconds();
        }
    }

    #[test]
    fn every_stage_has_its_own_time() {
        let mut run = Run::new();
        assert_eq!(run.after(Event::Assign(LEASE())), Some(10));
        assert_eq!(due(&run.life), Some(Due::Start));
        run.wait(4);
        let preparing = Event::Report(LEASE(), Phase::Preparing);
        assert_eq!(run.after(preparing), Some(6), "the same time to start");
        assert_eq!(run.after(Event::Report(LEASE(), Phase::Running)), Some(60));
        assert_eq!(due(&run.life), Some(Due::Run));
        run.wait(60);
        assert_eq!(run.after(Event::RunDeadline), Some(5));
        assert_eq!(due(&run.life), Some(Due::Grace));
        run.wait(5);
        assert_eq!(run.after(Event::Cancel(Stop::Forced)), Some(120));
        assert_eq!(due(&run.life), Some(Due::Force));
        let gone = Event::Revoke {
            lease: LEASE(),
            retry: false,
        };
        assert_eq!(run.after(gone), None);
        assert_eq!(run.life.state, State::TimedOut);
        assert_eq!(due(&run.life), None);
    }

    #[test]
    fn a_pause_stops_the_clock_of_the_run() {
        let mut run = Run::new();
        run.after(Event::Assign(LEASE()));
        run.after(Event::Report(LEASE(), Phase::Running));
        run.wait(20);
        assert_eq!(run.after(Event::Report(LEASE(), Phase::Paused)), None);
        run.wait(1000);
        assert_eq!(run.after(Event::Report(LEASE(), Phase::Running)), Some(40));
        assert_eq!(run.after(Event::Report(LEASE(), Phase::Finishing)), None);
        assert_eq!(due(&run.life), None);
    }
}
