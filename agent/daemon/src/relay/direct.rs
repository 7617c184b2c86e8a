//! An artifact that does not come through the agent: the conductor gets a URL from the server, puts the file
//! into the object store, and says so. The URL passes through and is kept nowhere. Where the server gives
//! none, or the conductor does not reach the store, the data follow as those of any other artifact.

use std::{io, time::Duration};

use muster_proto::{
    runner::v1::{
        AgentMessage, ArtifactAck, ArtifactBegin, ArtifactPart, ConductorMessage, DirectUpload,
        agent_message::Message as Say, artifact_part::Part as Told,
        conductor_message::Message as Said,
    },
    v1::{ArtifactFooter, ArtifactHeader, BeginDirectUploadRequest, EndDirectUploadRequest},
};
use tonic::Code;

use super::{
    artifact::{footer, header, invalid, refusal, relay, uplink},
    frame::{Receiver, Sender},
    say,
};
use crate::{attempt::Attempt, context::Context};

/// How often the server is told of what was put, while it can not be reached.
const TRIES: u32 = 10;
/// How long to wait in between.
const PAUSE: Duration = Duration::from_secs(1);

/// The beginning of an artifact that asks for a way around the agent.
pub(super) fn begun(message: &ConductorMessage) -> Option<&ArtifactBegin> {
    let Some(Said::Artifact(part)) = &message.message else {
        return None;
    };
    match &part.part {
        Some(Told::Begin(begin)) if begin.direct.is_some() => Some(begin),
        _ => None,
    }
}

/// Serves one artifact.
pub(super) async fn serve(
    context: &Context,
    attempt: &Attempt,
    receiver: &mut Receiver<ConductorMessage>,
    sender: &mut Sender<AgentMessage>,
    mut begin: ArtifactBegin,
) -> io::Result<ArtifactAck> {
    let wish = begin.direct.take().unwrap_or_default();
    let told = footer(wish.size, &wish.sha256);
    let request = BeginDirectUploadRequest {
        header: Some(header(attempt, begin.clone())),
        footer: Some(told.clone()),
        has_authorities: wish.has_authorities,
    };
    let begun = uplink(context).await?.begin_direct_upload(request).await;
    let (given, key) = match begun {
        Ok(given) => {
            let given = given.into_inner();
            let upload = DirectUpload {
                url: given.url,
                headers: given.headers,
                authorities: given.authorities,
            };
            (upload, given.key)
        }
        // An older server.
        Err(status) if status.code() == Code::Unimplemented => Default::default(),
        // Nothing else was sent that would be under way.
        Err(status) => {
            let ack = refusal(&status)?;
            return Ok(ArtifactAck { more: true, ..ack });
        }
    };
    say(sender, Say::DirectUpload(given)).await?;
    let next = receiver.receive().await?;
    let next = next.ok_or(io::ErrorKind::UnexpectedEof)?;
    if let Some(Said::Artifact(part)) = &next.message
        && let Some(Told::End(end)) = &part.part
        && end.direct
    {
        if key.is_empty() {
            return Err(invalid());
        }
        let ack = end_upload(context, header(attempt, begin), told, key).await?;
        return Ok(ArtifactAck { more: true, ..ack });
    }
    let begin = ConductorMessage {
        message: Some(Said::Artifact(ArtifactPart {
            part: Some(Told::Begin(begin)),
        })),
    };
    relay(context, attempt, receiver, vec![begin, next]).await
}

/// Tells the server that an artifact is in the object store, as often as it takes: it is there already.
async fn end_upload(
    context: &Context,
    header: ArtifactHeader,
    footer: ArtifactFooter,
    key: String,
) -> io::Result<ArtifactAck> {
    let request = EndDirectUploadRequest {
        header: Some(header),
        footer: Some(footer),
        key,
    };
    let mut tries = 1;
    loop {
        let mut uplink = uplink(context).await?;
        match uplink.end_direct_upload(request.clone()).await {
            Ok(_) => return Ok(ArtifactAck::default()),
            Err(status) if status.code() == Code::Unavailable && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            // What is there is not what was told: the conductor begins again, and sends it here.
            Err(status) if status.code() == Code::FailedPrecondition => {
                return Err(io::Error::other(status.message().to_owned()));
            }
            Err(status) => return refusal(&status),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::runner::v1::DirectWish;

    use super::*;

    #[test]
    fn only_a_beginning_with_a_wish_is_direct() {
        let message = |part| ConductorMessage {
            message: Some(Said::Artifact(ArtifactPart { part: Some(part) })),
        };
        let plain = ArtifactBegin::default();
        let wish = ArtifactBegin {
            direct: Some(DirectWish::default()),
            ..ArtifactBegin::default()
        };
        assert!(begun(&message(Told::Begin(wish))).is_some());
        assert!(begun(&message(Told::Begin(plain))).is_none());
        assert!(begun(&message(Told::Data(bytes::Bytes::new()))).is_none());
        assert!(begun(&ConductorMessage::default()).is_none());
    }
}
