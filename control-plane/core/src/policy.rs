//! What follows when an attempt ends badly: pure rules over what the user chose and what was spent
//! already. Who chose, workflow or project, is decided where a policy is put together.
//!
//! Infrastructure and tests have budgets of their own: a drained node never uses up what a flaky
//! test was given, and a failing test never hides a broken cluster.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How many further attempts follow those that the infrastructure ended before their first step,
/// when nobody says.
pub const INFRASTRUCTURE_RETRIES: u32 = 2;
/// Most further attempts that a policy can ask for, of each kind.
pub const MAX_RETRIES: u32 = 100;
/// How many agents may be lost under one execution, whatever its policy says: it may be what kills
/// them.
pub const MAX_LOST_AGENTS: u32 = 3;
/// How long an agent may be away, beyond the end of its leases, when nobody says.
pub const LOST_AGENT_AFTER: Duration = Duration::from_secs(5 * 60);
/// The same where the policy is to wait for it.
pub const LOST_AGENT_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How long an attempt may take until its first step, when nobody says.
pub const START_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long an attempt that is told to end may take for `after` steps and artifacts, when nobody
/// says.
pub const STOP_GRACE: Duration = Duration::from_secs(5 * 60);

/// Reasons for which another attempt would end like this one.
const FINAL: [&str; 7] = [
    "POLICY_DENIED",
    "ADMISSION_DENIED",
    "INVALID_POD",
    "FORBIDDEN",
    "QUOTA",
    "NAMESPACE_NOT_FOUND",
    "DEADLINE_EXCEEDED",
];

/// What becomes of a begun attempt whose agent is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostAgent {
    /// It is waited for, long: nothing is done twice, and nothing is given up early.
    Wait,
    /// Another attempt follows: a step may have been done already.
    Rerun,
    /// The execution ends.
    Fail,
}

/// What becomes of a begun attempt that its cluster took away: evicted, preempted, drained, its
/// node lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interrupted {
    /// Another attempt follows.
    Rerun,
    /// The execution ends.
    Fail,
}

/// What the user chose; nothing said leaves the choice to the policy below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// After a lost agent; [`LostAgent::Fail`] when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_agent: Option<LostAgent>,
    /// How long an agent may be away beyond the end of its leases, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_agent_after_ms: Option<u64>,
    /// After an interruption; [`Interrupted::Fail`] when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Interrupted>,
    /// Further attempts after those that the infrastructure ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure_retries: Option<u32>,
    /// Further attempts after those that failed; none when nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_retries: Option<u32>,
    /// How long an attempt may take until its first step, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// How long the steps of an attempt may take, pauses left out, in milliseconds; no limit when
    /// nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_timeout_ms: Option<u64>,
    /// How long an attempt that is told to end may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_ms: Option<u64>,
}

/// How often an execution was tried again already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// After ends by the infrastructure.
    pub infrastructure: u32,
    /// After failures.
    pub tests: u32,
    /// Agents that were lost while they had it.
    pub lost_agents: u32,
}

/// How an attempt ended that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// Its completion record says that the test failed.
    Failed,
    /// Its agent was not heard of for too long.
    AgentLost {
        /// Steps had begun.
        begun: bool,
    },
    /// The infrastructure ended it, as an agent tells.
    Interrupted {
        /// Why, `UPPER_SNAKE_CASE`.
        reason: &'a str,
        /// Steps had begun.
        begun: bool,
    },
    /// No step had begun when its time to start was over.
    NotStarted,
}

/// Why an agent kills what it could not renew, `UPPER_SNAKE_CASE`.
pub const DISCONNECTED: &str = "DISCONNECTED";

impl<'a> Ending<'a> {
    /// The ending that an agent tells, by its reason.
    #[must_use]
    pub fn told(reason: &'a str, begun: bool) -> Self {
        match reason {
            // It came back just before it counted as lost, and had killed it.
            DISCONNECTED => Self::AgentLost { begun },
            reason => Self::Interrupted { reason, begun },
        }
    }
}

/// What follows from an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, with this spent.
    Again(Spent),
    /// No other one, with this spent.
    Over {
        /// With the ending counted.
        spent: Spent,
        /// It took so many agents with it that it is held to be the cause.
        poison: bool,
    },
}

impl Verdict {
    /// Whether another attempt follows.
    #[must_use]
    pub const fn is_again(self) -> bool {
        matches!(self, Self::Again(_))
    }

    /// What is spent from here on.
    #[must_use]
    pub const fn spent(self) -> Spent {
        match self {
            Self::Again(spent) | Self::Over { spent, .. } => spent,
        }
    }
}

impl Policy {
    /// This policy where it says something, and `below` where it does not.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            lost_agent: self.lost_agent.or(below.lost_agent),
            lost_agent_after_ms: self.lost_agent_after_ms.or(below.lost_agent_after_ms),
            interrupted: self.interrupted.or(below.interrupted),
            infrastructure_retries: self.infrastructure_retries.or(below.infrastructure_retries),
            test_retries: self.test_retries.or(below.test_retries),
            start_timeout_ms: self.start_timeout_ms.or(below.start_timeout_ms),
            run_timeout_ms: self.run_timeout_ms.or(below.run_timeout_ms),
            stop_grace_ms: self.stop_grace_ms.or(below.stop_grace_ms),
        }
    }

    /// How long an agent may be away, beyond the end of the lease, until the attempt is lost.
    ///
    /// What was not begun is given to another agent at once: the old one does not begin anything
    /// under a lease that it could not renew.
    #[must_use]
    pub fn lost_after(&self, begun: bool) -> Duration {
        if !begun {
            return Duration::ZERO;
        }
        let default = match self.lost_agent {
            Some(LostAgent::Wait) => LOST_AGENT_WAIT,
            Some(LostAgent::Rerun | LostAgent::Fail) | None => LOST_AGENT_AFTER,
        };
        self.lost_agent_after_ms
            .map_or(default, Duration::from_millis)
    }

    /// How long an attempt may take until its first step.
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout_ms
            .map_or(START_TIMEOUT, Duration::from_millis)
    }

    /// How long the steps may take.
    #[must_use]
    pub fn run_timeout(&self) -> Option<Duration> {
        self.run_timeout_ms.map(Duration::from_millis)
    }

    /// How long an attempt that is told to end may take.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace_ms.map_or(STOP_GRACE, Duration::from_millis)
    }

    /// What follows when an attempt has ended like this.
    ///
    /// # Examples
    ///
    /// ```
    /// use muster_core::policy::{Ending, Policy, Spent};
    ///
    /// let policy = Policy { test_retries: Some(1), ..Policy::default() };
    /// let first = policy.after(Spent::default(), Ending::Failed);
    /// assert!(first.is_again());
    /// assert!(!policy.after(first.spent(), Ending::Failed).is_again());
    /// ```
    #[must_use]
    pub fn after(&self, spent: Spent, ending: Ending<'_>) -> Verdict {
        match ending {
            Ending::Failed => {
                let left = spent.tests < self.test_retries.unwrap_or(0);
                let tests = spent.tests.saturating_add(1);
                decide(left, spent, Spent { tests, ..spent })
            }
            Ending::NotStarted => self.infrastructure(spent, true),
            Ending::Interrupted { reason, .. } if FINAL.contains(&reason) => Verdict::Over {
                spent,
                poison: false,
            },
            Ending::Interrupted { begun, .. } => {
                let wanted = !begun || self.interrupted == Some(Interrupted::Rerun);
                self.infrastructure(spent, wanted)
            }
            Ending::AgentLost { begun } => {
                let lost_agents = spent.lost_agents.saturating_add(1);
                let spent = Spent {
                    lost_agents,
                    ..spent
                };
                if lost_agents >= MAX_LOST_AGENTS {
                    return Verdict::Over {
                        spent,
                        poison: true,
                    };
                }
                let wanted = !begun || self.lost_agent == Some(LostAgent::Rerun);
                self.infrastructure(spent, wanted)
            }
        }
    }

    fn infrastructure(&self, spent: Spent, wanted: bool) -> Verdict {
        let most = self
            .infrastructure_retries
            .unwrap_or(INFRASTRUCTURE_RETRIES);
        let left = wanted && spent.infrastructure < most;
        let infrastructure = spent.infrastructure.saturating_add(1);
        let next = Spent {
            infrastructure,
            ..spent
        };
        decide(left, spent, next)
    }
}

const fn decide(again: bool, spent: Spent, next: Spent) -> Verdict {
    match again {
        true => Verdict::Again(next),
        false => Verdict::Over {
            spent,
            poison: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVICTED: Ending<'_> = Ending::Interrupted {
        reason: "EVICTED",
        begun: true,
    };

    #[test]
    fn what_had_begun_is_done_again_only_for_those_who_chose_that() {
        let lost = Ending::AgentLost { begun: true };
        let spent = Spent::default();
        assert!(!Policy::default().after(spent, lost).is_again());
        assert!(!Policy::default().after(spent, EVICTED).is_again());
        let rerun = Policy {
            lost_agent: Some(LostAgent::Rerun),
            interrupted: Some(Interrupted::Rerun),
            ..Policy::default()
        };
        assert!(rerun.after(spent, lost).is_again());
        assert!(rerun.after(spent, EVICTED).is_again());
        let unbegun = Ending::AgentLost { begun: false };
        assert!(Policy::default().after(spent, unbegun).is_again());
    }

    #[test]
    fn a_cause_that_stays_is_final() {
        let denied = Ending::Interrupted {
            reason: "ADMISSION_DENIED",
            begun: false,
        };
        let policy = Policy {
            interrupted: Some(Interrupted::Rerun),
            ..Policy::default()
        };
        assert!(!policy.after(Spent::default(), denied).is_again());
    }

    #[test]
    fn an_execution_that_takes_agents_with_it_is_stopped_whatever_was_chosen() {
        let policy = Policy {
            lost_agent: Some(LostAgent::Rerun),
            infrastructure_retries: Some(MAX_RETRIES),
            ..Policy::default()
        };
        let mut spent = Spent::default();
        for _ in 1..MAX_LOST_AGENTS {
            let verdict = policy.after(spent, Ending::AgentLost { begun: true });
            assert!(verdict.is_again());
            spent = verdict.spent();
        }
        let last = policy.after(spent, Ending::AgentLost { begun: false });
        assert!(matches!(last, Verdict::Over { poison: true, .. }));
    }

    #[test]
    fn the_nearer_policy_wins_field_by_field() {
        let project = Policy {
            test_retries: Some(3),
            lost_agent: Some(LostAgent::Wait),
            ..Policy::default()
        };
        let workflow = Policy {
            test_retries: Some(0),
            ..Policy::default()
        };
        let policy = workflow.over(project);
        assert_eq!(policy.test_retries, Some(0));
        assert_eq!(policy.lost_after(true), LOST_AGENT_WAIT);
        assert_eq!(policy.lost_after(false), Duration::ZERO);
    }

    fn any_ending() -> impl Strategy<Value = Ending<'static>> {
        prop_oneof![
            Just(Ending::Failed),
            Just(Ending::NotStarted),
            any::<bool>().prop_map(|begun| Ending::AgentLost { begun }),
            (
                any::<bool>(),
                prop::sample::select(vec!["EVICTED", "QUOTA", ""])
            )
                .prop_map(|(begun, reason)| Ending::Interrupted { reason, begun }),
        ]
    }

    proptest! {
        #[test]
        fn no_budget_is_ever_exceeded(
            endings in prop::collection::vec(any_ending(), 0..60),
            infrastructure in 0..5_u32,
            tests in 0..5_u32,
        ) {
            let policy = Policy {
                lost_agent: Some(LostAgent::Rerun),
                interrupted: Some(Interrupted::Rerun),
                infrastructure_retries: Some(infrastructure),
                test_retries: Some(tests),
                ..Policy::default()
            };
            let mut spent = Spent::default();
            let mut attempts = 1;
            for ending in endings {
                match policy.after(spent, ending) {
                    Verdict::Again(next) => {
                        attempts += 1;
                        spent = next;
                    }
                    Verdict::Over { .. } => break,
                }
            }
            prop_assert!(spent.infrastructure <= infrastructure && spent.tests <= tests);
            prop_assert_eq!(attempts, 1 + spent.infrastructure + spent.tests);
            prop_assert!(spent.lost_agents < MAX_LOST_AGENTS);
        }
    }
}
