//! The life of an attempt: started, watched for a cancel that the conductor can not carry out,
//! and cleaned up when it is over.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument as _;

use super::{Attempt, End};
use crate::{backend::Removal, backoff::Backoff, context::Context};

/// How long a forced cancel may take until the backend ends the attempt.
const FORCE_GRACE: Duration = Duration::from_secs(10);
/// How long the conductor of an attempt that was found may take to come back, when the attempt is
/// canceled.
const FOUND_GRACE: Duration = Duration::from_secs(20);
/// How long the conductor may take to hear that its record is committed.
const FAREWELL: Duration = Duration::from_secs(3);

/// Drives one attempt to its end.
pub(crate) async fn supervise(context: Arc<Context>, attempt: Arc<Attempt>) {
    let span = tracing::info_span!("attempt", attempt = %attempt.id);
    async {
        let end = live(&context, &attempt).await;
        tracing::info!(?end, "attempt is over");
        clean(&context, &attempt, end).await;
        context.attempts.remove(attempt.id);
    }
    .instrument(span)
    .await;
}

/// Starts the attempt and waits for its end.
async fn live(context: &Arc<Context>, attempt: &Arc<Attempt>) -> End {
    let mut changes = attempt.subscribe();
    let mut start = pin!(start(context, attempt));
    let mut started = false;
    let mut stopped = false;
    loop {
        if let Some(end) = attempt.end() {
            if !started && timeout(FOUND_GRACE, &mut start).await.is_err() {
                tracing::warn!("the start did not end in time");
            }
            return end;
        }
        let deadline = stop_at(attempt).filter(|_| !stopped);
        tokio::select! {
            () = &mut start, if !started => started = true,
            // The sender lives in the attempt, so this ends only with a change.
            _changed = changes.changed() => {}
            () = wait_until(deadline) => {
                stopped = true;
                stop(context, attempt).await;
            }
        }
    }
}

/// Starts the attempt once its work is known.
async fn start(context: &Arc<Context>, attempt: &Arc<Attempt>) {
    let mut changes = attempt.subscribe();
    let work = loop {
        if attempt.is_done() {
            return;
        }
        if let Some(work) = attempt.work() {
            break work;
        }
        if changes.changed().await.is_err() {
            return;
        }
    };
    tracing::info!(
        execution = work.execution,
        project = work.project,
        name = work.display_name,
        "starting"
    );
    if !attempt.found {
        attempt.preparing("", "");
    }
    if let Err(denied) = context.backend.start(context, attempt, &work).await {
        tracing::info!(
            reason = denied.reason,
            message = denied.message,
            "cannot be started here"
        );
        attempt.lost(denied.reason, &denied.message);
    }
}

/// When the backend has to end a canceled attempt, because its conductor can not.
fn stop_at(attempt: &Attempt) -> Option<Instant> {
    if attempt.is_done() {
        return None;
    }
    let (order, since) = attempt.canceled()?;
    if !attempt.was_connected() {
        let grace = if attempt.found {
            FOUND_GRACE
        } else {
            Duration::ZERO
        };
        return Some(since + grace);
    }
    order.force.then(|| since + FORCE_GRACE)
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Ends an attempt whose conductor can not.
async fn stop(context: &Arc<Context>, attempt: &Attempt) {
    let connected = attempt.was_connected();
    attempt.lost(
        "CANCELED",
        if connected {
            "canceled by force; the conductor did not end in time"
        } else {
            "canceled before the conductor started"
        },
    );
    if let Err(error) = context.backend.remove(attempt.id, Removal::Kill).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot remove a canceled attempt yet"
        );
    }
}

/// Removes all traces; tries until it works or the agent stops.
async fn clean(context: &Arc<Context>, attempt: &Arc<Attempt>, end: End) {
    let how = match end {
        End::Committed => {
            attempt.hung_up(FAREWELL).await;
            Removal::Done
        }
        End::Killed => Removal::Kill,
    };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    while let Err(error) = context.backend.remove(attempt.id, how).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot remove an attempt yet"
        );
        backoff.wait().await;
    }
}
