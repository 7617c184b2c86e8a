//! Asking for the verdict on a step that failed: the server knows which tests are in quarantine and what
//! reports say, and nothing of that is known here.

use std::{io, time::Duration};

use muster_proto::runner::v1::{
    VerdictGiven, VerdictWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};
use tokio::time::timeout;

use super::agent::Agent;

/// How long a verdict is waited for: a bit longer than the server takes for reports.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause before a broken connection is made again.
const AGAIN: Duration = Duration::from_millis(500);

/// The verdict; none when nobody could give it in time.
pub(super) async fn ask(agent: &Agent, wish: VerdictWish) -> Option<VerdictGiven> {
    let given = timeout(PATIENCE, async {
        loop {
            match try_to_ask(agent, wish.clone()).await {
                Ok(given) => return given,
                Err(_broken) => agent.pause(AGAIN).await,
            }
        }
    });
    given.await.ok()
}

async fn try_to_ask(agent: &Agent, wish: VerdictWish) -> io::Result<VerdictGiven> {
    let connection = agent.connect(Purpose::Verdict, (true, 0, 0)).await;
    let (mut hearing, mut speaking) = connection.split();
    speaking.say(Said::Verdict(wish)).await?;
    loop {
        match hearing.hear().await?.message {
            Some(Heard::Verdict(given)) => return Ok(given),
            Some(Heard::Refused(_)) => return Err(io::ErrorKind::ConnectionRefused.into()),
            _ => {}
        }
    }
}
