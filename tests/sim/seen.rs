//! What is stored, as a reader sees it at one moment.

use std::collections::BTreeMap;

use muster_core::execution::State;

/// All executions, by id.
pub(crate) type Sight = BTreeMap<String, Execution>;

/// One execution with what hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    /// The tag by which its submit is known.
    pub(crate) submit: String,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) revision: i64,
    pub(crate) last_epoch: i64,
    /// The live lease: attempt and epoch.
    pub(crate) lease: Option<(String, i64)>,
    /// When it became terminal, in milliseconds.
    pub(crate) finish_time: Option<i64>,
    pub(crate) pause_wanted: bool,
    pub(crate) log: Log,
    pub(crate) attempts: Vec<Attempt>,
    /// Sequence and kind of each event.
    pub(crate) events: Vec<(i64, String)>,
}

/// What is known of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Log {
    pub(crate) size: i64,
    pub(crate) sha256: String,
    pub(crate) complete: bool,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) epoch: i64,
    pub(crate) agent: String,
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) sequence: i64,
    pub(crate) log_offset: i64,
    pub(crate) finish_time: Option<i64>,
}

/// How an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Live,
    Completed,
    Declined,
    Lost,
}
