//! Going through the units of a workflow, the newest first, with what becomes of each.

use muster_core::{
    id::{ExecutionId, ProjectId},
    retention::{Judge, Retention, Verdict},
};
use muster_storage::{project::Project, retention::Candidate};

use crate::app::{App, Error};

/// Units that are looked at together.
const PAGE: u32 = 100;

/// Where it is in a workflow.
pub(super) struct Walk<'a> {
    app: &'a App,
    project: ProjectId,
    workflow: &'a str,
    judge: Judge,
    before: Option<ExecutionId>,
    done: bool,
}

impl<'a> Walk<'a> {
    /// Begins at the newest unit of a workflow.
    pub(super) fn new(
        app: &'a App,
        project: &Project,
        workflow: &'a str,
        retention: Retention,
    ) -> Self {
        let now = app.clock.now();
        let held = project.settings.hold_at(now).is_some();
        Self {
            app,
            project: project.id,
            workflow,
            judge: Judge::new(retention, held, now),
            before: None,
            done: false,
        }
    }

    /// The workflow.
    pub(super) const fn workflow(&self) -> &'a str {
        self.workflow
    }

    /// The next units, each with its verdict; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<(Candidate, Verdict)>, Error> {
        if self.done {
            return Ok(Vec::new());
        }
        let retained = self.app.store.retained(self.project);
        let page = retained.units(self.workflow, self.before, PAGE).await?;
        self.before = page.next;
        self.done = page.next.is_none();
        let judged = page.items.into_iter().map(|candidate| {
            let verdict = self.judge.judge(&candidate.unit);
            (candidate, verdict)
        });
        Ok(judged.collect())
    }
}
