//! Reconcilers: each takes no input, may run at any time and any number of times, and stands
//! behind a word that may have been lost.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use muster_storage::execution::Changed;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, Error},
    config::REQUEST_MEMORY,
};

/// How often leases and queue deadlines are looked at.
const LEASES: Duration = Duration::from_secs(1);
/// How often the rest is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How long after a look for orphans the next one is. Attempts end by the thousand, and one look
/// finds what all of them have left.
const ORPHANS: Duration = Duration::from_millis(100);
/// How often it is asked whose turn it is to look for blobs without rows.
const ORPHAN_BLOBS: Duration = Duration::from_secs(10 * 60);
/// How long a report or a log is let be that could not be read or sealed.
const LET_BE: Duration = Duration::from_secs(3600);
/// Most rows of one sweep.
const BATCH: u32 = 500;

/// Gives every lease a whole grace period: the server was down, agents could not renew.
pub(crate) async fn grant_grace(app: &App) -> Result<(), Error> {
    let extended = app.store.queue().grant_grace(app.lease_end()).await?;
    if extended > 0 {
        tracing::info!(extended, "leases were extended after the server was down");
    }
    Ok(())
}

/// Runs all sweeps once: for a process that shares its data with others and may live shortly.
pub(crate) async fn settle(app: &Arc<App>) -> Result<(), Error> {
    expire_leases(app).await?;
    expire_queued(app).await?;
    pass_deadlines(app).await?;
    app.stop_orphans().await?;
    clean_up(app).await
}

/// Looks at leases until `stop`.
pub(crate) async fn watch_leases(app: Arc<App>, stop: CancellationToken) {
    let mut looked = app.clock.now();
    let mut ticks = ticks(LEASES);
    while tick(&mut ticks, &stop).await {
        if let Err(error) = look_at_leases(&app, &mut looked).await {
            tracing::warn!(%error, "leases can not be looked at; it is tried again");
        }
    }
}

/// Ends what ended attempts have started, until `stop`.
pub(crate) async fn watch_orphans(app: Arc<App>, stop: CancellationToken) {
    let mut ended = app.hub.watch_ended();
    let mut sweep = ticks(HOUSEKEEPING);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            // The sender lives in the hub, as long as the server.
            _ = ended.changed() => {}
            _ = sweep.tick() => {}
        }
        if let Err(error) = app.stop_orphans().await {
            tracing::warn!(%error, "children can not be ended now; it is tried again");
        }
        let rest = stop.run_until_cancelled(tokio::time::sleep(ORPHANS));
        if rest.await.is_none() {
            return;
        }
    }
}

/// Reads reports and seals logs that a crash has left, until `stop`. They are long, so they stand apart
/// from the rest; what could not be done is let be for a while.
pub(crate) async fn finish_evidence(app: Arc<App>, stop: CancellationToken) {
    let mut failed: HashMap<uuid::Uuid, Instant> = HashMap::new();
    let mut ticks = ticks(HOUSEKEEPING);
    while tick(&mut ticks, &stop).await {
        failed.retain(|_, at| at.elapsed() < LET_BE);
        let left = stop.run_until_cancelled(finish_what_is_left(&app, &mut failed));
        if let Some(Err(error)) = left.await {
            tracing::warn!(%error, "reports and logs can not be looked for now");
        }
    }
}

async fn finish_what_is_left(
    app: &Arc<App>,
    failed: &mut HashMap<uuid::Uuid, Instant>,
) -> Result<(), Error> {
    for report in app.store.queue().pending_reports(BATCH).await? {
        let id = report.artifact.as_uuid();
        if failed.contains_key(&id) {
            continue;
        }
        if let Err(error) = app.read_report(&report).await {
            tracing::warn!(artifact = %report.artifact, %error, "a report can not be read now");
            failed.insert(id, Instant::now());
        }
    }
    for attempt in app.store.queue().unsealed_logs(BATCH).await? {
        let id = attempt.as_uuid();
        if failed.contains_key(&id) {
            continue;
        }
        if let Err(error) = app.seal_log(attempt).await {
            tracing::warn!(%attempt, %error, "a log can not be sealed; it is read from its segments");
            failed.insert(id, Instant::now());
        }
    }
    Ok(())
}

/// Looks at everything else until `stop`.
pub(crate) async fn keep_house(app: Arc<App>, stop: CancellationToken) {
    let mut ticks = ticks(HOUSEKEEPING);
    while tick(&mut ticks, &stop).await {
        if let Err(error) = clean_up(&app).await {
            tracing::warn!(%error, "a sweep failed; it is tried again");
        }
    }
}

/// Deletes what is beyond its retention, until `stop`.
pub(crate) async fn keep_retention(app: Arc<App>, stop: CancellationToken) {
    // Looked at more often than it is done: the turn may be another server's, which has stopped.
    let mut ticks = ticks(app.config.retention_interval.min(HOUSEKEEPING));
    while tick(&mut ticks, &stop).await {
        if let Err(error) = app.sweep_retention(&stop).await {
            tracing::warn!(%error, "retention could not be swept; it is tried again");
        }
    }
}

/// Deletes blobs whose rows are gone, as soon as there are some, until `stop`.
pub(crate) async fn delete_blobs(app: Arc<App>, stop: CancellationToken) {
    let mut sweep = ticks(app.config.retention_interval.min(HOUSEKEEPING));
    loop {
        let swept = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = app.doomed.notified() => false,
            _ = sweep.tick() => true,
        };
        if let Err(error) = app.delete_doomed_blobs(swept, &stop).await {
            tracing::warn!(%error, "blobs can not be deleted now; it is tried again");
        }
    }
}

/// Looks once a day for blobs that no row names, until `stop`.
pub(crate) async fn watch_blobs(app: Arc<App>, stop: CancellationToken) {
    let mut ticks = ticks(ORPHAN_BLOBS);
    while tick(&mut ticks, &stop).await {
        if let Err(error) = app.sweep_orphans_daily(&stop).await
            && !stop.is_cancelled()
        {
            tracing::warn!(%error, "blobs without rows could not be looked for; it is tried again tomorrow");
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; `false` after `stop`.
async fn tick(ticks: &mut Interval, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(ticks.tick()).await.is_some()
}

/// Ends attempts whose agent was not heard of, unless it is this process or its database that
/// was away, or could not store what it heard: then every lease gets a whole grace period first.
async fn look_at_leases(app: &Arc<App>, looked: &mut Timestamp) -> Result<(), Error> {
    let away = app.clock.now().duration_since(*looked);
    let bearable = SignedDuration::try_from(app.config.renew_interval).unwrap_or_default();
    let missed = app.link.take_missed_renewals();
    if missed || away > bearable {
        tracing::warn!(seconds = away.as_secs(), "leases could not be renewed");
        if let Err(error) = grant_grace(app).await {
            // The next look grants it.
            app.link.miss_renewals();
            return Err(error);
        }
    } else {
        expire_leases(app).await?;
    }
    expire_queued(app).await?;
    pass_deadlines(app).await?;
    *looked = app.clock.now();
    Ok(())
}

/// Ends attempts whose agent was not heard of.
async fn expire_leases(app: &Arc<App>) -> Result<(), Error> {
    let now = app.clock.now();
    for attempt in app.store.queue().expired(now, BATCH).await? {
        let Some(changed) = app.store.queue().expire(attempt.id, now).await? else {
            continue;
        };
        tracing::warn!(
            execution = changed.execution.display_name,
            agent = attempt.agent_name,
            state = changed.execution.state().as_str(),
            "a lease ended"
        );
        app.taken_away(&changed).await?;
    }
    Ok(())
}

/// Ends what has waited too long; workflows say how long in seconds, so this is looked at often.
async fn expire_queued(app: &Arc<App>) -> Result<(), Error> {
    let now = app.clock.now();
    let expired: Vec<Changed> = app.store.queue().expire_queued(now, BATCH).await?;
    for changed in &expired {
        app.perform(changed);
    }
    Ok(())
}

/// Follows deadlines of what executions do: to start, to run, to end.
async fn pass_deadlines(app: &Arc<App>) -> Result<(), Error> {
    let now = app.clock.now();
    for id in app.store.queue().overdue(now, BATCH).await? {
        if let Some(changed) = app.store.queue().pass_deadline(id, now).await? {
            tracing::info!(
                execution = changed.execution.display_name,
                state = changed.execution.state().as_str(),
                reason = changed.execution.reason,
                "a deadline has passed"
            );
            app.taken_away(&changed).await?;
        }
    }
    Ok(())
}

async fn clean_up(app: &Arc<App>) -> Result<(), Error> {
    app.hub.prune();
    app.prune_ingests().await?;
    app.store.agents().seen(&app.link.take_seen()).await?;
    let now = app.clock.now();
    for attempt in app.store.queue().unfinished_logs(BATCH).await? {
        if let Err(error) = app.finish_log(attempt.id).await {
            tracing::warn!(attempt = %attempt.id, %error, "the end of a log can not be stored now");
        }
    }
    app.expire_audit_events().await?;
    let memory = SignedDuration::try_from(REQUEST_MEMORY).unwrap_or_default();
    if let Ok(before) = now.checked_sub(memory) {
        app.store.queue().prune_requests(before).await?;
    }
    Ok(())
}
