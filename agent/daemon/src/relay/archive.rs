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
use tonic::Code;

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
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
            let part = ArchivePart {
                error: status.message().to_owned(),
                ..ArchivePart::default()
            };
            return say(&mut sender, Say::Archive(part)).await;
        }
        Err(status) => return Err(io::Error::other(status)),
    };
    while let Some(piece) = pieces.message().await.map_err(io::Error::other)? {
        let part = ArchivePart {
            data: piece.data,
            ..ArchivePart::default()
        };
        say(&mut sender, Say::Archive(part)).await?;
    }
    let last = ArchivePart {
        last: true,
        ..ArchivePart::default()
    };
    say(&mut sender, Say::Archive(last)).await
}
