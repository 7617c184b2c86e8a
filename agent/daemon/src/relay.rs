//! The door for conductors: who may come in, and which kind of connection it is.
//!
//! A control connection is [`control`]'s business, an artifact's [`artifact`]'s, an archive's
//! [`archive`]'s, a credential's [`credential`]'s, that of shards' durations [`durations`]'s, a verdict's
//! [`verdict`]'s, that of missing files [`missing`]'s, the way of the log to the server [`log`]'s.

mod archive;
mod artifact;
pub(crate) mod certificate;
mod children;
mod control;
mod credential;
mod direct;
mod durations;
mod frame;
mod listener;
mod log;
mod missing;
mod resume;
mod strangers;
mod verdict;

use std::{io, sync::Arc, time::Duration};

use muster_core::id::AttemptId;
use muster_proto::runner::v1::{
    AgentMessage, ConductorHello, ConductorMessage, PROTOCOL, Refused, agent_message,
    conductor_hello::Purpose, conductor_message,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use tonic::{Code, Status};

pub(crate) use self::listener::Listener;
use self::{
    frame::{Receiver, Sender, Stream},
    listener::Accepted,
    strangers::{Stranger, Strangers},
};
use crate::{attempt::Attempt, context::Context};

/// How long a stranger may take to say who it is.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Connections for one attempt: its control connection, a newer one, and artifacts.
const PER_ATTEMPT: usize = 24;
/// Connections beside those.
const SPARE: usize = 64;
/// Most connections at all.
const MOST: usize = 20_000;
/// Part of all places that strangers from one address may hold.
const STRANGERS_PART: usize = 4;

/// Takes connections until the agent stops.
pub(crate) async fn serve(context: Arc<Context>, listener: Listener) {
    let capacity = usize::try_from(context.config.capacity).unwrap_or(MOST);
    let limit = capacity.saturating_mul(PER_ATTEMPT).saturating_add(SPARE);
    let limit = limit.min(MOST);
    let places = Arc::new(Semaphore::new(limit));
    let strangers = Strangers::new(limit / STRANGERS_PART);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok(accepted) => {
                let stranger = match accepted.address() {
                    Some(address) => match strangers.enter(address) {
                        Some(stranger) => Some(stranger),
                        // Hung up: a conductor tries again.
                        None => {
                            tracing::debug!(%address, "too many strangers from one address");
                            continue;
                        }
                    },
                    None => None,
                };
                let door = Arc::clone(&context);
                context.spawn(async move { welcome(&door, accepted, stranger, place).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                // Out of file descriptors, most likely: wait until some are free.
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn welcome(
    context: &Arc<Context>,
    accepted: Accepted,
    stranger: Option<Stranger>,
    _place: OwnedSemaphorePermit,
) {
    let opened = timeout(HELLO_LIMIT, async {
        let stream: Box<dyn Stream> = accepted.secure().await?;
        let (mut receiver, sender) = frame::split(stream);
        let hello = receive_hello(&mut receiver).await?;
        Ok::<_, io::Error>((hello, receiver, sender))
    });
    let (hello, mut receiver, mut sender) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection ended before its hello"),
        Err(_elapsed) => return tracing::debug!("a connection said no hello in time"),
    };
    let attempt = match admit(context, &hello) {
        Ok(attempt) => attempt,
        Err(refused) => {
            tracing::info!(
                attempt = hello.attempt,
                message = refused.message,
                "refused a conductor"
            );
            // It will ask again if it has not heard.
            let _unheard = sender.send(&refusal(refused)).await;
            return;
        }
    };
    receiver.authenticated();
    drop(stranger);
    let result = match hello.purpose() {
        Purpose::Artifact => artifact::serve(context, &attempt, receiver, sender).await,
        Purpose::Archive => archive::serve(context, &attempt, receiver, sender).await,
        Purpose::Credential => credential::serve(context, &attempt, receiver, sender).await,
        Purpose::Durations => durations::serve(context, &attempt, receiver, sender).await,
        Purpose::Missing => missing::serve(context, &attempt, receiver, sender).await,
        Purpose::Verdict => verdict::serve(context, &attempt, receiver, sender).await,
        Purpose::Control | Purpose::Unspecified => {
            control::serve(context, &attempt, &hello, receiver, sender).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(attempt = %attempt.id, purpose = ?hello.purpose(), %error, "a conductor's connection ended");
    }
}

/// What the server says for good, for people; an error when it is worth another try.
fn lasting(status: &Status) -> io::Result<String> {
    match status.code() {
        Code::NotFound | Code::PermissionDenied | Code::InvalidArgument => {
            Ok(status.message().to_owned())
        }
        code => Err(io::Error::other(format!("{code:?}: {}", status.message()))),
    }
}

async fn receive_hello(receiver: &mut Receiver<ConductorMessage>) -> io::Result<ConductorHello> {
    match receiver.receive().await?.and_then(|first| first.message) {
        Some(conductor_message::Message::Hello(hello)) => Ok(hello),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the first message is not a hello",
        )),
    }
}

/// Whether a conductor may come in.
fn admit(context: &Context, hello: &ConductorHello) -> Result<Arc<Attempt>, Refused> {
    let refuse = |message: &str, permanent| {
        Err(Refused {
            message: message.to_owned(),
            permanent,
        })
    };
    let Ok(id) = hello.attempt.parse::<AttemptId>() else {
        return refuse("the hello names no attempt", true);
    };
    if !context.backend.key().admits(id, &hello.token) {
        return refuse("the token is not that of the attempt", true);
    }
    if hello.protocol != PROTOCOL {
        return refuse(
            "this agent does not speak that version of the protocol",
            true,
        );
    }
    let Some(attempt) = context.attempts.get(id) else {
        if context.attempts.is_reconciled() {
            return refuse("the attempt is over", true);
        }
        return refuse("the agent does not know its attempts yet", false);
    };
    if let Some(message) = attempt.is_lost() {
        return refuse(&format!("the attempt is lost: {message}"), true);
    }
    if attempt.end().is_some() {
        return refuse("the attempt is over", true);
    }
    if attempt.work().is_none() && !hello.has_plan {
        return refuse("the agent does not know the plan yet", false);
    }
    if !may_walk(context, &attempt, hello) {
        return refuse("the lease of the attempt may be over; ask again", false);
    }
    Ok(attempt)
}

/// Whether a conductor may be given its plan: only while the attempt is sure to be this agent's.
/// One that has its plan walks on.
fn may_walk(context: &Context, attempt: &Attempt, hello: &ConductorHello) -> bool {
    let is_control = matches!(hello.purpose(), Purpose::Control | Purpose::Unspecified);
    hello.has_plan || !is_control || context.leases.holds(attempt.proven())
}

fn refusal(refused: Refused) -> AgentMessage {
    AgentMessage {
        message: Some(agent_message::Message::Refused(refused)),
    }
}

/// Sends one message.
async fn say(sender: &mut Sender<AgentMessage>, message: agent_message::Message) -> io::Result<()> {
    sender
        .send(&AgentMessage {
            message: Some(message),
        })
        .await
}
