//! What was told to callers and agents, and what agents told: the outside of the promises.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::execution::State;

/// Everything that was said.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Submits by their tag.
    pub(crate) submits: BTreeMap<String, Submit>,
    /// Executions that a caller was told to be terminal, and how.
    pub(crate) told_terminal: BTreeMap<String, State>,
    /// Attempts that an agent has heard of.
    pub(crate) attempts: BTreeMap<String, Spoken>,
    /// Executions whose cancel a caller was told to be accepted, and how many attempts they had.
    pub(crate) canceled: BTreeMap<String, i64>,
    /// When the newest server started, in milliseconds of the clock.
    pub(crate) server_start: i64,
}

/// A submit.
#[derive(Debug, Default)]
pub(crate) struct Submit {
    /// The execution that it was answered with.
    pub(crate) answer: Option<String>,
}

/// What was said of an attempt.
#[derive(Debug, Default, Clone)]
pub(crate) struct Spoken {
    pub(crate) execution: String,
    pub(crate) epoch: i64,
    pub(crate) agent: usize,
    /// What its pods printed, one after the other.
    pub(crate) printed: Vec<Vec<u8>>,
    /// Outcomes of the completion records that were sent under its lease.
    pub(crate) outcomes: BTreeSet<State>,
    /// A record was sent whose digest is not that of what was printed.
    pub(crate) false_digest: bool,
    /// A record with the right digest was sent after all of the log was acknowledged.
    pub(crate) true_digest: bool,
    /// A completion record was acknowledged.
    pub(crate) completion_acknowledged: bool,
    /// Log bytes that were acknowledged.
    pub(crate) durable: i64,
    /// Greatest sequence that was acknowledged.
    pub(crate) sequence: i64,
    /// When its lease was last known to be renewed, in milliseconds of the clock.
    pub(crate) renewed: i64,
}
