//! What an execution is told that runs an earlier one again: which one, and the tests that it failed.

use std::{collections::BTreeSet, time::Duration};

use muster_core::{
    execution::State,
    id::{ExecutionId, ProjectId},
};
use muster_spec::{
    plan::FAILURE_CODES,
    rerun::{self, FailedTest},
};
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
/// Reasons of steps around others that have failed; those tell for themselves.
const AROUND: [&str; 2] = ["STEP_FAILED", "STEP_BROKEN"];

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

    /// The tests that an execution failed itself, and those that it may have left out by that; why it is
    /// not known that they are all.
    async fn failed_tests(
        &self,
        earlier: &Execution,
        looks: u32,
    ) -> Result<Result<Vec<FailedTest>, String>, Error> {
        let why = "it did not end by its tests, so that some may be missing in its reports";
        if earlier.state() != State::Failed {
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
        let artifacts = self.store.artifacts(earlier.project);
        if let Some(missing) = artifacts.missing(earlier.id).await?.first() {
            let why = format!("its artifact {} is missing", missing.path);
            return Ok(Err(why));
        }
        let tests = self.store.tests(earlier.project);
        let failed = tests.failed(earlier.id, MOST_TESTS).await?;
        let executions = self.store.executions(earlier.project);
        let details = executions.details(earlier.id).await?;
        let mut steps = details.steps.iter();
        if let Some(step) = steps.find(|step| !is_by_tests(step, &failed.steps)) {
            return Ok(Err(format!("{why}: {}", what(step))));
        }
        let failed: Vec<FailedTest> = failed
            .tests
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
            let why = format!(
                "more than {MOST_TESTS} failed or were skipped, or their names are too long"
            );
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

/// Whether a step leaves no doubt that all its tests have run, or are known to have failed. One that
/// failed has a report of a failed test for that; `told` are those that have. What was skipped, or never
/// ended, may have tests that nobody knows of.
fn is_by_tests(step: &StepResult, told: &BTreeSet<String>) -> bool {
    match step.state {
        StepState::Passed => true,
        StepState::Failed if step.reason == "EXIT_CODE" => {
            is_by_tool(step) && told.contains(&step.reference)
        }
        StepState::Failed => AROUND.contains(&step.reason.as_str()),
        StepState::Queued
        | StepState::Running
        | StepState::Paused
        | StepState::Skipped
        | StepState::TimedOut
        | StepState::Aborted
        | StepState::Canceled => false,
    }
}

/// Whether the exit code is one of the tool, and not of a shell for it.
fn is_by_tool(step: &StepResult) -> bool {
    let code = step.exit_code;
    code.is_some_and(|code| FAILURE_CODES.contains(&code))
}

/// What is wrong with a step, for people.
fn what(step: &StepResult) -> String {
    let name = match step.display_name.as_str() {
        "" => &step.reference,
        name => name,
    };
    match step.state {
        StepState::Skipped => format!("step {name} was skipped"),
        StepState::Failed if step.reason == "EXIT_CODE" => match step.exit_code {
            Some(code) if is_by_tool(step) => {
                format!("step {name} ended with {code}, and no report of its own has a failed test")
            }
            _ => format!("step {name} ended by a signal, or its tool was not found"),
        },
        _ => format!("see step {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(state: StepState, reason: &str, exit_code: Option<i32>) -> StepResult {
        StepResult {
            reference: "s1".to_owned(),
            parent: String::new(),
            id: String::new(),
            display_name: "e2e".to_owned(),
            state,
            exit_code,
            reason: reason.to_owned(),
            message: String::new(),
            start_time: None,
            finish_time: None,
            tries: 1,
            optional: false,
            negative: false,
            paused_ms: 0,
            outputs: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_step_that_leaves_tests_in_doubt_lets_all_run() {
        use StepState::{Aborted, Failed, Passed, Queued, Skipped};
        let told = BTreeSet::from(["s1".to_owned()]);
        for (state, reason, code, expected) in [
            (Passed, "", Some(0), true),
            (Passed, "QUARANTINED", Some(1), true),
            (Failed, "EXIT_CODE", Some(1), true),
            (Failed, "EXIT_CODE", Some(125), true),
            (Failed, "EXIT_CODE", Some(126), false),
            (Failed, "EXIT_CODE", Some(137), false),
            (Failed, "EXIT_CODE", Some(0), false),
            (Failed, "EXIT_CODE", None, false),
            (Failed, "STEP_FAILED", None, true),
            (Failed, "SIGNAL", None, false),
            (Failed, "", None, false),
            (Skipped, "CONDITION", None, false),
            (Aborted, "", None, false),
            (Queued, "", None, false),
        ] {
            let step = step(state, reason, code);
            assert_eq!(is_by_tests(&step, &told), expected, "{}", what(&step));
        }
        // No report of its own says that one of its tests failed.
        let silent = step(Failed, "EXIT_CODE", Some(1));
        let others = BTreeSet::from(["s2".to_owned()]);
        assert!(!is_by_tests(&silent, &others));
        assert!(what(&silent).contains("no report of its own"));
    }
}
