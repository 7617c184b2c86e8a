//! What an execution is told that runs an earlier one again: which one, and the tests that it failed.

use std::time::Duration;

use muster_core::{
    execution::State,
    id::{ExecutionId, ProjectId},
};
use muster_spec::rerun::{self, FailedTest};
use muster_storage::{
    execution::{Execution, Rerun, StepResult, StepState},
    report,
};

use crate::app::{App, Error};

/// Most failed tests that are handed to tools.
const MOST_TESTS: u64 = 2000;
/// Most bytes of their names.
const MOST_BYTES: usize = 256 << 10;
/// How often it is looked, for a caller, whether reports are read that were not.
pub(super) const LOOKS: u32 = 20;
/// How often for a child: those of the whole tree were waited for when the rerun was asked for.
pub(in crate::app) const ONE_LOOK: u32 = 1;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Reasons of steps that have failed by what they test, and of those around them. With others tests may
/// be missing in reports.
const BY_TESTS: [&str; 4] = ["", "EXIT_CODE", "STEP_FAILED", "STEP_BROKEN"];

/// An earlier execution, for one that runs it again.
#[derive(Debug, Clone)]
pub(crate) struct Again {
    /// Which one, as it is stored.
    pub(in crate::app) link: Rerun,
    /// What expressions are told.
    pub(in crate::app) told: rerun::Rerun,
    /// Why tools get no filter.
    pub(in crate::app) remarks: Vec<String>,
}

impl App {
    /// What a rerun of this execution is told; with `failed` the tests too that it failed itself, once its
    /// reports are read, or so many looks have found that they are not.
    pub(in crate::app) async fn run_again(
        &self,
        earlier: &Execution,
        failed: bool,
        looks: u32,
    ) -> Result<Again, Error> {
        let name = &earlier.display_name;
        let mut remarks = Vec::new();
        let mut tests = Vec::new();
        if failed {
            match self.failed_tests(earlier, looks).await? {
                Ok(failed) => tests = failed,
                Err(why) => remarks.push(format!("all tests of {name} run again: {why}")),
            }
        }
        let told = rerun::Rerun {
            of: name.clone(),
            tests,
        };
        remarks.extend(told.remarks());
        Ok(Again {
            link: Rerun {
                execution: earlier.id,
                name: name.clone(),
                failed,
            },
            told,
            remarks,
        })
    }

    /// The tests that an execution failed itself; why it is not known that they are all.
    async fn failed_tests(
        &self,
        earlier: &Execution,
        looks: u32,
    ) -> Result<Result<Vec<FailedTest>, String>, Error> {
        let details = self.store.executions(earlier.project);
        let details = details.details(earlier.id).await?;
        if earlier.state() != State::Failed || !details.steps.iter().all(is_by_tests) {
            let why = "it did not end by its tests, so that some may be missing in its reports";
            return Ok(Err(why.to_owned()));
        }
        let reports = self
            .reports_read(earlier.project, earlier.id, looks)
            .await?;
        if reports.len() as u64 >= report::MOST {
            return Ok(Err("it has too many reports".to_owned()));
        }
        let own = reports.iter().filter(|one| one.execution == earlier.id);
        let mut unread = own.filter(|one| one.state != report::State::Read);
        if let Some(report) = unread.next() {
            let why = format!("its report {} was not read to its end", report.path);
            return Ok(Err(why));
        }
        let tests = self.store.tests(earlier.project);
        let failed = tests.failed(earlier.id, MOST_TESTS).await?;
        let failed: Vec<FailedTest> = failed
            .into_iter()
            .map(|one| FailedTest {
                report: one.report,
                format: one.format,
                suite: one.test.suite,
                class: one.test.class,
                name: one.test.name,
                file: one.test.file,
            })
            .collect();
        let size = |test: &FailedTest| {
            let file = test.file.as_ref().map_or(0, String::len);
            test.report.len() + test.suite.len() + test.class.len() + test.name.len() + file
        };
        let bytes: usize = failed.iter().map(size).sum();
        if failed.len() as u64 > MOST_TESTS || bytes > MOST_BYTES {
            let why = format!("more than {MOST_TESTS} failed, or their names are too long");
            return Ok(Err(why));
        }
        Ok(Ok(failed))
    }

    /// The reports of an execution, once they are read or after so many looks.
    async fn reports_read(
        &self,
        project: ProjectId,
        execution: ExecutionId,
        mut looks: u32,
    ) -> Result<Vec<report::Report>, Error> {
        loop {
            let reports = self.store.reports(project).list(execution).await?;
            let pending = |one: &report::Report| one.state == report::State::Pending;
            looks = looks.saturating_sub(1);
            if looks == 0 || !reports.iter().any(pending) {
                return Ok(reports);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether a step says nothing of tests that may not have run.
fn is_by_tests(step: &StepResult) -> bool {
    match step.state {
        StepState::Failed => BY_TESTS.contains(&step.reason.as_str()),
        StepState::TimedOut | StepState::Aborted | StepState::Canceled => false,
        StepState::Queued
        | StepState::Running
        | StepState::Paused
        | StepState::Passed
        | StepState::Skipped => true,
    }
}
