//! The sweep that deletes what is beyond its retention: one unit in one transaction, with rests between
//! them that are longer than the work, so that runs are not disturbed.

use std::time::{Duration, Instant};

use muster_storage::{
    project::Project,
    retention::{Outcome, Turn},
};
use tokio_util::sync::CancellationToken;

use super::{Because, due::Due, walk::Walk};
use crate::app::{App, Error};

/// How many projects or workflows are listed at once.
const PAGE: u32 = 100;
/// Most units of one workflow that one pass deletes: then it is the turn of others.
const MOST_OF_WORKFLOW: usize = 2000;
/// Most notes of labels that one sweep forgets or marks.
const MOST_LABELS: u32 = 1000;
/// How often longer than the work each rest is: a sweep takes a quarter of one connection.
const REST: u32 = 3;
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// Rests after work that began at `started`; `false` after `stop`.
pub(super) async fn rest(started: Instant, stop: &CancellationToken) -> bool {
    let rest = (started.elapsed() * REST).min(LONGEST_REST);
    stop.run_until_cancelled(tokio::time::sleep(rest))
        .await
        .is_some()
}

impl App {
    /// Deletes what is beyond its retention, when it is this server's turn, until nothing is left or
    /// `stop`.
    pub(crate) async fn sweep_retention(&self, stop: &CancellationToken) -> Result<(), Error> {
        let every = self.config.retention_interval;
        let keeper = self.store.keeper();
        if !keeper.take_turn(Turn::Retention, every).await? {
            return Ok(());
        }
        while self.sweep_projects(stop).await? && !stop.is_cancelled() {}
        // Last, and no reason to delete nothing.
        if let Err(error) = keeper.forget_labels(MOST_LABELS).await {
            tracing::warn!(%error, "notes of labels that nobody needs stay until the next sweep");
        }
        Ok(())
    }

    /// One pass over all projects; whether something was left for the next one.
    async fn sweep_projects(&self, stop: &CancellationToken) -> Result<bool, Error> {
        let (mut after, mut more): (Option<String>, bool) = (None, false);
        loop {
            let projects = self.store.projects();
            let page = projects.list(after.as_deref(), PAGE).await?;
            for project in &page.items {
                if project.settings.hold_at(self.clock.now()).is_some() {
                    continue;
                }
                match self.sweep_project(project, stop).await {
                    Ok(left) => more |= left,
                    Err(error @ (Error::Unavailable(_) | Error::StoreAway { .. })) => {
                        return Err(error);
                    }
                    Err(error) => {
                        tracing::warn!(project = project.name, %error, "a project can not be swept");
                    }
                }
                if stop.is_cancelled() {
                    return Ok(false);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(more);
            }
        }
    }

    async fn sweep_project(
        &self,
        project: &Project,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        let (mut after, mut more): (Option<String>, bool) = (None, false);
        loop {
            let retained = self.store.retained(project.id);
            let page = retained.workflows(after.as_deref(), PAGE).await?;
            for (workflow, said) in &page.items {
                let retention = self.retention_of(project, *said);
                let walk = Walk::new(self, project, workflow, retention);
                more |= self.sweep_workflow(project, walk, stop).await?;
                if stop.is_cancelled() {
                    return Ok(false);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(more);
            }
        }
    }

    async fn sweep_workflow(
        &self,
        project: &Project,
        mut walk: Walk<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        let mut left = MOST_OF_WORKFLOW;
        loop {
            let started = Instant::now();
            let judged = walk.next().await?;
            if judged.is_empty() || !rest(started, stop).await {
                return Ok(false);
            }
            let mut due: Vec<Due> = judged.into_iter().filter_map(Due::new).collect();
            if due.is_empty() {
                continue;
            }
            let more = due.len() > left;
            due.truncate(left);
            self.note_due(project, walk.workflow(), &due).await?;
            for due in due {
                let (part, limit) = (due.part, due.limit);
                let started = Instant::now();
                let retained = self.store.retained(project.id);
                match retained.delete(due.candidate.id, part, false, None).await {
                    Ok(Outcome::Deleted(deleted)) => {
                        left -= 1;
                        self.deleted(project, &deleted, part, Because::Limit(limit));
                    }
                    // It was pinned, or something of it goes on: the next sweep looks again.
                    Ok(Outcome::Kept(_) | Outcome::Repeated) => {}
                    // Somebody else was faster.
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                if !rest(started, stop).await {
                    return Ok(false);
                }
            }
            if more {
                return Ok(true);
            }
        }
    }
}
