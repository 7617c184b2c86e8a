//! An artifact's connection: one file, relayed to one upload. When anything breaks the connection
//! is closed, and the conductor begins again.

use std::{io, sync::Arc, time::Duration};

use muster_proto::{
    runner::v1::{
        AgentMessage, ArtifactAck, ConductorMessage, MAX_ARTIFACT_DATA,
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
    frame::{Receiver, Sender},
    say,
};
use crate::{
    attempt::Attempt,
    context::{Context, Uplink},
    convert,
};

/// Parts, of at most 256 KiB, that wait for the connection.
const OUTBOX: usize = 2;
/// How long to wait for a way to the server.
const UPLINK_LIMIT: Duration = Duration::from_secs(30);

/// Serves one artifact.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let mut uplink = uplink(context).await?;
    let (outbox, requests) = mpsc::channel(OUTBOX);
    let upload = uplink.upload_artifact(ReceiverStream::new(requests));
    let feed = async move {
        let fed = feed(attempt, receiver, outbox).await;
        if fed.is_ok() {
            // All of it is sent: the upload decides.
            std::future::pending::<()>().await;
        }
        fed
    };
    let error = tokio::select! {
        answer = upload => verdict(answer)?,
        fed = feed => return fed,
    };
    say(&mut sender, Say::ArtifactAck(ArtifactAck { error })).await
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

/// Moves the parts of the artifact to the upload.
async fn feed(
    attempt: &Attempt,
    mut receiver: Receiver<ConductorMessage>,
    outbox: mpsc::Sender<UploadArtifactRequest>,
) -> io::Result<()> {
    loop {
        let Some(message) = receiver.receive().await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let Some(Said::Artifact(part)) = message.message else {
            return Err(invalid());
        };
        let (part, last) = match part.part.ok_or_else(invalid)? {
            Told::Begin(begin) => {
                let header = ArtifactHeader {
                    attempt: attempt.id.to_string(),
                    epoch: attempt.epoch,
                    path: begin.path,
                    mode: begin.mode,
                    step: begin.step,
                };
                (Part::Header(header), false)
            }
            Told::Data(data) if data.len() > MAX_ARTIFACT_DATA => return Err(invalid()),
            Told::Data(data) => (Part::Data(data), false),
            Told::End(end) => {
                let footer = ArtifactFooter {
                    size_bytes: convert::signed(end.size),
                    sha256: convert::hex(&end.sha256),
                };
                (Part::Footer(footer), true)
            }
        };
        let request = UploadArtifactRequest { part: Some(part) };
        if outbox.send(request).await.is_err() {
            // The upload ended early, and says why.
            return Ok(());
        }
        if last {
            return Ok(());
        }
    }
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a message that does not belong on an artifact's connection, or is too long",
    )
}

/// What to tell the conductor: empty when the artifact is durable, why it never will be, or an
/// error when it is worth another try.
fn verdict(answer: Result<Response<UploadArtifactResponse>, Status>) -> io::Result<String> {
    let Err(status) = answer else {
        return Ok(String::new());
    };
    match status.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Unimplemented => Ok(status.message().to_owned()),
        code => Err(io::Error::other(format!("{code:?}: {}", status.message()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retry_does_not_cure_is_told_to_the_conductor() {
        let refused = verdict(Err(Status::invalid_argument("bad path")));
        assert_eq!(refused.expect("no retry"), "bad path");
        assert!(verdict(Err(Status::unavailable("down"))).is_err());
        assert!(verdict(Err(Status::data_loss("hash"))).is_err());
    }
}
