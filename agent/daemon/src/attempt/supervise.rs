//! The life of an attempt: started, watched for a cancel that the conductor can not carry out,
//! and cleaned up when it is over.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument as _;

use super::{Attempt, End, Past, Work};
use crate::{
    backend::Removal,
    backoff::Backoff,
    begin,
    context::Context,
    journal::{self, Failure},
};

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
        forget(&context, &attempt).await;
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
        let expiry = attempt.expires_at(&context.leases);
        tokio::select! {
            () = &mut start, if !started => started = true,
            // The sender lives in the attempt, so this ends only with a change.
            _changed = changes.changed() => {}
            () = wait_until(deadline) => {
                stopped = true;
                stop(context, attempt).await;
            }
            () = wait_until(expiry) => {
                if !attempt.expire(&context.leases) {
                    continue;
                }
                tracing::warn!("its lease could not be renewed for too long, killing the attempt");
                // What is being made must be there before it can be removed.
                started = started || timeout(FOUND_GRACE, &mut start).await.is_ok();
                kill(context, attempt).await;
            }
        }
    }
}

/// Starts the attempt once its work is known.
async fn start(context: &Arc<Context>, attempt: &Arc<Attempt>) {
    if attempt.past() == Past::Unsure {
        look_for(context, attempt).await;
    }
    let Some(work) = work(attempt).await else {
        return;
    };
    tracing::info!(
        execution = work.execution,
        project = work.project,
        name = work.display_name,
        "starting"
    );
    if let Err(failure) = write_down(context, attempt).await {
        if let Failure::Unwritable(why) = failure {
            attempt.decline(begin::STORAGE, &begin::unwritable(&why));
        }
        return;
    }
    if attempt.past() == Past::None {
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

/// Asks the backend for an attempt that has begun and that it did not name. Only its word, asked
/// for this very attempt, makes it lost.
async fn look_for(context: &Context, attempt: &Attempt) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    while !attempt.is_done() {
        match context.backend.has(attempt.id).await {
            Ok(true) => return attempt.found(),
            Ok(false) => {
                let (reason, message) = begin::GONE;
                return attempt.lost(reason, message);
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot find out yet whether an attempt is still there"
            ),
        }
        backoff.wait().await;
    }
}

/// Waits for what there is to do; none when it is over before.
async fn work(attempt: &Attempt) -> Option<Arc<Work>> {
    let mut changes = attempt.subscribe();
    loop {
        if attempt.is_done() {
            return None;
        }
        if let Some(work) = attempt.work() {
            return Some(work);
        }
        changes.changed().await.ok()?;
    }
}

/// Writes down that the attempt is this agent's. One that runs goes on though it can not be
/// written.
async fn write_down(context: &Context, attempt: &Attempt) -> Result<(), Failure> {
    let (journal, entry) = (Arc::clone(&context.journal), attempt.entry());
    if attempt.past() == Past::None {
        return journal::blocking(move || journal.receive(entry)).await;
    }
    if let Err(error) = journal::blocking(move || journal.update(entry)).await {
        tracing::warn!(
            ?error,
            "the journal does not hold the newest word on an attempt"
        );
    }
    Ok(())
}

/// When the backend has to end a canceled attempt, because its conductor can not.
fn stop_at(attempt: &Attempt) -> Option<Instant> {
    if attempt.is_done() {
        return None;
    }
    let (order, since) = attempt.canceled()?;
    if !attempt.was_connected() {
        let grace = match attempt.past() {
            Past::None => Duration::ZERO,
            Past::Found | Past::Unsure => FOUND_GRACE,
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

/// Kills what runs of an attempt that is lost; its report waits for the server.
async fn kill(context: &Context, attempt: &Attempt) {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    while attempt.end().is_none() {
        let Err(error) = context.backend.remove(attempt.id, Removal::Kill).await else {
            return;
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot kill an attempt yet"
        );
        backoff.wait().await;
    }
}

/// Nothing of it is left, so the journal need not name it.
async fn forget(context: &Context, attempt: &Attempt) {
    let (journal, id) = (Arc::clone(&context.journal), attempt.id);
    if let Err(error) = journal::blocking(move || journal.forget(id)).await {
        // After a restart it is named to the server, which knows that it is over.
        tracing::debug!(?error, "an attempt that is over stays in the journal");
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
