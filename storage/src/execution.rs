//! Executions of a project: what was asked for, where it is, how it ended.

mod cancel;
mod child;
mod create;
mod group;
mod lane;
mod list;
mod pause;
mod pin;
mod quota;
mod recent;
mod rerun;
mod row;
mod search;
mod standing;
mod step;

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::{Effect, Event as LifeEvent, Lease, Lifecycle, State, Stop},
    id::{AgentId, AttemptId, ExecutionId, ProjectId},
    policy::{Policy, Spent},
    test_history::TestState,
};

use crate::{Error, Page, Request, Store, Written, attempt::Attempt, error::Source, test};

pub(crate) use cancel::end_steps;
pub use child::{Child, Origin, Role};
use create::PlanOf;
pub(crate) use create::{Numbered, Wanted};
pub(crate) use list::{newest_attempt, steps};
pub use muster_core::target::Target;
pub use pin::Pin;
pub(crate) use recent::Recent;
pub use rerun::{Former, Rerun};
pub(crate) use rerun::{counts_for, has_taken_over};
pub(crate) use row::{Change, Saved, record, save_all};
pub(crate) use search::KnownLabels;
pub use standing::{MOST_COUNTED, Standing};
pub use step::{StepOutput, StepResult, StepState};
pub(crate) use step::{end, reset};

/// One requested run of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Its project.
    pub project: ProjectId,
    /// Name of the workflow.
    pub workflow: String,
    /// Revision of the stored workflow; 0 for an inline manifest.
    pub workflow_revision: i64,
    /// Counts the executions of this workflow in this project from 1.
    pub number: i64,
    /// `{workflow}-{number}`, unique in the project.
    pub display_name: String,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Reason of the state, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The reason for people.
    pub message: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Labels of the workflow.
    pub labels: BTreeMap<String, String>,
    /// Config values as they may be shown.
    pub config: BTreeMap<String, String>,
    /// Where it may run.
    pub target: Target,
    /// Remarks on fields that have no effect.
    pub warnings: Vec<String>,
    /// Greater ones are placed first.
    pub priority: i32,
    /// Name of the caller.
    pub creator: String,
    /// When it was accepted.
    pub create_time: Timestamp,
    /// When it was last leased to an agent.
    pub assign_time: Option<Timestamp>,
    /// When the conductor began to walk the plan.
    pub start_time: Option<Timestamp>,
    /// When it became terminal.
    pub finish_time: Option<Timestamp>,
    /// It ends when it waits in the queue longer than this.
    pub queue_deadline: Option<Timestamp>,
    /// What is known of its log. The size of a live log is only right where one execution is
    /// read, not in lists.
    pub log: LogSummary,
    /// How many artifacts are complete.
    pub artifact_count: u32,
    /// Their bytes; of a part of them where some are from before this was counted.
    pub artifact_bytes: i64,
    /// Set when it is kept whatever the retention is.
    pub pin: Option<Pin>,
    /// When its log was deleted, its row left.
    pub logs_delete_time: Option<Timestamp>,
    /// When its artifacts were deleted, its row left.
    pub artifacts_delete_time: Option<Timestamp>,
    /// Set when another execution has started it.
    pub origin: Option<Origin>,
    /// Set when an earlier execution is run again.
    pub rerun: Option<Rerun>,
    /// What follows when an attempt ends badly.
    pub policy: Policy,
    /// How often it was tried again already.
    pub spent: Spent,
    /// With whom it shares its turn.
    pub concurrency: Option<Concurrency>,
    /// Agents where an attempt of it did not come far.
    pub avoid: Vec<AgentId>,
    /// When what it does now has taken too long: to start, to run, to end.
    pub deadline: Option<Timestamp>,
    /// Counts its changes; its etag.
    pub revision: i64,
}

/// A concurrency group: executions of a project that do not all run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// Its name in the project.
    pub group: String,
    /// How many of it may run; at least 1.
    pub most: u32,
}

impl Execution {
    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.lifecycle.state
    }
}

/// What is known of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// Bytes that are durable.
    pub size: i64,
    /// SHA-256 by the conductor, lower-case hexadecimal; `None` until it came.
    pub sha256: Option<String>,
    /// Every byte is here and the server computed the same SHA-256.
    pub complete: bool,
}

/// What an execution is called, reserved before its plan is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: ExecutionId,
    /// Name of the workflow.
    pub workflow: String,
    /// Its number.
    pub number: i64,
    /// `{workflow}-{number}`.
    pub display_name: String,
    /// When it counts as accepted.
    pub create_time: Timestamp,
}

/// An execution to be accepted.
#[derive(Debug, Clone)]
pub struct NewExecution {
    /// What it is called, from [`Executions::reserve`], or [`Identity::unnumbered`] for
    /// [`Executions::create_next`].
    pub identity: Identity,
    /// Revision of the stored workflow; 0 for an inline manifest.
    pub workflow_revision: i64,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Labels of the workflow.
    pub labels: BTreeMap<String, String>,
    /// Config values as they may be shown.
    pub config: BTreeMap<String, String>,
    /// Where it may run.
    pub target: Target,
    /// Remarks on fields that have no effect.
    pub warnings: Vec<String>,
    /// Greater ones are placed first.
    pub priority: i32,
    /// Name of the caller.
    pub creator: String,
    /// It ends when it waits in the queue longer than this.
    pub queue_deadline: Option<Timestamp>,
    /// The compiled plan; opaque here.
    pub plan: Bytes,
    /// The workflow that is run, a YAML document for people.
    pub resolved: Option<String>,
    /// Its steps, not reached yet.
    pub steps: Vec<StepResult>,
    /// Set when another execution starts it.
    pub origin: Option<Origin>,
    /// Set when an earlier execution is run again.
    pub rerun: Option<Rerun>,
    /// What follows when an attempt ends badly.
    pub policy: Policy,
    /// With whom it shares its turn.
    pub concurrency: Option<Concurrency>,
    /// Documents that members of a suite may be found in, when they came with the request.
    pub source: Option<String>,
}

/// One execution with what hangs on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The execution.
    pub execution: Execution,
    /// Results of its steps in document order.
    pub steps: Vec<StepResult>,
    /// What its steps gave out.
    pub outputs: Vec<StepOutput>,
    /// Its placements, oldest first.
    pub attempts: Vec<Attempt>,
    /// What it has started, at most 1,000.
    pub children: Vec<Execution>,
}

/// Which executions a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only of workflows whose name begins so.
    pub workflow_prefix: Option<String>,
    /// Only of this revision of the stored workflow.
    pub workflow_revision: Option<i64>,
    /// Only in one of these states; empty for all.
    pub states: Vec<State>,
    /// Only with all of these tags.
    pub tags: BTreeMap<String, String>,
    /// Only with all of these labels; a label without value may have any.
    pub labels: BTreeMap<String, Option<String>>,
    /// Only those that were accepted within this time.
    pub created: Period,
    /// Only those that have ended within this time.
    pub finished: Period,
    /// Only with an attempt on the agent of this name.
    pub agent: Option<String>,
    /// Only where reason or message holds this text; letters from A to Z match in either case.
    pub text: Option<String>,
    /// Only of this concurrency group.
    pub concurrency_group: Option<String>,
    /// Only with a result of one of these tests; its own, or of what it has started.
    pub tests: Option<Vec<test::Identity>>,
    /// Only where that result is one of these; empty for all.
    pub test_states: Vec<TestState>,
    /// Only what this execution has started; without it workers and services are left out.
    pub parent: Option<ExecutionId>,
}

/// A stretch of time, open where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// Earlier than this.
    pub until: Option<Timestamp>,
}

/// A change of an execution that was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The execution as it is now.
    pub execution: Execution,
    /// What is to be done now; each may be done again without harm.
    pub effects: Vec<Effect>,
}

/// An entry of an execution's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position, from 1.
    pub sequence: i64,
    /// When it was committed.
    pub time: Timestamp,
    /// What happened, `UPPER_SNAKE_CASE`.
    pub kind: String,
    /// The same for people.
    pub message: String,
}

/// The executions of one project.
#[derive(Debug)]
pub struct Executions<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

impl Executions<'_> {
    /// Takes the next number of a workflow. A number whose execution is never created stays
    /// unused, so validate what can be validated before.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the project is not there.
    pub async fn reserve(&self, workflow: &str) -> Result<Identity, Error> {
        self.reserve_number(workflow).await
    }

    /// Returns what an earlier request with this id made; asked before the work of compiling.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when the content was another.
    pub async fn replay(&self, request: &Request) -> Result<Option<Execution>, Error> {
        self.find_replay(request).await
    }

    /// Accepts an execution: row, plan, steps, first event and request id in one transaction,
    /// together with those that come at the same time.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`]; [`Error::AlreadyExists`] when the identity was used.
    pub async fn create(
        &self,
        new: NewExecution,
        request: Option<&Request>,
    ) -> Result<Written<Execution>, Error> {
        self.accept(new, None, request).await
    }

    /// The same for an execution that gets the next number of its workflow in the same transaction,
    /// so that none stays unused. The plan is what `plan` gives for its number, and may be asked for
    /// more than once, while the transaction waits.
    ///
    /// # Errors
    ///
    /// As [`Executions::create`]; [`Error::NotFound`] when the project is not there.
    pub async fn create_next(
        &self,
        new: NewExecution,
        plan: impl Fn(&Identity) -> Result<Bytes, Source> + Send + Sync + 'static,
        request: Option<&Request>,
    ) -> Result<Written<Execution>, Error> {
        self.accept(new, Some(PlanOf::new(plan)), request).await
    }

    /// Returns where a queued execution stands.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn standing(&self, execution: &Execution) -> Result<Standing, Error> {
        self.load_standing(execution).await
    }

    /// Returns executions of the concurrency group of another one that were made before it and are
    /// not over, the oldest first: as many as are too many beside it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn beyond_group(&self, newest: &Execution) -> Result<Vec<ExecutionId>, Error> {
        self.load_beyond_group(newest).await
    }

    /// Returns an execution.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ExecutionId) -> Result<Execution, Error> {
        self.store
            .read("get_execution", || self.load(self.store.reader(), id))
            .await
    }

    /// Returns the execution of a uid or a display name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn find(&self, name: &str) -> Result<Execution, Error> {
        self.load_by_name(name).await
    }

    /// Returns an execution with steps and attempts, all of one moment.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn details(&self, id: ExecutionId) -> Result<Details, Error> {
        self.load_details(id).await
    }

    /// Lists executions, newest first. Where few of many fit, a page may be shorter than wanted, or
    /// empty, and say where to go on: no call looks at more than a bounded number of executions.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Page<Execution, ExecutionId>, Error> {
        self.load_page(filter, after, limit).await
    }

    /// Returns the workflow that an execution ran, a YAML document; nothing when it is a part of its
    /// parent's, or can not be shown.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn resolved(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        self.load_resolved(id).await
    }

    /// Returns the plan of an execution.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn plan(&self, id: ExecutionId) -> Result<Bytes, Error> {
        self.load_plan(id).await
    }

    /// Returns what an attempt has started, by group and index.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn children(&self, attempt: AttemptId) -> Result<Vec<Child>, Error> {
        self.load_children(attempt).await
    }

    /// Returns children of an earlier execution, of one step and with these indices: the newest of each
    /// role and index, whichever attempt had it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn former_children(
        &self,
        of: ExecutionId,
        step: &str,
        indices: &[u32],
    ) -> Result<Vec<Former>, Error> {
        self.load_former(of, step, indices).await
    }

    /// Notes that children of a live attempt are not started, as they have passed in an earlier
    /// execution. What the attempt has noted already stays; what earlier attempts of its execution have
    /// goes, even if there is nothing new.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when the attempt or the earlier execution is gone;
    /// [`Error::IllegalTransition`] when the lease is lost.
    pub async fn take_over(
        &self,
        lease: Lease,
        children: &[(Origin, ExecutionId)],
    ) -> Result<(), Error> {
        self.note_taken_over(lease, children).await
    }

    /// Whether an execution has taken over another one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_taken_over(&self, id: ExecutionId, other: ExecutionId) -> Result<bool, Error> {
        self.find_taken_over(id, other).await
    }

    /// Returns the executions that an execution comes from, its parent first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn ancestors(&self, id: ExecutionId) -> Result<Vec<Execution>, Error> {
        self.load_ancestors(id).await
    }

    /// Returns the documents that came with the request of an execution.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn source(&self, id: ExecutionId) -> Result<Option<String>, Error> {
        self.load_source(id).await
    }

    /// Returns what happened to an execution, oldest first, after a sequence (0 for all).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn events(
        &self,
        id: ExecutionId,
        after: i64,
        limit: u32,
    ) -> Result<Page<Event, i64>, Error> {
        self.load_events(id, after, limit).await
    }

    /// Asks for the end of an execution. One that is terminal stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn cancel(
        &self,
        id: ExecutionId,
        stop: Stop,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Changed, Error> {
        self.request_stop(id, stop, message, request).await
    }

    /// Asks that all processes of an execution stop for a while.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::IllegalTransition`] when nothing of it runs.
    pub async fn pause(
        &self,
        id: ExecutionId,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Changed, Error> {
        self.request_pause(id, LifeEvent::Pause, message, request)
            .await
    }

    /// Keeps an execution whatever the retention is, with all that belongs to it. A second pin takes the
    /// place of the first.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn pin(
        &self,
        id: ExecutionId,
        pin: &Pin,
        request: Option<&Request>,
    ) -> Result<Execution, Error> {
        self.set_pin(id, Some(pin), "PINNED", &pin.message, request)
            .await
    }

    /// Takes a pin away; `message` says who does.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn unpin(
        &self,
        id: ExecutionId,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Execution, Error> {
        self.set_pin(id, None, "UNPINNED", message, request).await
    }

    /// Asks that an execution goes on which is paused, or is to be.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::IllegalTransition`] when it is not paused.
    pub async fn resume(
        &self,
        id: ExecutionId,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Changed, Error> {
        self.request_pause(id, LifeEvent::Resume, message, request)
            .await
    }
}
