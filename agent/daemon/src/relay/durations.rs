//! A connection for durations: the values of shards in parts, relayed to one call as they come, and
//! answered once. When anything breaks the connection is closed, and the conductor begins again.

use std::{io, sync::Arc};

use muster_proto::{
    runner::v1::{
        AgentMessage, ConductorMessage, DurationsGiven, agent_message::Message as Say,
        conductor_message::Message as Said,
    },
    v1::ReadDurationsRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    artifact::uplink,
    frame::{Receiver, Sender},
    lasting, say,
};
use crate::{attempt::Attempt, context::Context};

/// Parts, of at most a frame, that wait for the connection.
const OUTBOX: usize = 1;

/// Serves one question.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let mut uplink = uplink(context).await?;
    let (outbox, requests) = mpsc::channel(OUTBOX);
    let call = uplink.read_durations(ReceiverStream::new(requests));
    let feed = async {
        feed(attempt, &mut receiver, outbox).await?;
        // The call decides, unless the conductor does not wait any longer.
        receiver.receive().await
    };
    let answer = tokio::select! {
        answer = call => answer,
        fed = feed => {
            fed?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let given = match answer {
        Ok(read) => {
            let read = read.into_inner();
            DurationsGiven {
                durations_ms: read.durations_ms,
                runs: read.runs,
                error: String::new(),
            }
        }
        Err(status) => DurationsGiven {
            error: verdict(&status)?,
            ..DurationsGiven::default()
        },
    };
    say(&mut sender, Say::Durations(given)).await
}

/// Moves the parts of the question to the call.
async fn feed(
    attempt: &Attempt,
    receiver: &mut Receiver<ConductorMessage>,
    outbox: mpsc::Sender<ReadDurationsRequest>,
) -> io::Result<()> {
    loop {
        let message = receiver.receive().await?.and_then(|next| next.message);
        let Some(Said::Durations(wish)) = message else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let request = ReadDurationsRequest {
            attempt: attempt.id.to_string(),
            epoch: attempt.epoch,
            values: wish.values,
        };
        // A call that has ended early says why.
        if outbox.send(request).await.is_err() || wish.last {
            return Ok(());
        }
    }
}

/// Why it will never be told, for people; an error when it is worth another try.
fn verdict(status: &Status) -> io::Result<String> {
    match status.code() {
        Code::Unimplemented => Ok("the server does not tell durations: update it".to_owned()),
        _ => lasting(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_retry_does_not_cure_is_told_to_the_conductor() {
        assert!(verdict(&Status::invalid_argument("too many")).is_ok());
        assert!(verdict(&Status::unimplemented("")).is_ok());
        assert!(verdict(&Status::unavailable("down")).is_err());
        assert!(verdict(&Status::aborted("the lease is lost")).is_err());
    }
}
