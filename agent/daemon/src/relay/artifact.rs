//! A connection for artifacts: one file after the other, each relayed to an upload of its own, unless the
//! conductor puts it into the object store itself, see [`super::direct`]. When anything breaks the
//! connection is closed, and the conductor goes on with another one, see [`super::resume`].

use std::{io, sync::Arc, time::Duration};

use muster_proto::{
    runner::v1::{
        AgentMessage, ArtifactAck, ArtifactBegin, ConductorMessage, MAX_ARTIFACT_DATA,
        agent_message::Message as Say, artifact_part::Part as Told,
        conductor_message::Message as Said,
    },
    v1::{
        ArtifactFooter, ArtifactHeader, UploadArtifactRequest, UploadArtifactResponse,
        upload_artifact_request::Part,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};

use super::{
    direct,
    frame::{Receiver, Sender},
    resume, say,
};
use crate::{
    attempt::Attempt,
    context::{Context, Uplink},
    convert,
};

/// Parts, of at most 256 KiB, that wait for the connection.
pub(super) const OUTBOX: usize = 2;
/// How long to wait for a way to the server.
const UPLINK_LIMIT: Duration = Duration::from_secs(30);

/// Serves artifacts as long as they come.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    while let Some(first) = receiver.receive().await? {
        let (again, direct) = (resume::begun(&first), direct::begun(&first));
        let ack = if let Some(begin) = again.cloned() {
            resume::serve(context, attempt, &mut receiver, &mut sender, begin).await?
        } else if let Some(begin) = direct.cloned() {
            direct::serve(context, attempt, &mut receiver, &mut sender, begin).await?
        } else {
            relay(context, attempt, &mut receiver, vec![first]).await?
        };
        let more = ack.more;
        say(&mut sender, Say::ArtifactAck(ack)).await?;
        if !more {
            break;
        }
    }
    Ok(())
}

/// Relays the artifact that begins with the messages `first`.
pub(super) async fn relay(
    context: &Context,
    attempt: &Attempt,
    receiver: &mut Receiver<ConductorMessage>,
    first: Vec<ConductorMessage>,
) -> io::Result<ArtifactAck> {
    let mut uplink = uplink(context).await?;
    let (outbox, requests) = mpsc::channel(OUTBOX);
    let upload = uplink.upload_artifact(ReceiverStream::new(requests));
    let mut is_sent = false;
    let feed = async {
        let request = |part| UploadArtifactRequest { part: Some(part) };
        is_sent = feed(attempt, receiver, first, outbox, request).await?;
        // The upload decides.
        std::future::pending::<io::Result<()>>().await
    };
    let ack = tokio::select! {
        answer = upload => verdict(answer)?,
        fed = feed => {
            fed?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    // Of one that was refused before its end the rest is still under way.
    let more = is_sent;
    Ok(ArtifactAck { more, ..ack })
}

/// The way to the server, once there is one.
pub(super) async fn uplink(context: &Context) -> io::Result<Uplink> {
    let mut uplinks = context.uplink.subscribe();
    let found = timeout(UPLINK_LIMIT, uplinks.wait_for(Option::is_some)).await;
    match found {
        Ok(Ok(uplink)) => uplink
            .clone()
            .ok_or_else(|| io::ErrorKind::NotConnected.into()),
        _ => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// Moves the parts of the artifact to the upload; whether all of them.
pub(super) async fn feed<R>(
    attempt: &Attempt,
    receiver: &mut Receiver<ConductorMessage>,
    first: Vec<ConductorMessage>,
    outbox: mpsc::Sender<R>,
    request: impl Fn(Part) -> R,
) -> io::Result<bool> {
    let mut first = first.into_iter();
    loop {
        let message = match first.next() {
            Some(message) => message,
            None => {
                let message = receiver.receive().await?;
                message.ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        let Some(Said::Artifact(part)) = message.message else {
            return Err(invalid());
        };
        let (part, last) = match part.part.ok_or_else(invalid)? {
            Told::Begin(begin) => (Part::Header(header(attempt, begin)), false),
            Told::Data(data) if data.len() > MAX_ARTIFACT_DATA => return Err(invalid()),
            Told::Data(data) => (Part::Data(data), false),
            Told::End(end) => (Part::Footer(footer(end.size, &end.sha256)), true),
        };
        if outbox.send(request(part)).await.is_err() {
            // The upload ended early, and says why.
            return Ok(false);
        }
        if last {
            return Ok(true);
        }
    }
}

pub(super) fn header(attempt: &Attempt, begin: ArtifactBegin) -> ArtifactHeader {
    ArtifactHeader {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        path: begin.path,
        mode: begin.mode,
        step: begin.step,
    }
}

pub(super) fn footer(size: u64, sha256: &[u8]) -> ArtifactFooter {
    ArtifactFooter {
        size_bytes: convert::signed(size),
        sha256: convert::hex(sha256),
    }
}

pub(super) fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message that does not belong on an artifact's connection, or is too long",
    )
}

/// What to tell the conductor: that the artifact is durable, why it never will be, or an error when it is
/// worth another try.
fn verdict(answer: Result<Response<UploadArtifactResponse>, Status>) -> io::Result<ArtifactAck> {
    match answer {
        Ok(_) => Ok(ArtifactAck::default()),
        Err(status) => refusal(&status),
    }
}

/// Why an artifact never will be durable; an error when it is worth another try.
pub(super) fn refusal(status: &Status) -> io::Result<ArtifactAck> {
    match status.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Unimplemented => Ok(ArtifactAck {
            error: status.message().to_owned(),
            more: false,
            full: status.code() == Code::ResourceExhausted,
        }),
        code => Err(io::Error::other(format!("{code:?}: {}", status.message()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retry_does_not_cure_is_told_to_the_conductor() {
        let refused = verdict(Err(Status::invalid_argument("bad path")));
        let refused = refused.expect("no retry");
        assert_eq!((refused.error.as_str(), refused.full), ("bad path", false));
        let full = verdict(Err(Status::resource_exhausted("too many")));
        assert!(full.expect("no retry").full);
        assert!(verdict(Err(Status::unavailable("down"))).is_err());
        assert!(verdict(Err(Status::data_loss("hash"))).is_err());
    }
}
