//! The agents' side of the server: sessions, what they hold, and the words for them.
//!
//! The stream's handler is in `session`, who gets which work in `dispatch`, log and artifact
//! uploads in `ingest` and `upload`, uploads that broke in `kept`, uploads around the server in `direct`.

pub(crate) mod direct;
pub(crate) mod dispatch;
pub(crate) mod ingest;
mod kept;
mod pace;
mod seal;
pub(crate) mod segment;
pub(crate) mod session;
pub(crate) mod upload;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use muster_core::{
    execution::{Cause, Lease, Pause, Stop},
    id::{AgentId, AttemptId, SessionId},
    schedule::Lane,
};
use muster_proto::v1::{
    CancelAttempt, Credit, LinkResponse, PauseAttempt, Refusal, execution, link_response::Message,
    refusal::Reason,
};
use muster_storage::{
    agent::Agent,
    execution::{Execution, Role},
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use dispatch::Looked;
pub(crate) use ingest::Ingests;

/// Messages that may wait for a slow agent.
pub(crate) const OUTBOX: usize = 256;
/// Most searches that run at once.
const MOST_SEARCHING: usize = 2;
/// Most logs that are sealed at once: each is read and written whole.
const MOST_SEALING: usize = 2;

/// A stream of an agent as others in this process see it.
#[derive(Debug)]
struct Session {
    id: SessionId,
    outbox: mpsc::Sender<LinkResponse>,
    stop: CancellationToken,
    /// Who it is, once it is reconciled and may get work.
    agent: Option<Arc<Agent>>,
    /// The labels that targets are compared with.
    labels: Arc<BTreeMap<String, String>>,
    /// How many more attempts it asked for.
    credit: u32,
    /// How many of what it holds take no slot.
    exempt: u32,
    /// What it holds.
    held: HashSet<AttemptId>,
    /// Somebody wants it to take no new work.
    cordoned: bool,
    /// There may be orders that this process did not give.
    orders: Arc<Notify>,
}

/// All streams of this process, and which attempt is on which.
#[derive(Debug, Default)]
struct Sessions {
    agents: HashMap<AgentId, Session>,
    holders: HashMap<AttemptId, AgentId>,
    /// Agents that were heard of and are not noted in the store yet.
    seen: HashSet<AgentId>,
}

/// An agent that can take work now.
#[derive(Debug, Clone)]
struct Taker {
    agent: Arc<Agent>,
    labels: Arc<BTreeMap<String, String>>,
    outbox: mpsc::Sender<LinkResponse>,
    room: u32,
}

/// The agents' side of the server.
#[derive(Debug)]
pub(crate) struct Link {
    sessions: Mutex<Sessions>,
    pub(crate) ingests: Arc<Ingests>,
    /// Artifacts that come, or broke.
    uploads: Arc<kept::Uploads>,
    /// How fast logs of projects may come.
    paces: pace::Paces,
    /// Turns for reading reports.
    pub(crate) reading: tokio::sync::Semaphore,
    /// Turns for telling how long values of shards take.
    pub(crate) weighing: tokio::sync::Semaphore,
    /// Turns for searching logs.
    pub(crate) searching: tokio::sync::Semaphore,
    /// Turns for sealing logs.
    sealing: tokio::sync::Semaphore,
    /// Held by who gives something to agents, from seeing their room until it is taken.
    giving: Arc<tokio::sync::Mutex<()>>,
    /// How the last look at the queue ended.
    looked: watch::Sender<Looked>,
    /// Ends all streams when the server stops.
    pub(crate) drain: CancellationToken,
    /// Renewals came that could not be stored.
    missed: AtomicBool,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            ingests: Arc::default(),
            uploads: Arc::default(),
            paces: pace::Paces::default(),
            reading: tokio::sync::Semaphore::new(crate::app::MOST_READING),
            weighing: tokio::sync::Semaphore::new(crate::app::MOST_ANSWERED),
            searching: tokio::sync::Semaphore::new(MOST_SEARCHING),
            sealing: tokio::sync::Semaphore::new(MOST_SEALING),
            giving: Arc::default(),
            looked: watch::Sender::default(),
            drain: CancellationToken::new(),
            missed: AtomicBool::new(false),
        }
    }

    /// Whether no agent has a stream.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().agents.is_empty()
    }

    /// Puts a stream in the place of the agent's older one, which is told so.
    fn enter(
        &self,
        agent: AgentId,
        id: SessionId,
        outbox: &mpsc::Sender<LinkResponse>,
        stop: &CancellationToken,
        orders: &Arc<Notify>,
    ) {
        let session = Session {
            id,
            outbox: outbox.clone(),
            stop: stop.clone(),
            agent: None,
            labels: Arc::default(),
            credit: 0,
            exempt: 0,
            held: HashSet::new(),
            cordoned: false,
            orders: Arc::clone(orders),
        };
        let mut sessions = self.lock();
        if let Some(older) = sessions.agents.insert(agent, session) {
            if older.id != id {
                let refusal = Refusal {
                    reason: Reason::Superseded.into(),
                    message: "a newer process of this agent has connected".to_owned(),
                    ..Refusal::default()
                };
                send(&older.outbox, Message::Refusal(refusal));
            }
            older.stop.cancel();
        }
        metrics::gauge!(crate::metrics::AGENTS).set(count(sessions.agents.len()));
    }

    /// Takes a stream away, unless a newer one has its place.
    fn leave(&self, agent: AgentId, outbox: &mpsc::Sender<LinkResponse>) {
        let mut sessions = self.lock();
        if sessions.own(agent, outbox).is_some() {
            sessions.agents.remove(&agent);
            sessions.holders.retain(|_, holder| *holder != agent);
            sessions.seen.insert(agent);
        }
        metrics::gauge!(crate::metrics::AGENTS).set(count(sessions.agents.len()));
    }

    /// The stream is reconciled: from here on its agent may get work.
    fn ready(&self, agent: &Agent, outbox: &mpsc::Sender<LinkResponse>) {
        if let Some(session) = self.lock().own(agent.id, outbox) {
            session.cordoned = agent.cordon.is_some();
            session.labels = Arc::new(agent.target_labels());
            session.agent = Some(Arc::new(agent.clone()));
        }
    }

    /// Takes note of how much work an agent asks for.
    fn set_credit(&self, agent: AgentId, outbox: &mpsc::Sender<LinkResponse>, credit: Credit) {
        if let Some(session) = self.lock().own(agent, outbox) {
            session.credit = credit.slots;
            session.exempt = credit.exempt;
        }
    }

    /// Agents that can take work. No agent gets more than it asked
    /// for, nor more than it said it can hold: a credit may have crossed an assignment on the way.
    fn takers(&self) -> Vec<Taker> {
        let sessions = self.lock();
        sessions
            .agents
            .values()
            .filter(|session| session.credit > 0 && !session.cordoned)
            .filter(|session| !session.stop.is_cancelled())
            .filter_map(|session| {
                let agent = session.agent.as_ref()?;
                let held = u32::try_from(session.held.len()).unwrap_or(u32::MAX);
                let most = agent.told.capacity.saturating_add(session.exempt);
                let room = session.credit.min(most.saturating_sub(held));
                (room > 0).then(|| Taker {
                    agent: Arc::clone(agent),
                    labels: Arc::clone(&session.labels),
                    outbox: session.outbox.clone(),
                    room,
                })
            })
            .collect()
    }

    /// Whether an agent is there that could take something of these lanes, if it had room.
    fn accepts_any(&self, lanes: &[Lane]) -> bool {
        if lanes.is_empty() {
            return false;
        }
        let agents: Vec<_> = {
            let sessions = self.lock();
            let agents = sessions.agents.values().filter(|session| !session.cordoned);
            let agents = agents.filter_map(|session| {
                let agent = Arc::clone(session.agent.as_ref()?);
                Some((agent, Arc::clone(&session.labels)))
            });
            agents.collect()
        };
        let accepts = |lane: &Lane| {
            let mut agents = agents.iter();
            agents.any(|(agent, labels)| lane.accepts(labels, &agent.projects))
        };
        lanes.iter().any(accepts)
    }

    /// An agent got work; whether this is still its stream.
    fn spend(
        &self,
        agent: AgentId,
        outbox: &mpsc::Sender<LinkResponse>,
        attempt: AttemptId,
    ) -> bool {
        let mut sessions = self.lock();
        let Some(session) = sessions.own(agent, outbox) else {
            return false;
        };
        session.credit = session.credit.saturating_sub(1);
        session.held.insert(attempt);
        sessions.holders.insert(attempt, agent);
        true
    }

    /// Takes note of who holds an attempt.
    fn hold(&self, attempt: AttemptId, agent: AgentId) {
        let mut sessions = self.lock();
        if let Some(session) = sessions.agents.get_mut(&agent) {
            session.held.insert(attempt);
            sessions.holders.insert(attempt, agent);
        }
    }

    /// What an agent holds, as far as this process knows.
    fn held(&self, agent: AgentId) -> HashSet<AttemptId> {
        let sessions = self.lock();
        let session = sessions.agents.get(&agent);
        session.map_or_else(HashSet::new, |session| session.held.clone())
    }

    /// Whether an agent has a stream to this process.
    pub(crate) fn is_connected(&self, agent: AgentId) -> bool {
        self.lock().agents.contains_key(&agent)
    }

    /// Takes note that an agent lives.
    fn hear_of(&self, agent: AgentId) {
        self.lock().seen.insert(agent);
    }

    /// Takes note that an agent lives and its leases could not be renewed.
    pub(crate) fn miss_renewals(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }

    /// Whether leases could not be renewed since the last call.
    pub(crate) fn take_missed_renewals(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }

    /// Agents that were heard of since the last call.
    pub(crate) fn take_seen(&self) -> Vec<AgentId> {
        mem::take(&mut self.lock().seen).into_iter().collect()
    }

    /// Closes the stream of an agent whose token is not good any more, or that should connect
    /// again.
    pub(crate) fn disconnect(&self, agent: AgentId) {
        if let Some(session) = self.lock().agents.get(&agent) {
            session.stop.cancel();
        }
    }

    /// Tells the agent to end an attempt. One that is not connected hears it in its welcome.
    pub(crate) fn stop_attempt(&self, lease: Lease, stop: Stop, execution: &Execution) {
        let sessions = self.lock();
        if let Some(session) = sessions.of(lease.attempt) {
            let cancel = cancel_attempt(lease, stop, execution);
            send(&session.outbox, Message::Cancel(cancel));
        }
    }

    /// Tells the agent to pause an attempt or to let it go on. One that is not connected hears it
    /// in its welcome.
    pub(crate) fn pause_attempt(&self, lease: Lease, pause: Pause) {
        let sessions = self.lock();
        if let Some(session) = sessions.of(lease.attempt)
            && let Some(order) = pause_attempt(lease, pause)
        {
            send(&session.outbox, Message::Pause(order));
        }
    }

    /// The attempt is over.
    pub(crate) fn close_attempt(&self, attempt: AttemptId) {
        self.uploads.forget(attempt);
        self.lock().release(attempt);
    }

    /// The attempt is not its agent's any more: one that is connected is told to kill it, another
    /// one hears it in its welcome.
    pub(crate) fn revoke_attempt(&self, lease: Lease) {
        self.uploads.forget(lease.attempt);
        if let Some(session) = self.lock().release(lease.attempt) {
            let refusal = Refusal {
                attempt: lease.attempt.to_string(),
                epoch: lease.epoch,
                reason: Reason::LeaseLost.into(),
                message: "the attempt was taken from this agent; stop it".to_owned(),
            };
            send(&session.outbox, Message::Refusal(refusal));
        }
    }

    /// Another server may have given an order for an attempt, or for any: the stream of its agent
    /// looks for it.
    pub(crate) fn look_for_orders(&self, attempt: Option<AttemptId>) {
        let sessions = self.lock();
        match attempt {
            Some(attempt) => {
                if let Some(session) = sessions.of(attempt) {
                    session.orders.notify_one();
                }
            }
            None => {
                for session in sessions.agents.values() {
                    session.orders.notify_one();
                }
            }
        }
    }

    /// Lets an agent take no new work, or take it again; whether it takes work that it did not before.
    pub(crate) fn set_cordon(&self, agent: AgentId, cordoned: bool) -> bool {
        let mut sessions = self.lock();
        let session = sessions.agents.get_mut(&agent);
        session
            .is_some_and(|session| std::mem::replace(&mut session.cordoned, cordoned) && !cordoned)
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// The session whose agent holds an attempt.
    fn of(&self, attempt: AttemptId) -> Option<&Session> {
        self.agents.get(self.holders.get(&attempt)?)
    }

    /// Nobody holds an attempt any more. Returns the session whose agent did.
    fn release(&mut self, attempt: AttemptId) -> Option<&Session> {
        let agent = self.holders.remove(&attempt)?;
        let session = self.agents.get_mut(&agent)?;
        session.held.remove(&attempt);
        Some(session)
    }

    /// The session of an agent, if it is the one with this outbox.
    fn own(&mut self, agent: AgentId, outbox: &mpsc::Sender<LinkResponse>) -> Option<&mut Session> {
        self.agents
            .get_mut(&agent)
            .filter(|session| session.outbox.same_channel(outbox))
    }
}

/// The order to end an attempt. A service that is not needed any more has done what it was for.
fn cancel_attempt(lease: Lease, stop: Stop, execution: &Execution) -> CancelAttempt {
    let service = execution
        .origin
        .as_ref()
        .is_some_and(|origin| origin.role == Role::Service);
    let outcome = match execution.lifecycle.cause {
        Cause::Deadline => execution::State::TimedOut,
        Cause::Caller if service && stop == Stop::Orderly => execution::State::Passed,
        Cause::Caller => execution::State::Canceled,
    };
    CancelAttempt {
        attempt: lease.attempt.to_string(),
        epoch: lease.epoch,
        force: stop == Stop::Forced,
        outcome: outcome.into(),
        message: execution.message.clone(),
    }
}

/// The newest wish to pause an attempt or to let it go on, if there was one.
fn pause_attempt(lease: Lease, pause: Pause) -> Option<PauseAttempt> {
    (pause.sequence > 0).then(|| PauseAttempt {
        attempt: lease.attempt.to_string(),
        epoch: lease.epoch,
        sequence: pause.sequence,
        paused: pause.paused,
    })
}

/// Sends what may be lost: the agent hears it again when it connects.
fn send(outbox: &mpsc::Sender<LinkResponse>, message: Message) {
    let message = LinkResponse {
        message: Some(message),
    };
    if outbox.try_send(message).is_err() {
        tracing::debug!("an agent does not take messages; it hears this at its next connect");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a small number")]
fn count(number: usize) -> f64 {
    number as f64
}
