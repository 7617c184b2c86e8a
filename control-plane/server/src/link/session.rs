//! One stream of an agent: hello and reconciliation, then credit, reports, renewals and orders.
//! Work is given out by `dispatch`.
//!
//! Everything an agent says carries attempt and epoch; the store and the state machine check
//! them, nothing here trusts an id in a message over the credential.

mod hear;
mod reconcile;
pub(crate) mod report;
mod say;

use std::{
    collections::HashSet,
    ops::RangeInclusive,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use futures::stream::FuturesUnordered;
use muster_core::{
    execution::Lease,
    id::{AttemptId, SessionId},
};
use muster_proto::v1::{
    AgentHello, Assignment, AttemptRef, DeclineAttempt, Drain, LeasesRenewed, LinkRequest,
    LinkResponse, RenewLeases, Welcome, link_request, link_response::Message, refusal::Reason,
};
use muster_storage::{
    agent::{Agent, Told},
    work,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument as _;

use self::hear::Telling;
use super::OUTBOX;
use crate::{
    app::{App, Error},
    config::{Config, MAX_PAIRS},
};

/// Versions of the protocol that are served: the newest, and the one before it for agents that are
/// not updated yet. Since version 2 an agent tells a report again on the same stream when it is not
/// acknowledged.
const PROTOCOLS: RangeInclusive<u32> = 1..=2;
/// Most attempts in one hello or renewal.
const MAX_ATTEMPTS: usize = 10_000;
/// Most reports of a stream that wait for the database; the next ones wait in the stream.
const MOST_REPORTS: usize = 64;
/// Longest label, value or capability in a hello, in bytes.
const MAX_WORD: usize = 256;
/// How long an agent may take for its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Over how long agents come back after this server stopped.
const DRAIN_SPREAD: Duration = Duration::from_secs(2);

/// One stream.
struct Stage {
    app: Arc<App>,
    agent: Agent,
    /// By which the agent was authenticated.
    token_hash: [u8; 32],
    outbox: mpsc::Sender<LinkResponse>,
    /// Ends this stream.
    stop: CancellationToken,
    /// There may be orders of other servers.
    orders: Arc<Notify>,
    /// The process at the other end.
    session: SessionId,
    /// The version of the protocol that both ends speak.
    protocol: u32,
    /// How often it has said what no agent should say.
    offences: AtomicU32,
    /// Live attempts of the agent that this stream had not told it of when it looked last.
    untold: HashSet<AttemptId>,
}

/// How a stream goes on after a message.
enum Flow {
    On,
    /// With a report that is to be stored.
    Told(Box<work::Report>),
    End,
}

/// Serves a stream; the answers come from the returned receiver.
pub(crate) fn serve(
    app: &Arc<App>,
    agent: Agent,
    token_hash: [u8; 32],
    requests: impl Stream<Item = Result<LinkRequest, Status>> + Send + Unpin + 'static,
) -> mpsc::Receiver<LinkResponse> {
    let (outbox, answers) = mpsc::channel(OUTBOX);
    let span = tracing::info_span!("link", agent = agent.name);
    let stage = Stage {
        app: Arc::clone(app),
        agent,
        token_hash,
        outbox,
        stop: CancellationToken::new(),
        orders: Arc::default(),
        session: SessionId::generate(),
        protocol: *PROTOCOLS.start(),
        offences: AtomicU32::new(0),
        untold: HashSet::new(),
    };
    let served = Arc::clone(app);
    let run = async move {
        match stage.run(requests).await {
            Ok(()) => tracing::info!("the agent's stream ended"),
            Err(error) => {
                tracing::warn!(%error, "the agent's stream broke");
                if matches!(error, Error::Unavailable(_) | Error::Unwritable { .. }) {
                    // The agent is here, and its leases were not renewed.
                    served.link.miss_renewals();
                }
            }
        }
    };
    app.tasks.spawn(run.instrument(span));
    answers
}

impl Stage {
    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<LinkRequest, Status>> + Unpin,
    ) -> Result<(), Error> {
        let first = tokio::time::timeout(HELLO_PATIENCE, requests.next()).await;
        let hello = match first {
            Ok(Some(Ok(LinkRequest {
                message: Some(link_request::Message::Hello(hello)),
            }))) => hello,
            Ok(Some(Ok(_))) => {
                return self
                    .refuse(Reason::Invalid, "the first message must be a hello")
                    .await;
            }
            Ok(Some(Err(status))) => return self.refuse_broken(&status).await,
            Ok(None) | Err(_) => return Ok(()),
        };
        let session = match Self::check(&hello) {
            Ok((protocol, session)) => {
                self.protocol = protocol;
                session
            }
            Err((reason, message)) => return self.refuse(reason, &message).await,
        };
        let id = self.agent.id;
        let told = Told {
            session: Some(session),
            labels: hello.labels.clone().into_iter().collect(),
            version: hello.version.clone(),
            backend: hello.backend.clone(),
            capacity: hello.capacity,
            capabilities: hello.capabilities.clone(),
        };
        // Before it takes any place: one whose own place was taken pushes nobody out.
        let Some(agent) = self.app.store.agents().connected(id, &told).await? else {
            return self.supersede().await;
        };
        self.agent = agent;
        self.session = session;
        self.app
            .link
            .enter(id, session, &self.outbox, &self.stop, &self.orders);
        let result = self.follow(&hello, requests).await;
        self.app.link.leave(id, &self.outbox);
        result
    }

    /// The version that both ends speak, and the process at the other end.
    fn check(hello: &AgentHello) -> Result<(u32, SessionId), (Reason, String)> {
        let (oldest, newest) = (*PROTOCOLS.start(), *PROTOCOLS.end());
        let protocol = newest.min(hello.max_protocol);
        if protocol < oldest.max(hello.min_protocol) {
            let text = format!(
                "this server speaks protocol {oldest} to {newest}, the agent {} to {}: update the older one",
                hello.min_protocol, hello.max_protocol
            );
            return Err((Reason::UnsupportedProtocol, text));
        }
        if hello.attempts.len() > MAX_ATTEMPTS {
            let text = format!(
                "{} attempts in one hello, at most {MAX_ATTEMPTS} are allowed",
                hello.attempts.len()
            );
            return Err((Reason::Invalid, text));
        }
        if hello.labels.len() > MAX_PAIRS || hello.capabilities.len() > MAX_PAIRS {
            let text = format!("more than {MAX_PAIRS} labels or capabilities");
            return Err((Reason::Invalid, text));
        }
        let words = hello
            .labels
            .iter()
            .flat_map(|(label, value)| [label, value]);
        if words
            .chain(&hello.capabilities)
            .any(|word| word.len() > MAX_WORD)
        {
            let text = format!("a label or capability has more than {MAX_WORD} bytes");
            return Err((Reason::Invalid, text));
        }
        hello
            .session
            .parse()
            .map(|session| (protocol, session))
            .map_err(|error| (Reason::Invalid, format!("session: {error}")))
    }

    async fn follow(
        &mut self,
        hello: &AgentHello,
        requests: impl Stream<Item = Result<LinkRequest, Status>> + Unpin,
    ) -> Result<(), Error> {
        let agents = self.app.store.agents();
        // Who replaces a token closes the stream that is there; this one was not there yet.
        let Some(now) = agents.find_by_token_hash(&self.token_hash).await? else {
            return Ok(());
        };
        // Nor was it when a later process came at the same moment.
        if now.told.session != Some(self.session) {
            return self.supersede().await;
        }
        let orders = self.reconcile(&hello.attempts).await?;
        self.say(Message::Welcome(Welcome {
            protocol: self.protocol,
            lease_duration: duration(self.app.config.lease_duration),
            renew_interval: duration(self.app.config.renew_interval),
            orders,
        }))
        .await;
        self.app.link.ready(&self.agent, &self.outbox);
        // It may take what no agent could take that was there before.
        self.app.hub.queue_changed();
        tracing::info!(version = hello.version, "the agent connected");

        let mut reports = FuturesUnordered::new();
        let result = self.converse(requests, &mut reports).await;
        // What was told is stored, whatever became of the stream: it must have its effects.
        while let Some(heard) = reports.next().await {
            if let Err(error) = self.answer(heard).await {
                tracing::warn!(%error, "a report could not be answered");
            }
        }
        result
    }

    /// Hears and answers until the stream ends. Reports wait for the database side by side, so that
    /// neither they nor renewals wait for one whose log has to be stored first.
    async fn converse(
        &mut self,
        mut requests: impl Stream<Item = Result<LinkRequest, Status>> + Unpin,
        reports: &mut FuturesUnordered<Telling>,
    ) -> Result<(), Error> {
        let (stop, drain) = (self.stop.clone(), self.app.link.drain.clone());
        let told = Arc::clone(&self.orders);
        let mut orders = self.app.config.order_interval.map(tokio::time::interval);
        // How many of the reports wait for logs first. Those are for the object store to hold up, not
        // for them to hold up others; there are few more of them than attempts of the agent.
        let mut endings = 0_usize;
        loop {
            let orders_due = async {
                match &mut orders {
                    Some(orders) => drop(orders.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = drain.cancelled() => {
                    let spread = duration(DRAIN_SPREAD);
                    self.say(Message::Drain(Drain { spread })).await;
                    return Ok(());
                }
                () = orders_due => self.repeat_orders().await?,
                () = told.notified() => self.repeat_orders().await?,
                Some(heard) = reports.next(), if !reports.is_empty() => {
                    endings = endings.saturating_sub(usize::from(heard.is_ending()));
                    self.answer(heard).await?;
                }
                request = requests.next(), if reports.len() < MOST_REPORTS + endings.min(MAX_ATTEMPTS) => match request {
                    Some(Ok(request)) => match self.hear(request).await? {
                        Flow::On => {}
                        Flow::Told(report) => {
                            endings += usize::from(hear::is_ending(&report));
                            reports.push(self.tell(*report));
                        }
                        Flow::End => return Ok(()),
                    },
                    Some(Err(status)) => return self.refuse_broken(&status).await,
                    None => return Ok(()),
                },
            }
        }
    }

    /// Hears one message.
    async fn hear(&mut self, request: LinkRequest) -> Result<Flow, Error> {
        use link_request::Message as M;
        match request.message {
            Some(M::Credit(credit)) => {
                let link = &self.app.link;
                link.set_credit(self.agent.id, &self.outbox, credit);
                self.app.hub.room_changed();
            }
            Some(M::Report(told)) => match report::read(told) {
                Ok(report) => return Ok(Flow::Told(Box::new(report))),
                Err(message) => self.refuse(Reason::Invalid, &message).await?,
            },
            Some(M::Renew(renew)) => self.renew(renew).await?,
            Some(M::Decline(decline)) => self.decline(decline).await?,
            Some(M::Hello(_)) => {
                self.refuse(Reason::Invalid, "a second hello").await?;
                return Ok(Flow::End);
            }
            // A message of a newer version: nothing that this one needs.
            None => {}
        }
        Ok(Flow::On)
    }

    async fn renew(&mut self, renew: RenewLeases) -> Result<(), Error> {
        if renew.attempts.len() > MAX_ATTEMPTS {
            return self
                .refuse(Reason::Invalid, "too many attempts in one renewal")
                .await;
        }
        let mut lost = Vec::new();
        let mut leases = Vec::with_capacity(renew.attempts.len());
        for told in renew.attempts {
            match lease(&told.attempt, told.epoch) {
                Some(lease) => leases.push(lease),
                None => lost.push(told),
            }
        }
        let work = self.app.store.agent(self.agent.id);
        match work.renew(&leases, self.app.lease_end()).await {
            Ok(ended) => lost.extend(ended.into_iter().map(|lease| AttemptRef {
                attempt: lease.attempt.to_string(),
                epoch: lease.epoch,
            })),
            // Not answered: the agent renews again, and leases get a grace period.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "leases can not be renewed now");
                self.app.link.miss_renewals();
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.app.link.hear_of(self.agent.id);
        // A later process may have come to another server, or another server let it take work again.
        let place = self.app.store.agents().place(self.agent.id).await?;
        if place.session != Some(self.session) {
            self.stop.cancel();
            return self.supersede().await;
        }
        // That it takes none any more is found by a claim; here it could undo what came meanwhile.
        if !place.cordoned && self.app.link.set_cordon(self.agent.id, false) {
            self.app.hub.queue_changed();
        }
        self.say(Message::Renewed(LeasesRenewed {
            sequence: renew.sequence,
            lost,
        }))
        .await;
        self.repeat_orders().await
    }

    async fn decline(&mut self, decline: DeclineAttempt) -> Result<(), Error> {
        let Some(lease) = lease(&decline.attempt, decline.epoch) else {
            return self
                .refuse(Reason::Invalid, "the attempt's id is not a UUID")
                .await;
        };
        let work = self.app.store.agent(self.agent.id);
        match work.decline(lease, &decline.reason, &decline.message).await {
            Ok(changed) => self.app.perform(&changed),
            Err(
                muster_storage::Error::NotFound { .. }
                | muster_storage::Error::IllegalTransition(_),
            ) => {
                self.refuse_lease(&decline.attempt, decline.epoch).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Tells a process that a later one has its place.
    async fn supersede(&self) -> Result<(), Error> {
        let text = "a later process of this agent has taken its place";
        self.refuse(Reason::Superseded, text).await
    }
}

/// A lease as an agent tells it.
fn lease(attempt: &str, epoch: i64) -> Option<Lease> {
    let attempt: AttemptId = attempt.parse().ok()?;
    Some(Lease { attempt, epoch })
}

/// How long before the server takes an attempt from a lost agent the agent itself kills it.
const FENCE_MARGIN: Duration = Duration::from_secs(10);

pub(super) fn assignment(config: &Config, work: &work::Assignment) -> Assignment {
    let lost_after = work.execution.policy.lost_after(true);
    let alone = config.lease_duration + lost_after.saturating_sub(FENCE_MARGIN);
    Assignment {
        stop_after: duration(alone),
        attempt: work.attempt.id.to_string(),
        epoch: work.attempt.epoch,
        execution: work.execution.id.to_string(),
        project: work.project_name.clone(),
        display_name: work.execution.display_name.clone(),
        plan: work.plan.clone(),
        max_log_bytes: work.max_log.unwrap_or(config.max_log),
        direct_upload_from_bytes: config
            .direct_uploads
            .as_ref()
            .map_or(0, |direct| i64::try_from(direct.from).unwrap_or(i64::MAX)),
    }
}

fn duration(from: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(from).ok()
}
