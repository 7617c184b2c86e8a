//! A credential's connection: one wish, relayed to one call. Its value passes through and is kept
//! nowhere; when anything breaks the connection is closed, and the conductor begins again.

use std::{io, sync::Arc};

use muster_proto::{
    runner::v1::{
        AgentMessage, ConductorMessage, CredentialGiven, agent_message::Message as Say,
        conductor_message::Message as Said,
    },
    v1::ReadCredentialRequest,
};
use tonic::{Code, Status};

use super::{
    artifact::uplink,
    frame::{Receiver, Sender},
    lasting, say,
};
use crate::{attempt::Attempt, context::Context};

/// Serves one credential.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let first = receiver.receive().await?;
    let Some(Said::Credential(wish)) = first.and_then(|first| first.message) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let request = ReadCredentialRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        credential: wish.name,
    };
    let given = match uplink(context).await?.read_credential(request).await {
        Ok(read) => CredentialGiven {
            value: read.into_inner().value,
            error: String::new(),
        },
        Err(status) => CredentialGiven {
            value: String::new(),
            error: verdict(&status)?,
        },
    };
    say(&mut sender, Say::Credential(given)).await
}

/// Why it will never be given, for people; an error when it is worth another try.
fn verdict(status: &Status) -> io::Result<String> {
    match status.code() {
        Code::FailedPrecondition => Ok(status.message().to_owned()),
        Code::Unimplemented => Ok("the server keeps no credentials: update it".to_owned()),
        _ => lasting(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_retry_does_not_cure_is_told_to_the_conductor() {
        let missing = verdict(&Status::not_found("no credential 'a'"));
        assert_eq!(missing.expect("no retry"), "no credential 'a'");
        assert!(verdict(&Status::permission_denied("not named")).is_ok());
        assert!(verdict(&Status::unavailable("down")).is_err());
        assert!(verdict(&Status::aborted("the lease is lost")).is_err());
    }
}
