//! The last question before a backend makes anything that runs: may this attempt begin? Only while
//! its lease is sure to hold, and only once the journal says so on disk.

use std::sync::Arc;

use crate::{
    attempt::Attempt,
    backend::Denied,
    context::Context,
    journal::{self, Failure},
};

/// The reason of everything that the agent's own disk prevents.
pub(crate) const STORAGE: &str = "AGENT_STORAGE";

/// What is said of an attempt that has begun and of which nothing is left, reason and words.
pub(crate) const GONE: (&str, &str) = (
    "POD_GONE",
    "it had begun, but nothing of it is there any more",
);

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Make it, now.
    Given,
    /// Make nothing: the attempt is over, or another process has it.
    Over,
}

/// Waits until an attempt may begin, and writes down that it has. May be asked again.
pub(crate) async fn begin(context: &Context, attempt: &Arc<Attempt>) -> Result<Permit, Denied> {
    loop {
        if !leased(context, attempt).await {
            return Ok(Permit::Over);
        }
        let journal = Arc::clone(&context.journal);
        let entry = attempt.entry();
        match journal::blocking(move || journal.begin(entry)).await {
            Ok(()) => {}
            Err(Failure::TakenOver) => return Ok(Permit::Over),
            Err(Failure::Unwritable(why)) => {
                return Err(Denied {
                    reason: STORAGE,
                    message: unwritable(&why),
                });
            }
            Err(Failure::BegunBefore) => {
                let (reason, message) = GONE;
                return Err(Denied {
                    reason,
                    message: message.to_owned(),
                });
            }
        }
        // A slow disk may have taken longer than the lease.
        if !attempt.is_done() && context.leases.holds(attempt.proven()) {
            attempt.begun();
            return Ok(Permit::Given);
        }
    }
}

/// Waits until the lease is sure to hold; false when the attempt is over before.
async fn leased(context: &Context, attempt: &Attempt) -> bool {
    let mut changes = attempt.subscribe();
    loop {
        if attempt.is_done() || context.leases.is_closed() {
            return false;
        }
        if context.leases.holds(attempt.proven()) {
            return true;
        }
        tracing::info!(attempt = %attempt.id, "its lease may be over, so it waits for the server");
        if changes.changed().await.is_err() {
            return false;
        }
    }
}

/// What is said of a disk that can not be written.
pub(crate) fn unwritable(why: &str) -> String {
    format!("the agent can not write to its disk, so it begins nothing: {why}")
}
