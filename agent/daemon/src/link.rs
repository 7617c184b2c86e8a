//! The link to the control plane: one stream at a time, again and again.
//!
//! What is said on a stream is in [`session`]; how a server is reached in [`channel`]. Log and
//! artifacts have connections of their own, see [`crate::relay`].

mod channel;
mod incoming;
mod session;

use std::{sync::Arc, time::Duration};

use tonic::Code;

use crate::{Error, backoff::Backoff, context::Context};

/// How a stream ended.
pub(crate) enum Ended {
    /// Connect again after a delay that grows; `lived` when the server had welcomed this agent.
    Lost { why: String, lived: bool },
    /// The server stops; connect again after a delay below this.
    Drained(Duration),
    /// No retry helps.
    Fatal(Error),
}

impl Ended {
    /// What follows from a failed call.
    fn from_status(status: &tonic::Status, lived: bool) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Fatal(Error::Unauthenticated {
                message: status.message().to_owned(),
            }),
            _ => Self::Lost {
                why: format!("{:?}: {}", status.code(), status.message()),
                lived,
            },
        }
    }
}

/// Keeps a stream to one of the servers until an error that no retry cures.
pub(crate) async fn run(context: &Arc<Context>) -> Error {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut turn = 0;
    loop {
        let servers = &context.config.servers;
        let server = servers
            .get(turn % servers.len().max(1))
            .map_or("", String::as_str);
        turn += 1;
        let ended = match channel::open(context, server).await {
            Ok(channels) => session::run(context, channels).await,
            Err(error) => return error,
        };
        context.attempts.unlinked();
        let delay = match ended {
            Ended::Fatal(error) => {
                // What was about to begin belongs to a newer process, or to nobody.
                context.leases.close();
                return error;
            }
            Ended::Drained(spread) => {
                tracing::info!(server, "the server stops, connecting again");
                backoff.reset();
                spread.mul_f64(rand::random_range(0.0..=1.0))
            }
            Ended::Lost { why, lived } => {
                if lived {
                    backoff.reset();
                }
                let delay = backoff.next();
                tracing::warn!(server, why, ?delay, "the link to the server is down");
                delay
            }
        };
        metrics::counter!("muster_agent_link_lost_total").increment(1);
        tokio::time::sleep(delay).await;
    }
}
