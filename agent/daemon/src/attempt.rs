//! One attempt: all that this process knows of it, and what is to be reported.
//!
//! Backend, relay and link change it through its methods and watch it for changes; nobody sends
//! messages about it. Its life is driven by [`supervise`]; what its lease allows is in [`leased`].

mod connection;
mod leased;
mod snapshot;
pub(crate) mod supervise;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use muster_core::id::AttemptId;
use muster_proto::{
    runner::v1::{Completed, ContainerStatus, Progress},
    v1::{Assignment, AttemptReport, CancelAttempt, PauseAttempt, StepOutput, StepResult},
};
use muster_spec::plan::{PLAN_VERSION, Plan};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(crate) use self::connection::Orders;

/// What there is to do.
#[derive(Debug)]
pub(crate) struct Work {
    /// UUID of the execution.
    pub(crate) execution: String,
    /// Name of the project.
    pub(crate) project: String,
    /// Display name of the execution.
    pub(crate) display_name: String,
    /// Longest log in bytes; 0 for no limit.
    pub(crate) max_log: u64,
    /// Artifacts of so many bytes may go to the object store directly; 0 for none.
    pub(crate) direct_from: u64,
    /// The plan as the server sent it.
    pub(crate) bytes: Bytes,
    /// The same, read.
    pub(crate) plan: Plan,
}

impl Work {
    fn read(assignment: Assignment) -> Result<Self, String> {
        let plan: Plan = serde_json::from_slice(&assignment.plan)
            .map_err(|error| format!("the plan is not readable: {error}"))?;
        if plan.version > PLAN_VERSION {
            return Err(format!(
                "the plan has version {} and this agent reads up to {PLAN_VERSION}; upgrade the agent",
                plan.version
            ));
        }
        Ok(Self {
            execution: assignment.execution,
            project: assignment.project,
            display_name: assignment.display_name,
            max_log: u64::try_from(assignment.max_log_bytes).unwrap_or(0),
            direct_from: u64::try_from(assignment.direct_upload_from_bytes).unwrap_or(0),
            bytes: assignment.plan,
            plan,
        })
    }
}

/// Why an attempt is over for this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The server has its result: clean up.
    Committed,
    /// Its lease is lost, or was given back: kill it and say nothing.
    Killed,
}

/// What an attempt may have behind it when this process hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Past {
    /// Nothing was ever made for it.
    #[default]
    None,
    /// The backend has it.
    Found,
    /// It has begun, by the journal or by what the server has heard of it, and the backend did not
    /// name it: it has to be asked.
    Unsure,
}

/// The place of an attempt as the backend and the conductor tell.
#[derive(Debug, Clone, Default)]
enum Stage {
    /// Pod and images are on their way.
    #[default]
    Preparing,
    /// The conductor has spoken.
    Progress(Progress),
    /// The completion record is here.
    Completed(Box<Completed>),
    /// It ended without one.
    Lost,
}

/// How far a result is told whose lease is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Late {
    /// Its lease is not lost, as far as is known.
    #[default]
    No,
    /// It is to be told.
    Waits,
    /// It was told, and heard or not.
    Told,
}

#[derive(Debug, Default)]
struct State {
    work: Option<Arc<Work>>,
    stage: Stage,
    reason: String,
    message: String,
    steps: Vec<StepResult>,
    outputs: Vec<StepOutput>,
    warnings: Vec<String>,
    start_time_ms: i64,
    /// Sequence of the newest snapshot; 0 before the first.
    sequence: i64,
    /// Sequence up to which the server has committed.
    committed: i64,
    /// Snapshots of the conductor that the server has.
    committed_progress: u64,
    containers: BTreeMap<String, ContainerStatus>,
    cancel: Option<(CancelAttempt, Instant)>,
    /// The newest wish to pause it or to let it go on.
    pause: Option<PauseAttempt>,
    /// Why the cluster ends the pod, as `(reason, message)`.
    stopped: Option<(String, String)>,
    /// Bytes of the log that the server has.
    durable: u64,
    /// Bytes of the log that the conductor does not have any more.
    log_start: u64,
    /// Where other pods reach it; empty until known.
    address: String,
    /// The cluster says that its containers are ready.
    ready: bool,
    /// It is a service that was ready, by its conductor, its cluster or an earlier report.
    was_ready: bool,
    /// No more of the log will come: a completion record may go without the rest.
    log_is_over: bool,
    /// Number of the newest control connection; 0 when there is none.
    connection: u64,
    connections: u64,
    past: Past,
    /// Something may be there that has to be killed.
    begun: bool,
    /// When the newest renewal was sent that is proven to have reached the server.
    proven: Option<Instant>,
    /// Kill it when nothing is proven for this long.
    stop_after: Option<Duration>,
    /// Why it is given back, as `(reason, message)`.
    declined: Option<(&'static str, String)>,
    late: Late,
    end: Option<End>,
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Its id.
    pub(crate) id: AttemptId,
    /// Epoch of its lease.
    pub(crate) epoch: i64,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    wake: Arc<Notify>,
}

impl Attempt {
    /// An attempt of which nothing is known yet; `wake` is told of every change to report.
    pub(crate) fn new(id: AttemptId, epoch: i64, past: Past, wake: Arc<Notify>) -> Self {
        let state = State {
            past,
            begun: past != Past::None,
            ..State::default()
        };
        Self {
            id,
            epoch,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            wake,
        }
    }

    /// Is told after every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state; a new snapshot when `change` says so.
    fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            if change(&mut state) {
                state.sequence += 1;
            }
        }
        self.changed.send_replace(());
        self.wake.notify_one();
    }

    /// Takes the work; a plan that can not be read makes the attempt lost.
    pub(crate) fn assign(&self, assignment: Assignment) {
        self.stop_after(assignment.stop_after.as_ref());
        if self.work().is_some() {
            return;
        }
        match Work::read(assignment) {
            Ok(work) => self.update(|state| {
                state.work = Some(Arc::new(work));
                false
            }),
            Err(message) => self.lost("PLAN_UNREADABLE", &message),
        }
    }

    /// Goes on from what the server knows: the sequence of reports and the durable log.
    pub(crate) fn resume(&self, sequence: i64, log_offset: u64) {
        self.update(|state| {
            let held = !snapshot::is_terminal(state);
            state.durable = state.durable.max(log_offset);
            // The word that the rest of the log is durable may have been lost with its stream.
            let ready = held && snapshot::is_terminal(state);
            let ahead = state.sequence > state.committed;
            // Less than it has acknowledged where a backup of its database was restored.
            state.committed = sequence;
            if state.sequence <= sequence {
                state.sequence = sequence;
                // A snapshot with a number that the server counts as old needs a new one.
                return ready || (ahead && !matches!(state.stage, Stage::Preparing));
            }
            ready
        });
    }

    /// What there is to do, once it is known.
    pub(crate) fn work(&self) -> Option<Arc<Work>> {
        self.lock().work.clone()
    }

    /// What the plan asks for and has no effect here; told with every report from now on.
    pub(crate) fn warn(&self, warnings: Vec<String>) {
        self.lock().warnings = warnings;
    }

    /// Whether it is a service of another execution.
    fn is_service(state: &State) -> bool {
        let work = state.work.as_ref();
        work.is_some_and(|work| work.plan.service.is_some())
    }

    /// Whether it takes no slot: it is a service, which lives with its owner, or it does nothing
    /// but wait for children that need slots themselves.
    pub(crate) fn is_exempt(&self) -> bool {
        let state = self.lock();
        let waits = match &state.stage {
            Stage::Progress(progress) => progress.waiting,
            Stage::Preparing | Stage::Completed(_) | Stage::Lost => false,
        };
        waits || Self::is_service(&state)
    }

    /// Where other pods reach it.
    pub(crate) fn address(&self, address: &str) {
        self.update(|state| {
            let new = Self::is_service(state) && state.address != address;
            if new {
                address.clone_into(&mut state.address);
            }
            new && state.sequence > 0
        });
    }

    /// Whether the cluster says that its containers are ready.
    pub(crate) fn ready(&self, ready: bool) {
        self.update(|state| {
            let new = Self::is_service(state) && state.ready != ready;
            if new {
                state.ready = ready;
                state.was_ready |= ready;
            }
            new && state.sequence > 0
        });
    }

    /// It is a service that was ready, by what an agent before this one has reported.
    pub(crate) fn was_ready(&self) {
        self.lock().was_ready = true;
    }

    /// The pod is on its way, and what it waits for.
    pub(crate) fn preparing(&self, reason: &str, message: &str) {
        self.update(|state| {
            let first = state.sequence == 0;
            if !matches!(state.stage, Stage::Preparing)
                || (!first && state.reason == reason && state.message == message)
            {
                return false;
            }
            reason.clone_into(&mut state.reason);
            message.clone_into(&mut state.message);
            true
        });
    }

    /// The backend says that there will be no completion record. A record that came before wins.
    pub(crate) fn lost(&self, reason: &str, message: &str) {
        self.update(|state| match state.stage {
            Stage::Completed(_) => {
                let held = !snapshot::is_terminal(state);
                state.log_is_over = true;
                held
            }
            Stage::Lost => false,
            Stage::Preparing | Stage::Progress(_) => {
                state.stage = Stage::Lost;
                reason.clone_into(&mut state.reason);
                message.clone_into(&mut state.message);
                true
            }
        });
    }

    /// The cluster ends the pod. The conductor only sees a signal: where its record says
    /// `ABORTED`, this says why.
    pub(crate) fn stopped(&self, reason: &str, message: &str) {
        self.update(|state| {
            if state.stopped.is_some() {
                return false;
            }
            state.stopped = Some((reason.to_owned(), message.to_owned()));
            matches!(state.stage, Stage::Completed(_))
        });
    }

    /// A snapshot of the conductor.
    pub(crate) fn progress(&self, progress: Progress) {
        self.update(|state| {
            if let Stage::Progress(last) = &state.stage
                && progress.sequence <= last.sequence
            {
                return false;
            }
            if !matches!(state.stage, Stage::Preparing | Stage::Progress(_)) {
                return false;
            }
            state.reason.clear();
            state.message.clear();
            snapshot::take_steps(state, &progress);
            state.was_ready |= progress.ready;
            if Self::is_service(state) && !state.was_ready {
                snapshot::tell_trouble(state, &progress);
            }
            state.stage = Stage::Progress(progress);
            true
        });
    }

    /// The completion record. It is reported once the log is durable.
    pub(crate) fn completed(&self, record: Completed) {
        self.update(|state| {
            if !matches!(state.stage, Stage::Preparing | Stage::Progress(_)) {
                return false;
            }
            if let Some(progress) = &record.progress {
                snapshot::take_steps(state, progress);
            }
            state.reason.clear();
            state.message.clear();
            state.stage = Stage::Completed(Box::new(record));
            true
        });
    }

    /// What the cluster says of a container.
    pub(crate) fn container(&self, status: ContainerStatus) {
        self.update(|state| {
            state.containers.insert(status.container.clone(), status);
            false
        });
    }

    /// A wish to end it; the strongest one stays.
    pub(crate) fn cancel(&self, order: CancelAttempt) {
        self.update(|state| {
            let stronger = match &state.cancel {
                None => true,
                Some((held, _)) => order.force && !held.force,
            };
            if stronger {
                state.cancel = Some((order, Instant::now()));
            }
            false
        });
    }

    /// A wish to pause it or to let it go on; the newest one stays.
    pub(crate) fn pause(&self, order: PauseAttempt) {
        self.update(|state| {
            let held = state.pause.as_ref().map_or(0, |held| held.sequence);
            if order.sequence > held {
                state.pause = Some(order);
            }
            false
        });
    }

    /// The wish to end it and when it came.
    pub(crate) fn canceled(&self) -> Option<(CancelAttempt, Instant)> {
        self.lock().cancel.clone()
    }

    /// The server has all bytes of the log below `offset`.
    pub(crate) fn durable(&self, offset: u64) {
        self.update(|state| {
            if offset <= state.durable {
                return false;
            }
            let held = !snapshot::is_terminal(state);
            state.durable = offset;
            held && snapshot::is_terminal(state)
        });
    }

    /// How much of the log the server has, as it says when a stream begins. It may be less than it has
    /// acknowledged, where a backup of its database was restored: the conductor sends the rest again,
    /// as far as it still has it.
    pub(crate) fn begin_log(&self, offset: u64) {
        self.update(|state| {
            let held = !snapshot::is_terminal(state);
            state.durable = offset;
            held && snapshot::is_terminal(state)
        });
    }

    /// The conductor has dropped what is below `offset`, which was durable.
    pub(crate) fn drop_log(&self, offset: u64) {
        self.update(|state| {
            state.log_start = state.log_start.max(offset);
            false
        });
        self.durable(offset);
    }

    /// The first byte of the log that the conductor still has, as far as is known.
    pub(crate) fn log_start(&self) -> u64 {
        self.lock().log_start
    }

    /// How much of the log the server has, as far as is known.
    pub(crate) fn durable_offset(&self) -> u64 {
        self.lock().durable
    }

    /// The snapshot to report, if the server does not have it.
    pub(crate) fn report(&self) -> Option<AttemptReport> {
        let mut state = self.lock();
        if state.end.is_some() || state.sequence <= state.committed {
            return None;
        }
        if state.late == Late::Waits {
            state.late = Late::Told;
        }
        Some(snapshot::report(self, &state))
    }

    /// The sequence of the snapshot that the server does not have.
    pub(crate) fn unreported(&self) -> Option<i64> {
        let state = self.lock();
        (state.end.is_none() && state.sequence > state.committed).then_some(state.sequence)
    }

    /// The server has committed reports up to `sequence`.
    pub(crate) fn acknowledge(&self, sequence: i64) {
        self.update(|state| {
            state.committed = state.committed.max(sequence);
            if state.committed >= state.sequence {
                if let Stage::Progress(progress) = &state.stage {
                    state.committed_progress = progress.sequence;
                }
                if snapshot::is_terminal(state) {
                    state.end = Some(End::Committed);
                }
            }
            false
        });
    }

    /// It is over for this agent.
    pub(crate) fn finish(&self, end: End) {
        self.update(|state| {
            state.end = Some(end);
            false
        });
    }

    /// Whether and why it is over for this agent.
    pub(crate) fn end(&self) -> Option<End> {
        self.lock().end
    }

    /// Whether its process is over: lost, or its record is here.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.lock();
        state.end.is_some() || matches!(state.stage, Stage::Lost | Stage::Completed(_))
    }

    /// Whether it is lost, and why.
    pub(crate) fn is_lost(&self) -> Option<String> {
        let state = self.lock();
        matches!(state.stage, Stage::Lost).then(|| state.message.clone())
    }
}

#[cfg(test)]
mod tests;
