//! A verdict's connection: one wish, relayed to one call. When anything breaks the connection is closed,
//! and the conductor asks again, as long as it cares.

use std::{io, sync::Arc};

use muster_proto::{
    runner::v1::{
        AgentMessage, ConductorMessage, VerdictGiven, agent_message::Message as Say,
        conductor_message::Message as Said,
    },
    v1::JudgeStepRequest,
};
use tonic::{Code, Status};

use super::{
    artifact::uplink,
    frame::{Receiver, Sender},
    lasting, say,
};
use crate::{attempt::Attempt, context::Context};

/// Serves one verdict.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let first = receiver.receive().await?;
    let Some(Said::Verdict(wish)) = first.and_then(|first| first.message) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let request = JudgeStepRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        step: wish.step,
        stale: wish.stale,
        ahead: wish.ahead,
    };
    let mut uplink = uplink(context).await?;
    let judged = tokio::select! {
        judged = uplink.judge_step(request) => judged,
        // It says nothing more: whatever it hears of it, it has gone, and need not be waited for.
        _ = receiver.receive() => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let given = match judged {
        Ok(judged) => {
            let judged = judged.into_inner();
            VerdictGiven {
                forgiven: judged.forgiven,
                open: judged.open,
                message: judged.message,
            }
        }
        Err(status) => unforgiven(&status)?,
    };
    say(&mut sender, Say::Verdict(given)).await
}

/// The verdict when the server gives none and never will; an error when it is worth another try.
fn unforgiven(status: &Status) -> io::Result<VerdictGiven> {
    match status.code() {
        // A server that knows no quarantine has nothing in it.
        Code::Unimplemented => Ok(VerdictGiven::default()),
        _ => lasting(status).map(|message| VerdictGiven {
            message,
            ..VerdictGiven::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_server_does_not_know_is_not_forgiven_and_no_news() {
        let given = unforgiven(&Status::unimplemented("no such method"));
        assert_eq!(given.expect("no retry"), VerdictGiven::default());
        let missing = unforgiven(&Status::not_found("no such attempt"));
        let missing = missing.expect("no retry");
        assert_eq!(
            (missing.forgiven, missing.message.as_str()),
            (false, "no such attempt")
        );
        assert!(unforgiven(&Status::unavailable("down")).is_err());
    }
}
