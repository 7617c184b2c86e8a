//! One stream of an agent: hello and reconciliation, then credit, reports, renewals and orders.
//!
//! Everything an agent says carries attempt and epoch; the store and the state machine check
//! them, nothing here trusts an id in a message over the credential.

mod reconcile;
pub(crate) mod report;

use std::{sync::Arc, time::Duration};

use muster_core::{
    execution::Lease,
    id::{AttemptId, SessionId},
};
use muster_proto::v1::{
    AgentHello, Assignment, AttemptRef, DeclineAttempt, Drain, LeasesRenewed, LinkRequest,
    LinkResponse, Refusal, RenewLeases, ReportAck, Welcome, link_request, link_response::Message,
    refusal::Reason,
};
use muster_storage::{
    agent::{Agent, Told},
    work::{self, Claim, Reported},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::{OUTBOX, Session};
use crate::app::{App, Error};

/// The only protocol version so far.
const PROTOCOL: u32 = 1;
/// Most attempts in one hello or renewal.
const MAX_ATTEMPTS: usize = 10_000;
/// Most assignments of one claim.
const MAX_CLAIM: u32 = 64;
/// How often to look for work without a word from anybody.
const SWEEP: Duration = Duration::from_secs(1);
/// How long an agent may take for its hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Over how long agents come back after this server stopped.
const DRAIN_SPREAD: Duration = Duration::from_secs(2);

/// One stream.
struct Stage {
    app: Arc<App>,
    agent: Agent,
    outbox: mpsc::Sender<LinkResponse>,
    credit: u32,
}

/// Whether a stream goes on.
enum Flow {
    On,
    End,
}

/// Serves a stream; the answers come from the returned receiver.
pub(crate) fn serve(
    app: &Arc<App>,
    agent: Agent,
    requests: impl Stream<Item = Result<LinkRequest, tonic::Status>> + Send + Unpin + 'static,
) -> mpsc::Receiver<LinkResponse> {
    let (outbox, answers) = mpsc::channel(OUTBOX);
    let stage = Stage {
        app: Arc::clone(app),
        agent,
        outbox,
        credit: 0,
    };
    app.tasks.spawn(async move {
        let name = stage.agent.name.clone();
        match stage.run(requests).await {
            Ok(()) => tracing::info!(agent = name, "the agent's stream ended"),
            Err(error) => tracing::warn!(agent = name, %error, "the agent's stream broke"),
        }
    });
    answers
}

impl Stage {
    async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<LinkRequest, tonic::Status>> + Unpin,
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
            Ok(Some(Err(_)) | None) | Err(_) => return Ok(()),
        };
        let session = match self.check(&hello) {
            Ok(session) => session,
            Err((reason, message)) => return self.refuse(reason, &message).await,
        };
        let stop = CancellationToken::new();
        let entered = Session {
            id: session,
            outbox: self.outbox.clone(),
            stop: stop.clone(),
        };
        self.app.link.enter(self.agent.id, entered);
        let result = self.follow(&hello, session, requests, stop).await;
        self.app.link.leave(self.agent.id, &self.outbox);
        result
    }

    fn check(&self, hello: &AgentHello) -> Result<SessionId, (Reason, String)> {
        if hello.min_protocol > PROTOCOL || hello.max_protocol < PROTOCOL {
            let text = format!(
                "this server speaks protocol {PROTOCOL}, the agent {} to {}: update the older one",
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
        hello
            .session
            .parse()
            .map_err(|error| (Reason::Invalid, format!("session: {error}")))
    }

    async fn follow(
        &mut self,
        hello: &AgentHello,
        session: SessionId,
        mut requests: impl Stream<Item = Result<LinkRequest, tonic::Status>> + Unpin,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let told = Told {
            session: Some(session),
            labels: hello.labels.clone().into_iter().collect(),
            version: hello.version.clone(),
            backend: hello.backend.clone(),
            capacity: hello.capacity,
            capabilities: hello.capabilities.clone(),
        };
        self.agent = self
            .app
            .store
            .agents()
            .connected(self.agent.id, &told)
            .await?;
        let orders = self.reconcile(&hello.attempts).await?;
        self.say(Message::Welcome(Welcome {
            protocol: PROTOCOL,
            lease_duration: duration(self.app.config.lease_duration),
            renew_interval: duration(self.app.config.renew_interval),
            orders,
        }))
        .await;
        tracing::info!(
            agent = self.agent.name,
            version = hello.version,
            "the agent connected"
        );

        let drain = self.app.link.drain.clone();
        let mut queue = self.app.hub.watch_queue();
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let work = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = drain.cancelled() => {
                    let spread = duration(DRAIN_SPREAD);
                    self.say(Message::Drain(Drain { spread })).await;
                    return Ok(());
                }
                request = requests.next() => match request {
                    Some(Ok(request)) => match self.hear(request).await? {
                        (Flow::End, _) => return Ok(()),
                        (Flow::On, work) => work,
                    },
                    Some(Err(_)) | None => return Ok(()),
                },
                // The sender lives in the hub, as long as the server.
                _ = queue.changed() => true,
                _ = sweep.tick() => true,
            };
            if work && self.credit > 0 {
                self.dispatch().await?;
            }
        }
    }

    /// Hears one message; the second value tells whether to look for work.
    async fn hear(&mut self, request: LinkRequest) -> Result<(Flow, bool), Error> {
        use link_request::Message as M;
        match request.message {
            Some(M::Credit(credit)) => {
                self.credit = credit.slots;
                return Ok((Flow::On, true));
            }
            Some(M::Report(report)) => self.report(report).await?,
            Some(M::Renew(renew)) => self.renew(renew).await?,
            Some(M::Decline(decline)) => self.decline(decline).await?,
            Some(M::Hello(_)) => {
                self.refuse(Reason::Invalid, "a second hello").await?;
                return Ok((Flow::End, false));
            }
            // A message of a newer version: nothing that this one needs.
            None => {}
        }
        Ok((Flow::On, false))
    }

    /// Gives the agent as much work as it has credit for.
    async fn dispatch(&mut self) -> Result<(), Error> {
        let lease_expire_time = self.lease_end();
        let claim = Claim {
            labels: self.agent.effective_labels(),
            projects: self.agent.projects.clone(),
            limit: self.credit.min(MAX_CLAIM),
            lease_expire_time,
        };
        let claimed = match self.app.store.agent(self.agent.id).claim(&claim).await {
            Ok(claimed) => claimed,
            Err(error) if error.is_retryable() => {
                tracing::warn!(agent = self.agent.name, %error, "no work can be claimed now");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for work in claimed {
            self.credit = self.credit.saturating_sub(1);
            metrics::counter!(crate::metrics::ASSIGNMENTS).increment(1);
            self.app.link.hold(work.attempt.id, self.agent.id);
            self.app.hub.execution_changed(work.execution.id);
            tracing::info!(
                agent = self.agent.name,
                execution = work.execution.display_name,
                attempt = %work.attempt.id,
                epoch = work.attempt.epoch,
                "assigned"
            );
            self.say(Message::Assignment(assignment(&work))).await;
        }
        Ok(())
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
        for lease in work.renew(&leases, self.lease_end()).await? {
            lost.push(AttemptRef {
                attempt: lease.attempt.to_string(),
                epoch: lease.epoch,
            });
        }
        self.app.store.agents().seen(&[self.agent.id]).await?;
        self.say(Message::Renewed(LeasesRenewed {
            sequence: renew.sequence,
            lost,
        }))
        .await;
        self.repeat_stops().await
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

    fn lease_end(&self) -> jiff::Timestamp {
        let now = self.app.clock.now();
        now.checked_add(self.app.config.lease_duration)
            .unwrap_or(now)
    }

    /// Says something to the agent; one that does not listen is noticed by its stream.
    async fn say(&self, message: Message) {
        let message = LinkResponse {
            message: Some(message),
        };
        // The receiver is gone when the stream is: the next request tells.
        let _gone = self.outbox.send(message).await;
    }

    async fn refuse(&self, reason: Reason, message: &str) -> Result<(), Error> {
        metrics::counter!(crate::metrics::REFUSALS, "reason" => reason.as_str_name()).increment(1);
        self.say(Message::Refusal(Refusal {
            reason: reason.into(),
            message: message.to_owned(),
            ..Refusal::default()
        }))
        .await;
        Ok(())
    }

    async fn refuse_lease(&self, attempt: &str, epoch: i64) {
        let reason = Reason::LeaseLost;
        metrics::counter!(crate::metrics::REFUSALS, "reason" => reason.as_str_name()).increment(1);
        self.say(Message::Refusal(Refusal {
            attempt: attempt.to_owned(),
            epoch,
            reason: reason.into(),
            message: "the attempt is not leased to this agent under this epoch; stop it".to_owned(),
        }))
        .await;
    }

    async fn acknowledge(&self, attempt: &str, sequence: i64) {
        self.say(Message::ReportAck(ReportAck {
            attempt: attempt.to_owned(),
            sequence,
        }))
        .await;
    }

    async fn report(&mut self, told: muster_proto::v1::AttemptReport) -> Result<(), Error> {
        let (attempt, epoch, sequence) = (told.attempt.clone(), told.epoch, told.sequence);
        let report = match report::read(told) {
            Ok(report) => report,
            Err(message) => return self.refuse(Reason::Invalid, &message).await,
        };
        let work = self.app.store.agent(self.agent.id);
        match work.report(&report).await {
            Ok(Reported::Applied(changed)) => {
                self.acknowledge(&attempt, sequence).await;
                self.app.perform(&changed);
                let over = matches!(
                    report.progress,
                    work::Progress::Completed(_) | work::Progress::Lost(_)
                );
                if over
                    && let Err(error) = self
                        .app
                        .finish_log(self.agent.id, report.lease.attempt)
                        .await
                {
                    tracing::warn!(attempt, %error, "the log is finished later, by the sweep");
                }
            }
            Ok(Reported::Repeat { sequence: last } | Reported::AlreadyEnded { sequence: last }) => {
                self.acknowledge(&attempt, last.max(sequence)).await;
            }
            Ok(Reported::LeaseLost) => self.refuse_lease(&attempt, epoch).await,
            Err(error) if error.is_not_found() => self.refuse_lease(&attempt, epoch).await,
            // Not acknowledged: the agent tells it again.
            Err(error) if error.is_retryable() => {
                tracing::warn!(attempt, %error, "a report can not be stored now");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// A lease as an agent tells it.
fn lease(attempt: &str, epoch: i64) -> Option<Lease> {
    let attempt: AttemptId = attempt.parse().ok()?;
    Some(Lease { attempt, epoch })
}

fn assignment(work: &work::Assignment) -> Assignment {
    Assignment {
        attempt: work.attempt.id.to_string(),
        epoch: work.attempt.epoch,
        execution: work.execution.id.to_string(),
        project: work.project_name.clone(),
        display_name: work.execution.display_name.clone(),
        plan: work.plan.clone(),
    }
}

fn duration(from: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(from).ok()
}
