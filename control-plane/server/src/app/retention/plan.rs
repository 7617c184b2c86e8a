//! What retention would do now, without doing it.

use jiff::Timestamp;
use muster_core::retention::{Keep, Retention, Verdict};
use muster_storage::{
    project::{Hold, Project},
    retention::{Candidate, Part},
};

use super::{part_of, walk::Walk};
use crate::app::{Access, App, Caller, Error};

/// Most units that one call looks at.
const MOST: u64 = 100_000;
/// How many workflows are listed at once.
const PAGE: u32 = 100;

/// What would go.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Some of it, by workflow, the newest first.
    pub(crate) deletions: Vec<Planned>,
    /// How many executions in all.
    pub(crate) executions: u64,
    /// Bytes of logs in all.
    pub(crate) log_bytes: u64,
    /// Bytes of artifacts in all.
    pub(crate) artifact_bytes: u64,
    /// Units that no limit can reach.
    pub(crate) kept: u64,
    /// A hold, under which nothing goes.
    pub(crate) hold: Option<Hold>,
    /// Not all units were looked at.
    pub(crate) truncated: bool,
    looked: u64,
}

/// A unit of which something would go.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Its name for people.
    pub(crate) execution: String,
    /// Its workflow.
    pub(crate) workflow: String,
    /// When it ended.
    pub(crate) finish_time: Option<Timestamp>,
    /// What goes.
    pub(crate) part: Part,
    /// The limit that it is beyond.
    pub(crate) reason: &'static str,
    /// How many executions it is.
    pub(crate) executions: u64,
    /// Bytes of logs that go.
    pub(crate) log_bytes: u64,
    /// Bytes of artifacts that go.
    pub(crate) artifact_bytes: u64,
}

impl Plan {
    fn add(
        &mut self,
        workflow: &str,
        candidate: &Candidate,
        verdict: Verdict,
        limit: usize,
    ) -> bool {
        self.looked += 1;
        if let Verdict::Keep(keep) = verdict {
            self.kept += u64::from(keep != Keep::Within);
            return false;
        }
        let Some((part, reason)) = part_of(verdict) else {
            return false;
        };
        let (logs, artifacts) = match part {
            Part::All => (true, true),
            Part::Files { logs, artifacts } => (logs, artifacts),
        };
        let bytes = |goes: bool, bytes: u64| if goes { bytes } else { 0 };
        let planned = Planned {
            execution: String::new(),
            workflow: workflow.to_owned(),
            finish_time: candidate.unit.finish_time,
            part,
            reason,
            executions: candidate.executions,
            log_bytes: bytes(logs, candidate.unit.log_bytes),
            artifact_bytes: bytes(artifacts, candidate.unit.artifact_bytes),
        };
        self.executions += u64::from(part == Part::All) * planned.executions;
        self.log_bytes += planned.log_bytes;
        self.artifact_bytes += planned.artifact_bytes;
        let listed = self.deletions.len() < limit;
        if listed {
            self.deletions.push(planned);
        }
        listed
    }
}

impl App {
    /// Says what retention would delete of a project, or of one workflow; under `tried` in the place of the
    /// project's own choice.
    pub(crate) async fn plan_retention(
        &self,
        caller: &Caller,
        project: &str,
        workflow: Option<&str>,
        tried: Option<Retention>,
        limit: u32,
    ) -> Result<Plan, Error> {
        let mut project = self.project(caller, project, Access::Read).await?;
        if let Some(tried) = tried {
            project.settings.retention = tried;
        }
        let now = self.clock.now();
        let mut plan = Plan {
            hold: project.settings.hold_at(now).cloned(),
            ..Plan::default()
        };
        let mut after: Option<String> = None;
        loop {
            let retained = self.store.retained(project.id);
            let page = retained.workflows(after.as_deref(), PAGE).await?;
            for (name, said) in &page.items {
                if workflow.is_some_and(|wanted| wanted != name) {
                    continue;
                }
                let retention = self.retention_of(&project, *said);
                self.plan_workflow(&project, name, retention, limit as usize, &mut plan)
                    .await?;
            }
            after = page.next;
            if after.is_none() || plan.truncated {
                return Ok(plan);
            }
        }
    }

    async fn plan_workflow(
        &self,
        project: &Project,
        workflow: &str,
        retention: Retention,
        limit: usize,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let mut walk = Walk::new(self, project, workflow, retention);
        loop {
            if plan.looked >= MOST {
                plan.truncated = true;
                return Ok(());
            }
            let judged = walk.next().await?;
            if judged.is_empty() {
                return Ok(());
            }
            let first = plan.deletions.len();
            let mut ids = Vec::new();
            for (candidate, verdict) in &judged {
                if plan.add(workflow, candidate, *verdict, limit) {
                    ids.push(candidate.id);
                }
            }
            let mut names = self.store.retained(project.id).names(&ids).await?;
            for (planned, id) in plan.deletions.iter_mut().skip(first).zip(&ids) {
                planned.execution = names.remove(id).unwrap_or_else(|| id.to_string());
            }
        }
    }
}
