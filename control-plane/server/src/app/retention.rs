//! What is kept and what goes, for people and for the server itself. What goes is decided by
//! `muster_core::retention`; rows go before blobs, see `muster_storage::retention`.

mod blobs;
mod due;
mod orphans;
mod plan;
mod sweep;
mod walk;

use muster_core::retention::{self, Retention};
use muster_storage::{
    Page, Request,
    execution::{Details, Pin},
    project::Project,
    retention::{Deleted, Kept, Outcome, Part, Usage},
};

use super::{Access, App, Caller, Error};

pub(crate) use due::NotedDue;
pub(crate) use orphans::Orphans;
pub(crate) use plan::{Plan, Planned};

/// What is deleted by whom, for the server's log.
#[derive(Debug, Clone, Copy)]
enum Because<'a> {
    /// A caller wanted it.
    Caller(&'a Caller),
    /// It was beyond a limit, or its files were.
    Limit(&'static str),
}

impl App {
    /// What holds for a workflow that says `said`, in a project.
    fn retention_of(&self, project: &Project, said: Retention) -> Retention {
        said.over(project.settings.retention)
            .over(self.config.retention)
    }

    /// A page of sums, by workflow.
    pub(crate) async fn list_usage(
        &self,
        caller: &Caller,
        project: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Usage, String>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self.store.retained(project.id).usage(after, limit).await?)
    }

    /// The largest executions.
    pub(crate) async fn list_largest_executions(
        &self,
        caller: &Caller,
        project: &str,
        limit: u32,
    ) -> Result<Vec<Usage>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        Ok(self.store.retained(project.id).largest(limit).await?)
    }

    /// Keeps an execution whatever the retention is.
    pub(crate) async fn pin_execution(
        &self,
        caller: &Caller,
        [project, name]: [&str; 2],
        message: &str,
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let pin = Pin {
            creator: caller.name.clone(),
            message: message.to_owned(),
            create_time: self.clock.now(),
        };
        let pinned = executions.pin(found.id, &pin, request).await?;
        self.execution_changed(pinned.id);
        Ok(executions.details(found.id).await?)
    }

    /// Leaves an execution to the retention again.
    pub(crate) async fn unpin_execution(
        &self,
        caller: &Caller,
        [project, name]: [&str; 2],
        request: Option<&Request>,
    ) -> Result<Details, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let executions = self.store.executions(project.id);
        let found = executions.find(name).await?;
        let message = super::agents::by(caller, "");
        let free = executions.unpin(found.id, &message, request).await?;
        self.execution_changed(free.id);
        Ok(executions.details(found.id).await?)
    }

    /// Deletes an execution with all that belongs to it; nothing when this request did it before.
    pub(crate) async fn delete_execution(
        &self,
        caller: &Caller,
        [project, name]: [&str; 2],
        force: bool,
        request: Option<&Request>,
    ) -> Result<Option<Deleted>, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let found = self.store.executions(project.id).find(name).await;
        let id = match found {
            Ok(found) => found.id,
            // A repeat finds nothing any more, but its request.
            Err(error) if error.is_not_found() && self.has_deleted(&project, request).await? => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let retained = self.store.retained(project.id);
        match retained.delete(id, Part::All, force, request).await? {
            Outcome::Deleted(deleted) => {
                self.deleted(&project, &deleted, Part::All, Because::Caller(caller));
                Ok(Some(deleted))
            }
            Outcome::Repeated => Ok(None),
            Outcome::Kept(kept) => Err(Error::FailedPrecondition(why(name, &kept))),
        }
    }

    async fn has_deleted(
        &self,
        project: &Project,
        request: Option<&Request>,
    ) -> Result<bool, Error> {
        match request {
            Some(request) => Ok(self.store.retained(project.id).has_done(request).await?),
            None => Ok(false),
        }
    }

    /// Tells what was deleted: those who watch it, the server's log, and who deletes blobs.
    fn deleted(&self, project: &Project, deleted: &Deleted, part: Part, because: Because<'_>) {
        for id in &deleted.ids {
            self.execution_changed(*id);
        }
        self.doomed.notify_one();
        let (by, limit) = match because {
            Because::Caller(caller) => (caller.name.as_str(), ""),
            Because::Limit(limit) => ("retention", limit),
        };
        let part = part_name(part);
        tracing::info!(
            project = project.name,
            execution = deleted.display_name,
            part,
            by,
            limit,
            executions = deleted.ids.len(),
            log_bytes = deleted.log_bytes,
            artifact_bytes = deleted.artifact_bytes,
            blobs = deleted.blobs,
            "deleted"
        );
        metrics::counter!(crate::metrics::DELETED, "part" => part)
            .increment(deleted.ids.len() as u64);
    }
}

/// What goes, for people and programs.
pub(crate) const fn part_name(part: Part) -> &'static str {
    match part {
        Part::All => "all",
        Part::Files {
            logs: true,
            artifacts: true,
        } => "logs,artifacts",
        Part::Files { logs: true, .. } => "logs",
        Part::Files { .. } => "artifacts",
    }
}

/// Why an execution is not deleted, and what can be done.
fn why(name: &str, kept: &Kept) -> String {
    match kept {
        Kept::Child { root } => format!(
            "{name} is a part of {root} and goes with it: delete that one with all that it has started"
        ),
        Kept::Unfinished => format!(
            "{name}, or something that it has started, has not ended: wait for it or cancel it first"
        ),
        Kept::TakenOver => format!(
            "a rerun that has taken over parts of {name} has not ended: wait for it or cancel it first"
        ),
        Kept::LogOpen => {
            format!("the log of {name} is still being finished: try again in a minute")
        }
        Kept::Held { until, message } => format!(
            "the project is under hold until {until}: {message}; an administrator ends that by `muster projects set --hold none`"
        ),
        Kept::Pinned => format!(
            "{name}, or something that it has started, is pinned: unpin it, or delete it by force"
        ),
    }
}

/// What becomes of a unit by its verdict.
fn part_of(verdict: retention::Verdict) -> Option<(Part, &'static str)> {
    match verdict {
        retention::Verdict::Keep(_) => None,
        retention::Verdict::Trim { logs, artifacts } => {
            Some((Part::Files { logs, artifacts }, "age"))
        }
        retention::Verdict::Delete(limit) => Some((Part::All, limit.as_str())),
    }
}
