//! The simulated backend: pods of one cluster. They go on while no agent is there, as pods do.

use std::collections::BTreeMap;

use muster_core::execution::State;

use crate::op::End;

/// The pods of one cluster, by attempt.
pub(crate) type Cluster = BTreeMap<String, Pod>;

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Images are pulled.
    Preparing,
    /// The conductor walks the plan.
    Running,
    /// Every process is stopped.
    Paused,
    /// The steps are over.
    Finishing,
    /// The completion record is there.
    Completed(State),
}

/// What runs an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) epoch: i64,
    pub(crate) stage: Stage,
    /// All that it printed; its place in the ledger's list of the attempt.
    pub(crate) log: Vec<u8>,
    pub(crate) incarnation: usize,
    /// Grows with every change.
    pub(crate) version: u64,
    /// How its completion record speaks of the log.
    pub(crate) end: End,
    /// A wish to end it: whether by force.
    pub(crate) cancel: Option<bool>,
    /// The newest wish to pause it, and its sequence.
    pub(crate) pause: (i64, bool),
}

impl Pod {
    /// A pod that is being made.
    pub(crate) const fn new(epoch: i64, incarnation: usize) -> Self {
        Self {
            epoch,
            stage: Stage::Preparing,
            log: Vec::new(),
            incarnation,
            version: 1,
            end: End::Passed,
            cancel: None,
            pause: (0, false),
        }
    }

    /// Goes one phase on; `end` says how it ends, unless somebody wants it to end.
    pub(crate) fn walk(&mut self, end: End) {
        let (sequence, paused) = self.pause;
        let next = match self.stage {
            Stage::Completed(_) => return,
            Stage::Finishing => {
                self.end = end;
                match (self.cancel, end) {
                    (Some(_), _) => Stage::Completed(State::Canceled),
                    (None, End::Passed | End::WrongDigest | End::ShortLog) => {
                        Stage::Completed(State::Passed)
                    }
                    (None, End::Failed) => Stage::Completed(State::Failed),
                    (None, End::TimedOut) => Stage::Completed(State::TimedOut),
                }
            }
            Stage::Preparing | Stage::Running | Stage::Paused if self.cancel.is_some() => {
                Stage::Finishing
            }
            Stage::Preparing => Stage::Running,
            Stage::Running if sequence > 0 && paused => Stage::Paused,
            Stage::Running => Stage::Finishing,
            Stage::Paused if paused => return,
            Stage::Paused => Stage::Running,
        };
        self.stage = next;
        self.version += 1;
    }

    /// Prints bytes that no other pod prints.
    pub(crate) fn print(&mut self, salt: u64, bytes: u16) {
        if matches!(self.stage, Stage::Preparing | Stage::Completed(_)) {
            return;
        }
        let start = self.log.len() as u64;
        let text = (start..start + u64::from(bytes)).map(|at| {
            let mixed = (at ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7);
            mixed.to_be_bytes()[3]
        });
        self.log.extend(text);
    }
}
