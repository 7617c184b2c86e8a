//! An artifact that was sent before and broke: the server says how much of it is there, the conductor goes on
//! from there. Where the server knows nothing of it, or knows no such question, the whole artifact follows as
//! any other one. The agent itself keeps nothing.

use std::io;

use muster_proto::{
    runner::v1::{
        AgentMessage, ArtifactAck, ArtifactBegin, ArtifactKept, ArtifactPart, ConductorMessage,
        agent_message::Message as Say, artifact_part::Part as Told,
        conductor_message::Message as Said,
    },
    v1::{
        ResumeUploadRequest, ResumeUploadResponse, resume_upload_request,
        resume_upload_response::Told as Heard, upload_artifact_request::Part,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    artifact::{OUTBOX, feed, header, invalid, refusal, relay, uplink},
    frame::{Receiver, Sender},
    say,
};
use crate::{
    attempt::Attempt,
    context::{Context, Uplink},
    convert,
};

/// The beginning of an artifact that was sent before.
pub(super) fn begun(message: &ConductorMessage) -> Option<&ArtifactBegin> {
    let Some(Said::Artifact(part)) = &message.message else {
        return None;
    };
    match &part.part {
        Some(Told::Begin(begin)) if begin.resume => Some(begin),
        _ => None,
    }
}

/// Serves one artifact.
pub(super) async fn serve(
    context: &Context,
    attempt: &Attempt,
    receiver: &mut Receiver<ConductorMessage>,
    sender: &mut Sender<AgentMessage>,
    begin: ArtifactBegin,
) -> io::Result<ArtifactAck> {
    let (outbox, requests) = mpsc::channel(OUTBOX);
    let first = Part::Header(header(attempt, begin.clone()));
    // There is room for it.
    drop(outbox.try_send(request(first)));
    let opened = async {
        let call = uplink(context).await?;
        Ok::<_, io::Error>(open(call, requests).await)
    };
    let (mut answers, kept) = match opened.await? {
        Ok(opened) => opened,
        // An older server.
        Err(status) if status.code() == Code::Unimplemented => {
            say(sender, Say::ArtifactKept(ArtifactKept::default())).await?;
            let part = Some(Told::Begin(begin));
            let begin = ConductorMessage {
                message: Some(Said::Artifact(ArtifactPart { part })),
            };
            return relay(context, attempt, receiver, vec![begin]).await;
        }
        // Nothing else was sent that would be under way.
        Err(status) => {
            let ack = refusal(&status)?;
            return Ok(ArtifactAck { more: true, ..ack });
        }
    };
    say(sender, Say::ArtifactKept(kept)).await?;
    let mut is_sent = false;
    let feed = async {
        is_sent = feed(attempt, receiver, Vec::new(), outbox, request).await?;
        // The upload decides.
        std::future::pending::<io::Result<()>>().await
    };
    let ack = tokio::select! {
        answer = answers.message() => verdict(answer)?,
        fed = feed => {
            fed?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    // Of one that was refused before its end the rest is still under way.
    let more = is_sent;
    Ok(ArtifactAck { more, ..ack })
}

type Opened = (Streaming<ResumeUploadResponse>, ArtifactKept);

/// Asks what is there.
async fn open(
    mut uplink: Uplink,
    requests: mpsc::Receiver<ResumeUploadRequest>,
) -> Result<Opened, Status> {
    let answers = uplink.resume_upload(ReceiverStream::new(requests)).await?;
    let mut answers = answers.into_inner();
    let first = answers.message().await?.and_then(|answer| answer.told);
    let Some(Heard::Kept(kept)) = first else {
        return Err(Status::unavailable("the server does not say what it has"));
    };
    let (Some(sha256), Ok(size)) = (
        convert::from_hex(&kept.sha256),
        u64::try_from(kept.size_bytes),
    ) else {
        return Err(Status::unavailable("what the server has can not be read"));
    };
    let sha256 = sha256.into();
    Ok((answers, ArtifactKept { size, sha256 }))
}

fn request(part: Part) -> ResumeUploadRequest {
    let part = match part {
        Part::Header(header) => resume_upload_request::Part::Header(header),
        Part::Data(data) => resume_upload_request::Part::Data(data),
        Part::Footer(footer) => resume_upload_request::Part::Footer(footer),
    };
    ResumeUploadRequest { part: Some(part) }
}

/// What to tell the conductor, as of any other upload.
fn verdict(answer: Result<Option<ResumeUploadResponse>, Status>) -> io::Result<ArtifactAck> {
    match answer.map(|answer| answer.and_then(|answer| answer.told)) {
        Ok(Some(Heard::Name(_))) => Ok(ArtifactAck::default()),
        Ok(_) => Err(invalid()),
        Err(status) => refusal(&status),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_proto::v1::UploadKept;

    use super::*;

    #[test]
    fn only_a_beginning_that_says_so_goes_on() {
        let message = |part| ConductorMessage {
            message: Some(Said::Artifact(ArtifactPart { part: Some(part) })),
        };
        let plain = ArtifactBegin::default();
        let again = ArtifactBegin {
            resume: true,
            ..ArtifactBegin::default()
        };
        assert!(begun(&message(Told::Begin(again))).is_some());
        assert!(begun(&message(Told::Begin(plain))).is_none());
        assert!(begun(&message(Told::Data(Bytes::new()))).is_none());
        assert!(begun(&ConductorMessage::default()).is_none());
    }

    #[test]
    fn only_the_name_of_the_artifact_means_that_it_is_durable() {
        let told = |told| Ok(Some(ResumeUploadResponse { told: Some(told) }));
        let durable = verdict(told(Heard::Name("name".to_owned())));
        assert_eq!(durable.expect("durable").error, "");
        assert!(verdict(told(Heard::Kept(UploadKept::default()))).is_err());
        assert!(
            verdict(Ok(None)).is_err(),
            "the stream ended without a word"
        );
        let refused = verdict(Err(Status::invalid_argument("another size")));
        assert_eq!(refused.expect("no retry").error, "another size");
        assert!(verdict(Err(Status::aborted("a newer call"))).is_err());
    }
}
