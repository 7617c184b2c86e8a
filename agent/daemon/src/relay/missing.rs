//! A connection for missing files: one list, relayed to one call. When anything breaks the connection is
//! closed, and the conductor says it again.

use std::{io, sync::Arc};

use muster_proto::{
    runner::v1::{
        AgentMessage, ConductorMessage, MissingNoted, agent_message::Message as Say,
        conductor_message::Message as Said,
    },
    v1::{MissArtifactsRequest, MissedFile},
};
use tonic::{Code, Status};

use super::{
    artifact::uplink,
    frame::{Receiver, Sender},
    lasting, say,
};
use crate::{attempt::Attempt, context::Context};

/// Serves one list.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let first = receiver.receive().await?;
    let Some(Said::Missing(missing)) = first.and_then(|first| first.message) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let files = missing.files.into_iter().map(|file| MissedFile {
        path: file.path,
        reason: file.reason,
        message: file.message,
    });
    let request = MissArtifactsRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        step: missing.step,
        files: files.collect(),
    };
    let mut uplink = uplink(context).await?;
    if let Err(status) = uplink.miss_artifacts(request).await {
        let why = unnoted(&status)?;
        tracing::warn!(attempt = %attempt.id, why, "the server takes no note of missing files");
    }
    say(&mut sender, Say::MissingNoted(MissingNoted {})).await
}

/// Why the server takes no note and never will, which is no fault of the test; an error when it is worth
/// another try.
fn unnoted(status: &Status) -> io::Result<String> {
    match status.code() {
        // An older one has them in the log alone.
        Code::Unimplemented => Ok(status.message().to_owned()),
        _ => lasting(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_server_holds_nobody_up_and_one_that_is_away_does() {
        assert!(unnoted(&Status::unimplemented("no such method")).is_ok());
        assert!(unnoted(&Status::invalid_argument("files")).is_ok());
        assert!(unnoted(&Status::unavailable("down")).is_err());
    }
}
