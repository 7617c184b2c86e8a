//! Simulated agents: streams that take work, run nothing, and tell at once that it runs and has
//! passed, with an empty log. One that loses its stream connects again with all that it holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use muster_proto::v1::{
    AgentHello, Assignment, AttemptRef, AttemptReport, Completion, CreateAgentRequest, Credit,
    LinkRequest, RenewLeases, agent_link_service_client::AgentLinkServiceClient,
    attempt_order::Action, attempt_report::Phase, execution::State, link_request::Message,
    link_response,
};
use muster_tests::{control_plane::ControlPlane, digest::sha256};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Streams that share a connection.
const STREAMS: usize = 50;
/// How often agents renew.
const RENEW: Duration = Duration::from_secs(10);
/// Longest pause before an agent connects again; a part of it by its number, so that they spread.
const AGAIN: Duration = Duration::from_secs(2);

/// What all agents have done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Streams that were welcomed and have not ended.
    pub(super) connected: AtomicUsize,
    /// Assignments that came for the first time.
    pub(super) assigned: AtomicUsize,
    /// Results that were acknowledged.
    pub(super) completed: AtomicUsize,
    /// Attempts that were taken from their agents.
    pub(super) lost: AtomicUsize,
    /// Something of the above has changed.
    pub(super) changed: Notify,
    /// Agents keep what they get and tell no result.
    pub(super) hold: AtomicBool,
    released: Notify,
}

impl Done {
    fn count(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until a counter has come to a number; an error when nothing moves for a minute.
    pub(super) async fn wait(&self, counter: &AtomicUsize, wanted: usize) -> anyhow::Result<()> {
        let mut last = (0, Instant::now());
        loop {
            let changed = self.changed.notified();
            let now = counter.load(Ordering::SeqCst);
            if now >= wanted {
                return Ok(());
            }
            if now > last.0 {
                last = (now, Instant::now());
            }
            ensure!(
                last.1.elapsed() < Duration::from_secs(60),
                "nothing has moved for a minute: {now} of {wanted}"
            );
            let _late = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
    }

    /// Lets agents end what they hold.
    pub(super) fn release(&self) {
        self.hold.store(false, Ordering::SeqCst);
        self.released.notify_waiters();
    }
}

/// Makes agents and connects them; they work in the background until this process ends.
///
/// # Errors
///
/// When one is refused.
pub(super) async fn connect(
    server: &ControlPlane,
    count: usize,
    capacity: u32,
    done: &Arc<Done>,
) -> anyhow::Result<Duration> {
    let tokens: Vec<String> = stream::iter(0..count)
        .map(async |number| {
            let request = CreateAgentRequest {
                agent_id: format!("agent-{number}"),
                ..CreateAgentRequest::default()
            };
            let made = server.client.agents().create_agent(request).await?;
            anyhow::Ok(made.into_inner().token)
        })
        .buffer_unordered(16)
        .try_collect()
        .await?;
    let begin = Instant::now();
    for (group, tokens) in tokens.chunks(STREAMS).enumerate() {
        let channel = Endpoint::from_shared(server.url.clone())?.connect_lazy();
        for (number, token) in tokens.iter().enumerate() {
            let agent = Agent {
                channel: channel.clone(),
                token: format!("Bearer {token}").parse()?,
                session: uuid::Uuid::now_v7().to_string(),
                capacity,
                number: group * STREAMS + number,
                held: BTreeMap::new(),
                done: Arc::clone(done),
            };
            tokio::spawn(agent.run());
        }
    }
    done.wait(&done.connected, count).await?;
    Ok(begin.elapsed())
}

struct Agent {
    channel: Channel,
    token: MetadataValue<Ascii>,
    session: String,
    capacity: u32,
    number: usize,
    /// Attempts with their epochs.
    held: BTreeMap<String, i64>,
    done: Arc<Done>,
}

impl Agent {
    async fn run(mut self) {
        loop {
            let welcomed = self.open().await;
            if let Ok((sender, answers)) = welcomed {
                self.done.count(&self.done.connected);
                self.follow(&sender, answers).await;
                self.done.connected.fetch_sub(1, Ordering::SeqCst);
            }
            let part = u32::try_from(self.number % 100).unwrap_or(0);
            tokio::time::sleep(AGAIN * part / 100).await;
        }
    }

    async fn open(
        &mut self,
    ) -> anyhow::Result<(
        mpsc::Sender<LinkRequest>,
        Streaming<muster_proto::v1::LinkResponse>,
    )> {
        let (sender, receiver) = mpsc::channel(64);
        let hello = AgentHello {
            min_protocol: 1,
            max_protocol: 1,
            session: self.session.clone(),
            capacity: self.capacity,
            backend: "process".to_owned(),
            attempts: self.refs(),
            ..AgentHello::default()
        };
        sender.send(request(Message::Hello(hello))).await?;
        let mut call = Request::new(ReceiverStream::new(receiver));
        call.metadata_mut()
            .insert("authorization", self.token.clone());
        let mut answers = AgentLinkServiceClient::new(self.channel.clone())
            .link(call)
            .await?
            .into_inner();
        let first = answers.message().await?.and_then(|first| first.message);
        let Some(link_response::Message::Welcome(welcome)) = first else {
            anyhow::bail!("no welcome: {first:?}");
        };
        for order in welcome.orders {
            match order.action() {
                Action::Adopt => {
                    let known = self.held.insert(order.attempt, order.epoch);
                    if known.is_none() {
                        self.done.count(&self.done.assigned);
                    }
                }
                Action::Kill | Action::Forget | Action::Unspecified => {
                    if self.held.remove(&order.attempt).is_some() {
                        self.done.count(&self.done.lost);
                    }
                }
            }
        }
        sender.send(request(self.credit())).await?;
        Ok((sender, answers))
    }

    async fn follow(
        &mut self,
        sender: &mpsc::Sender<LinkRequest>,
        mut answers: Streaming<muster_proto::v1::LinkResponse>,
    ) {
        let done = Arc::clone(&self.done);
        let mut renew = tokio::time::interval(RENEW);
        let mut sequence = 0;
        loop {
            let released = done.released.notified();
            let said = tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.hear(answer.message),
                    Ok(None) | Err(_) => return,
                },
                () = released => self.results(),
                _ = renew.tick() => {
                    sequence += 1;
                    let attempts = self.refs();
                    let mut said = vec![Message::Renew(RenewLeases { sequence, attempts })];
                    // Again, as agents do with what is not acknowledged; and who was busy when all
                    // were released has not told at all.
                    if !self.done.hold.load(Ordering::SeqCst) {
                        said.extend(self.results());
                    }
                    said
                }
            };
            for message in said {
                if sender.send(request(message)).await.is_err() {
                    return;
                }
            }
        }
    }

    fn hear(&mut self, message: Option<link_response::Message>) -> Vec<Message> {
        match message {
            Some(link_response::Message::Assignment(work)) => {
                self.done.count(&self.done.assigned);
                self.held.insert(work.attempt.clone(), work.epoch);
                match self.done.hold.load(Ordering::SeqCst) {
                    true => vec![Message::Report(running(&work.attempt, work.epoch))],
                    false => self.result(&work),
                }
            }
            Some(link_response::Message::ReportAck(ack)) if ack.sequence == 2 => {
                if self.held.remove(&ack.attempt).is_none() {
                    return Vec::new();
                }
                self.done.count(&self.done.completed);
                vec![self.credit()]
            }
            Some(link_response::Message::Refusal(refusal)) => {
                if self.held.remove(&refusal.attempt).is_some() {
                    self.done.count(&self.done.lost);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn result(&self, work: &Assignment) -> Vec<Message> {
        [
            running(&work.attempt, work.epoch),
            passed(&work.attempt, work.epoch),
        ]
        .map(Message::Report)
        .to_vec()
    }

    /// Results of all that is held.
    fn results(&self) -> Vec<Message> {
        let held = self.held.iter();
        held.map(|(attempt, epoch)| Message::Report(passed(attempt, *epoch)))
            .collect()
    }

    fn refs(&self) -> Vec<AttemptRef> {
        let held = self.held.iter();
        held.map(|(attempt, epoch)| AttemptRef {
            attempt: attempt.clone(),
            epoch: *epoch,
        })
        .collect()
    }

    fn credit(&self) -> Message {
        let held = u32::try_from(self.held.len()).unwrap_or(self.capacity);
        Message::Credit(Credit {
            slots: self.capacity.saturating_sub(held),
            exempt: 0,
        })
    }
}

fn request(message: Message) -> LinkRequest {
    LinkRequest {
        message: Some(message),
    }
}

fn running(attempt: &str, epoch: i64) -> AttemptReport {
    AttemptReport {
        attempt: attempt.to_owned(),
        epoch,
        sequence: 1,
        phase: Phase::Running.into(),
        ..AttemptReport::default()
    }
}

fn passed(attempt: &str, epoch: i64) -> AttemptReport {
    AttemptReport {
        sequence: 2,
        phase: Phase::Completed.into(),
        completion: Some(Completion {
            outcome: State::Passed.into(),
            log_sha256: sha256(b""),
            ..Completion::default()
        }),
        ..running(attempt, epoch)
    }
}

/// All that the agents hold, ended; how long it took.
///
/// # Errors
///
/// When not all is acknowledged.
pub(super) async fn finish(done: &Done, held: usize) -> anyhow::Result<()> {
    let before = done.completed.load(Ordering::SeqCst);
    done.release();
    done.wait(&done.completed, before + held)
        .await
        .context("results of what was held through the outage")
}
