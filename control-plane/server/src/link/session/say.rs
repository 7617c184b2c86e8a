//! What the server says on a stream of an agent.

use std::{sync::atomic::Ordering, time::Duration};

use muster_proto::v1::{LinkResponse, Refusal, ReportAck, link_response::Message, refusal::Reason};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use super::Stage;
use crate::app::Error;

/// How many messages that can not be read, or name attempts of others, a stream may have.
const MAX_OFFENCES: u32 = 100;
/// How long an agent may let everything wait that is said to it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(20);

impl Stage {
    /// Says something to the agent. One that does not listen loses its stream.
    pub(super) async fn say(&self, message: Message) {
        let message = LinkResponse {
            message: Some(message),
        };
        let patience = match self.stop.is_cancelled() {
            // Nobody is waited for on a stream that ends.
            true => Duration::ZERO,
            false => LISTEN_PATIENCE,
        };
        // When the receiver is gone the stream is: the next request tells.
        let sent = self.outbox.send_timeout(message, patience).await;
        if let Err(mpsc::error::SendTimeoutError::Timeout(_)) = sent {
            tracing::warn!("the agent does not listen, its stream is closed");
            self.stop.cancel();
        }
    }

    /// The stream broke, or a message was too large or could not be read: then the agent is told.
    pub(super) async fn refuse_broken(&self, status: &Status) -> Result<(), Error> {
        match status.code() {
            Code::OutOfRange | Code::ResourceExhausted | Code::Internal | Code::InvalidArgument => {
                self.refuse(Reason::Invalid, status.message()).await
            }
            _ => Ok(()),
        }
    }

    /// Counts what no agent should say. One that goes on with it loses its stream, and with it the
    /// place from which it keeps this server busy.
    pub(super) fn offend(&self) {
        let before = self.offences.fetch_add(1, Ordering::Relaxed);
        if before + 1 == MAX_OFFENCES {
            tracing::warn!(
                "the agent says what makes no sense again and again, its stream is closed"
            );
            metrics::counter!(crate::metrics::OFFENDERS).increment(1);
            self.stop.cancel();
        }
    }

    pub(super) async fn refuse(&self, reason: Reason, message: &str) -> Result<(), Error> {
        if reason == Reason::Invalid {
            self.offend();
        }
        metrics::counter!(crate::metrics::REFUSALS, "reason" => reason.as_str_name()).increment(1);
        self.say(Message::Refusal(Refusal {
            reason: reason.into(),
            message: message.to_owned(),
            ..Refusal::default()
        }))
        .await;
        Ok(())
    }

    pub(super) async fn refuse_lease(&self, attempt: &str, epoch: i64) {
        let reason = Reason::LeaseLost;
        metrics::counter!(crate::metrics::REFUSALS, "reason" => reason.as_str_name()).increment(1);
        self.say(Message::Refusal(Refusal {
            attempt: attempt.to_owned(),
            epoch,
            reason: reason.into(),
            message: "the attempt is not leased to this agent under this epoch; stop it".to_owned(),
        }))
        .await;
    }

    pub(super) async fn acknowledge(&self, attempt: &str, sequence: i64) {
        self.say(Message::ReportAck(ReportAck {
            attempt: attempt.to_owned(),
            sequence,
        }))
        .await;
    }
}
