//! One stream to the server: hello, welcome, then reports, credit and renewals one way, work and
//! orders the other. All that is sent follows from the state of the attempts, so nothing has to
//! be queued, and a message that is lost with its stream is made again on the next one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use muster_core::id::AttemptId;
use muster_proto::v1::{
    AgentHello, AttemptRef, Credit, DeclineAttempt, LinkRequest, LinkResponse, RenewLeases,
    link_request::Message as Out, link_response::Message as In,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::{Ended, channel::Channels, incoming};
use crate::{attempt::End, context::Context, convert};

/// Versions of the protocol that this agent speaks: the newest, and the one before it for servers
/// that are not updated yet.
const PROTOCOLS: RangeInclusive<u32> = 1..=2;
/// How long a server may take to answer the hello.
const WELCOME_LIMIT: Duration = Duration::from_secs(20);
/// How long a server that hears no more may take to end its side of a stream.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// How often to renew when the server does not say.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// After how many renewals a report that is not acknowledged is told again.
const RESEND_AFTER: u32 = 2;
/// Most attempts in one message.
const MAX_NAMED: usize = 10_000;
/// Messages that wait for the connection.
const OUTBOX: usize = 16;

/// What this stream has sent and heard.
pub(super) struct Session {
    /// Sequence of the newest report sent, and when, by attempt.
    pub(super) sent: HashMap<AttemptId, (i64, Instant)>,
    /// The slots last asked for.
    pub(super) slots: Option<Credit>,
    /// Attempts to give back.
    pub(super) declined: Vec<DeclineAttempt>,
    /// When the next renewal is due.
    pub(super) renew_at: Instant,
    /// How often to renew.
    pub(super) renew_interval: Duration,
    /// Sequence of the last renewal sent.
    pub(super) renewal: i64,
    /// Renewals that were sent and not answered; few, as the stream ends without answers.
    pub(super) renewals: BTreeMap<i64, Renewal>,
    /// When the newest message was sent that is known to have renewed leases.
    pub(super) proven: Instant,
    /// Since when a renewal waits for its answer.
    pub(super) unanswered_since: Option<Instant>,
}

/// A renewal that was sent.
pub(super) struct Renewal {
    /// When.
    pub(super) sent: Instant,
    /// For which attempts.
    pub(super) named: Vec<AttemptId>,
}

impl Session {
    fn new(interval: Option<Duration>, proven: Instant) -> Self {
        let renew_interval = interval
            .filter(|interval| !interval.is_zero())
            .unwrap_or(RENEW_INTERVAL);
        Self {
            sent: HashMap::new(),
            slots: None,
            declined: Vec::new(),
            renew_at: Instant::now() + renew_interval,
            renew_interval,
            renewal: 0,
            renewals: BTreeMap::new(),
            proven,
            unanswered_since: None,
        }
    }

    /// The server has answered a renewal: it proves what it named, as of when it was sent.
    pub(super) fn answered(&mut self, sequence: i64) -> Option<Renewal> {
        let renewal = self.renewals.remove(&sequence)?;
        self.renewals = self.renewals.split_off(&sequence);
        self.proven = self.proven.max(renewal.sent);
        Some(renewal)
    }

    /// When silence means that the way back is cut: a connection that only sends is no lease.
    fn silent_at(&self) -> Instant {
        self.unanswered_since.unwrap_or(self.renew_at) + self.renew_interval * 3
    }
}

/// Runs one stream to its end.
pub(super) async fn run(context: &Arc<Context>, mut channels: Channels) -> Ended {
    let (outbox, requests) = mpsc::channel(OUTBOX);
    let hello = LinkRequest {
        message: Some(Out::Hello(hello(context))),
    };
    // The server renews what it knows before it answers, so no lease is older than this.
    let proven = Instant::now();
    if outbox.try_send(hello).is_err() {
        return lost("the stream ended before it began", false);
    }
    let opened = timeout(WELCOME_LIMIT, async {
        let mut incoming = channels
            .link
            .link(ReceiverStream::new(requests))
            .await?
            .into_inner();
        Ok::<_, tonic::Status>((incoming.message().await?, incoming))
    });
    let (first, incoming) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return Ended::from_status(&status, false),
        Err(_elapsed) => return lost("the server did not answer the hello", false),
    };
    let welcome = match first.and_then(|response| response.message) {
        Some(In::Welcome(welcome)) => welcome,
        Some(In::Refusal(refusal)) => return incoming::refused_hello(&refusal),
        Some(In::Drain(drain)) => return incoming::drained(drain),
        _ => return lost("the server did not begin with a welcome", false),
    };
    tracing::info!(
        protocol = welcome.protocol,
        orders = welcome.orders.len(),
        "linked"
    );
    let interval = welcome.renew_interval.and_then(|d| d.try_into().ok());
    let lease = welcome.lease_duration.and_then(|d| d.try_into().ok());
    context.leases.last(lease);
    let mut session = Session::new(interval, proven);
    for order in welcome.orders {
        incoming::order(context, &session, order);
    }
    context.attempts.reconciled();
    context.uplink.send_replace(Some(channels.data));
    talk(context, &mut session, incoming, &outbox).await
}

/// Says and hears everything after the welcome.
async fn talk(
    context: &Arc<Context>,
    session: &mut Session,
    mut incoming: Streaming<LinkResponse>,
    outbox: &mpsc::Sender<LinkRequest>,
) -> Ended {
    loop {
        let due = Instant::now() >= session.renew_at;
        let wants = due || has_news(context, session);
        tokio::select! {
            heard = incoming.next() => {
                if let Some(ended) = hear(context, session, heard) {
                    return ended;
                }
            }
            permit = outbox.reserve(), if wants => {
                let Ok(permit) = permit else {
                    return last_words(context, session, incoming).await;
                };
                if let Some(message) = next(context, session) {
                    permit.send(LinkRequest { message: Some(message) });
                }
            }
            () = context.attempts.woken() => {}
            () = sleep_until(session.renew_at), if !due => {}
            () = sleep_until(session.silent_at()) => {
                return lost("the server answers no renewal", true);
            }
        }
    }
}

/// Takes in what came on the stream; says how it ended, if it did.
fn hear(
    context: &Arc<Context>,
    session: &mut Session,
    heard: Option<Result<LinkResponse, Status>>,
) -> Option<Ended> {
    match heard {
        Some(Ok(response)) => incoming::handle(context, session, response),
        Some(Err(status)) => Some(Ended::from_status(&status, true)),
        None => Some(lost("the server ended the stream", true)),
    }
}

/// Hears the rest of a stream on which nothing can be sent any more. A server that refuses this
/// agent says so and closes; that the door is shut may be seen before the word is heard, and an
/// agent that missed it would come back and push out the one that has its place.
async fn last_words(
    context: &Arc<Context>,
    session: &mut Session,
    mut incoming: Streaming<LinkResponse>,
) -> Ended {
    let rest = timeout(LAST_WORDS_LIMIT, async {
        loop {
            let heard = incoming.next().await;
            if let Some(ended) = hear(context, session, heard) {
                return ended;
            }
        }
    });
    rest.await
        .unwrap_or_else(|_elapsed| lost("the connection is closed", true))
}

fn lost(why: &str, lived: bool) -> Ended {
    Ended::Lost {
        why: why.to_owned(),
        lived,
    }
}

fn hello(context: &Context) -> AgentHello {
    let config = &context.config;
    AgentHello {
        min_protocol: *PROTOCOLS.start(),
        max_protocol: *PROTOCOLS.end(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        session: context.session.to_string(),
        labels: config.labels.clone().into_iter().collect(),
        capacity: config.capacity,
        backend: context.backend.name().to_owned(),
        capabilities: context.backend.capabilities(),
        attempts: held(context),
    }
}

fn held(context: &Context) -> Vec<AttemptRef> {
    let held = context.attempts.held().into_iter().take(MAX_NAMED);
    held.map(|attempt| AttemptRef {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
    })
    .collect()
}

/// How many more attempts can be taken now.
pub(super) fn slots(context: &Context) -> u32 {
    if context.journal.failing().is_some() {
        return 0;
    }
    let held = u32::try_from(context.attempts.held().len()).unwrap_or(u32::MAX);
    let working = held.saturating_sub(exempt(context));
    context.config.capacity.saturating_sub(working)
}

fn credit(context: &Context) -> Credit {
    Credit {
        slots: slots(context),
        exempt: exempt(context),
    }
}

/// How many of the held attempts take no slot.
fn exempt(context: &Context) -> u32 {
    let held = context.attempts.held();
    let exempt = held.iter().filter(|attempt| attempt.is_exempt()).count();
    u32::try_from(exempt).unwrap_or(u32::MAX)
}

fn has_news(context: &Context, session: &Session) -> bool {
    !session.declined.is_empty()
        || session.slots != Some(credit(context))
        || context
            .attempts
            .held()
            .iter()
            .any(|attempt| unsent(session, attempt).is_some() || attempt.declined().is_some())
}

/// The sequence of a report that this stream has not sent, or that the server has not acknowledged
/// for long: it may have had no room to store it.
fn unsent(session: &Session, attempt: &crate::attempt::Attempt) -> Option<i64> {
    let newest = attempt.unreported()?;
    let waits = session.sent.get(&attempt.id).is_some_and(|(sent, at)| {
        *sent == newest && at.elapsed() < session.renew_interval * RESEND_AFTER
    });
    (!waits).then_some(newest)
}

/// The next message, the most urgent first.
fn next(context: &Context, session: &mut Session) -> Option<Out> {
    if Instant::now() >= session.renew_at {
        return Some(renewal(context, session));
    }
    let credit = credit(context);
    if session.slots.is_some_and(|told| told.slots > credit.slots) {
        // Before anything is given back, which else would come again.
        return Some(ask(session, credit));
    }
    if let Some(decline) = session.declined.pop().or_else(|| given_back(context)) {
        return Some(Out::Decline(decline));
    }
    for attempt in context.attempts.held() {
        if unsent(session, &attempt).is_none() {
            continue;
        }
        if let Some(report) = attempt.report() {
            let sent = (report.sequence, Instant::now());
            session.sent.insert(attempt.id, sent);
            return Some(Out::Report(report));
        }
    }
    (session.slots != Some(credit)).then(|| ask(session, credit))
}

fn ask(session: &mut Session, credit: Credit) -> Out {
    session.slots = Some(credit);
    metrics::gauge!("muster_agent_slots_free").set(f64::from(credit.slots));
    Out::Credit(credit)
}

/// An attempt that can not begin here, which is over with this word. Should the word be lost, the
/// server orders the attempt anew.
fn given_back(context: &Context) -> Option<DeclineAttempt> {
    let mut held = context.attempts.held().into_iter();
    let (attempt, (reason, message)) =
        held.find_map(|attempt| attempt.declined().map(|why| (attempt, why)))?;
    metrics::counter!("muster_agent_declined_total", "reason" => reason).increment(1);
    attempt.finish(End::Killed);
    Some(DeclineAttempt {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        reason: reason.to_owned(),
        message,
    })
}

fn renewal(context: &Context, session: &mut Session) -> Out {
    let now = Instant::now();
    session.renewal += 1;
    session.renew_at = now + session.renew_interval;
    session.unanswered_since.get_or_insert(now);
    let attempts = held(context);
    let named = attempts.iter().filter_map(|told| told.attempt.parse().ok());
    let renewal = Renewal {
        sent: now,
        named: named.collect(),
    };
    session.renewals.insert(session.renewal, renewal);
    let live: HashSet<_> = context.attempts.held().iter().map(|a| a.id).collect();
    session.sent.retain(|id, _| live.contains(id));
    tracing::trace!(
        sequence = session.renewal,
        attempts = convert::signed(attempts.len() as u64),
        "renewing"
    );
    Out::Renew(RenewLeases {
        sequence: session.renewal,
        attempts,
    })
}
