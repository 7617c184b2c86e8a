//! What is kept of a project and what goes: units with what a judge has to know of them, their
//! deletion, sums of space, and blobs that no row names. What goes is decided by
//! `muster_core::retention`; the blobs themselves are deleted by the caller.

mod claim;
mod delete;
mod doomed;
mod orphan;
mod unit;
mod usage;

use jiff::Timestamp;
use muster_core::id::{ExecutionId, ProjectId};
use sea_orm::{ConnectionTrait, ExecResult, Statement, Value};

use crate::{Store, transaction::Failure};

pub use claim::Turn;
pub use unit::Candidate;
pub use usage::{Space, Usage};

/// How many ids go into one statement.
const CHUNK: usize = 500;
/// Most generations: deeper suites are refused before.
const GENERATIONS: usize = 64;

/// What is kept of one project.
#[derive(Debug)]
pub struct Retained<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

/// Turns of servers, and blobs that are to go, of all projects.
#[derive(Debug)]
pub struct Keeper<'a> {
    pub(crate) store: &'a Store,
}

/// How much of a unit is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Everything.
    All,
    /// What hangs on it; the rows stay.
    Files {
        /// Its logs.
        logs: bool,
        /// Its artifacts.
        artifacts: bool,
    },
}

/// What became of a wish to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is deleted; the blobs are noted and go soon.
    Deleted(Deleted),
    /// The same request has done it before.
    Repeated,
    /// It stays.
    Kept(Kept),
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// All that belonged to it, itself first.
    pub ids: Vec<ExecutionId>,
    /// Its name for people.
    pub display_name: String,
    /// Bytes of its logs, as they were printed.
    pub log_bytes: u64,
    /// Bytes of its artifacts.
    pub artifact_bytes: u64,
    /// How many blobs go.
    pub blobs: u64,
}

/// Why nothing was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It belongs to another execution, and goes with that one.
    Child {
        /// Id of the execution that it all began with.
        root: ExecutionId,
    },
    /// Something of it has not ended.
    Unfinished,
    /// A rerun has taken over parts of it, and has not ended.
    TakenOver,
    /// Bytes of a log may still come.
    LogOpen,
    /// The project is under hold.
    Held {
        /// Until when.
        until: Timestamp,
        /// Who wants it, and why.
        message: String,
    },
    /// It is pinned, or something of it.
    Pinned,
}

/// Runs a statement with values.
async fn execute<C: ConnectionTrait>(
    db: &C,
    sql: String,
    values: Vec<Value>,
) -> Result<ExecResult, Failure> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
    Ok(db.execute_raw(statement).await?)
}

/// `$first, …`: places of so many values.
fn places(first: usize, count: usize) -> String {
    let places = (first..first + count).map(|place| format!("${place}"));
    places.collect::<Vec<_>>().join(", ")
}
