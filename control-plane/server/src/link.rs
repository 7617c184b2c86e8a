//! The agents' side of the server: sessions, what they hold, and the words for them.
//!
//! The stream's handler is in `session`, log and artifact uploads in `ingest` and `upload`.

pub(crate) mod ingest;
pub(crate) mod segment;
pub(crate) mod session;
pub(crate) mod upload;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_core::{
    execution::{Lease, Stop},
    id::{AgentId, AttemptId, SessionId},
};
use muster_proto::v1::{
    CancelAttempt, LinkResponse, Refusal, execution, link_response::Message, refusal::Reason,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use ingest::Ingests;

/// Messages that may wait for a slow agent.
pub(crate) const OUTBOX: usize = 256;

/// A stream of an agent as others in this process see it.
#[derive(Debug, Clone)]
struct Session {
    id: SessionId,
    outbox: mpsc::Sender<LinkResponse>,
    stop: CancellationToken,
}

/// All streams of this process, and which attempt is on which.
#[derive(Debug, Default)]
struct Sessions {
    agents: HashMap<AgentId, Session>,
    holders: HashMap<AttemptId, AgentId>,
}

/// The agents' side of the server.
#[derive(Debug)]
pub(crate) struct Link {
    sessions: Mutex<Sessions>,
    pub(crate) ingests: Arc<Ingests>,
    /// Ends all streams when the server stops.
    pub(crate) drain: CancellationToken,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Mutex::default(),
            ingests: Arc::default(),
            drain: CancellationToken::new(),
        }
    }

    /// Whether no agent has a stream.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().agents.is_empty()
    }

    /// Puts a stream in the place of the agent's older one, which is told so.
    fn enter(&self, agent: AgentId, session: Session) {
        let mut sessions = self.lock();
        if let Some(older) = sessions.agents.insert(agent, session.clone()) {
            if older.id != session.id {
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
        let own = sessions
            .agents
            .get(&agent)
            .is_some_and(|session| session.outbox.same_channel(outbox));
        if own {
            sessions.agents.remove(&agent);
            sessions.holders.retain(|_, holder| *holder != agent);
        }
        metrics::gauge!(crate::metrics::AGENTS).set(count(sessions.agents.len()));
    }

    /// Takes note of who holds an attempt.
    fn hold(&self, attempt: AttemptId, agent: AgentId) {
        self.lock().holders.insert(attempt, agent);
    }

    /// Whether an agent has a stream to this process.
    pub(crate) fn is_connected(&self, agent: AgentId) -> bool {
        self.lock().agents.contains_key(&agent)
    }

    /// Closes the stream of an agent whose token is not good any more.
    pub(crate) fn disconnect(&self, agent: AgentId) {
        if let Some(session) = self.lock().agents.get(&agent) {
            session.stop.cancel();
        }
    }

    /// Tells the agent to end an attempt. One that is not connected hears it in its welcome.
    pub(crate) fn stop_attempt(&self, lease: Lease, stop: Stop, message: &str) {
        let sessions = self.lock();
        let holder = sessions.holders.get(&lease.attempt);
        if let Some(session) = holder.and_then(|agent| sessions.agents.get(agent)) {
            let cancel = cancel_attempt(lease, stop, message);
            send(&session.outbox, Message::Cancel(cancel));
        }
    }

    /// The attempt is over.
    pub(crate) fn close_attempt(&self, attempt: AttemptId) {
        self.lock().holders.remove(&attempt);
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The order to end an attempt.
fn cancel_attempt(lease: Lease, stop: Stop, message: &str) -> CancelAttempt {
    CancelAttempt {
        attempt: lease.attempt.to_string(),
        epoch: lease.epoch,
        force: stop == Stop::Forced,
        outcome: execution::State::Canceled.into(),
        message: message.to_owned(),
    }
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
