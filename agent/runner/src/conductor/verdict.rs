//! Asking for the verdict on a step that failed: the server knows which tests are in quarantine and what
//! reports say, and nothing of that is known here.

use std::time::Duration;

use muster_proto::runner::v1::{
    VerdictGiven, VerdictWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};
use tokio::time::timeout;

use super::agent::Agent;

/// How long a verdict is waited for: a bit longer than the server takes for reports.
const PATIENCE: Duration = Duration::from_secs(120);

/// The verdict; none when nobody could give it in time.
pub(super) async fn ask(agent: &Agent, wish: VerdictWish) -> Option<VerdictGiven> {
    let question = || [Said::Verdict(wish.clone())];
    let given = agent.ask(Purpose::Verdict, question, |heard| match heard {
        Heard::Verdict(given) => Some(given),
        _ => None,
    });
    timeout(PATIENCE, given).await.ok()
}
