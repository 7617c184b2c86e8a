//! An archive's connection: one wish, relayed to one download. When anything breaks the connection
//! is closed, and the conductor begins again.

use std::{io, sync::Arc};

use muster_proto::{
    runner::v1::{
        AgentMessage, ArchivePart, ConductorMessage, agent_message::Message as Say,
        conductor_message::Message as Said,
    },
    v1::ReadArchiveRequest,
};
use tonic::{Code, Status};

use super::{
    artifact::uplink,
    frame::{Receiver, Sender},
    say,
};
use crate::{attempt::Attempt, context::Context};

/// Serves one archive.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let first = receiver.receive().await?;
    let Some(Said::Archive(wish)) = first.and_then(|first| first.message) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let request = ReadArchiveRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        execution: wish.execution,
        path: wish.path,
    };
    let opened = uplink(context).await?.read_archive(request).await;
    let mut pieces = match opened {
        Ok(opened) => opened.into_inner(),
        Err(status) => return say(&mut sender, Say::Archive(refusal(status)?)).await,
    };
    loop {
        let part = match pieces.message().await {
            Ok(Some(piece)) => ArchivePart {
                data: piece.data,
                ..ArchivePart::default()
            },
            Ok(None) => break,
            Err(status) => return say(&mut sender, Say::Archive(refusal(status)?)).await,
        };
        say(&mut sender, Say::Archive(part)).await?;
    }
    let last = ArchivePart {
        last: true,
        ..ArchivePart::default()
    };
    say(&mut sender, Say::Archive(last)).await
}

/// Why an archive never will come; an error when it is worth another try.
fn refusal(status: Status) -> io::Result<ArchivePart> {
    match status.code() {
        Code::NotFound | Code::InvalidArgument | Code::DataLoss => Ok(ArchivePart {
            error: status.message().to_owned(),
            ..ArchivePart::default()
        }),
        _ => Err(io::Error::other(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retry_does_not_cure_is_told_to_the_conductor() {
        for lost in [Status::not_found("no"), Status::data_loss("other bytes")] {
            let told = refusal(lost).expect("no retry");
            assert!(!told.error.is_empty());
        }
        assert!(refusal(Status::unavailable("down")).is_err());
    }
}
