//! `muster.v1.TestService`.

use std::{collections::BTreeMap, time::Duration};

use muster_core::test_history::{Statistics, TestState};
use muster_proto::v1::{
    self, CompareExecutionsRequest, CompareExecutionsResponse, FindTestsRequest, FindTestsResponse,
    FlakyTest, GetTestHistoryRequest, GetTestHistoryResponse, ListFlakyTestsRequest,
    ListFlakyTestsResponse, ListQuarantinedTestsRequest, ListQuarantinedTestsResponse,
    ListReportsRequest, ListReportsResponse, ListTestCasesRequest, ListTestCasesResponse,
    QuarantineTestRequest, QuarantineTestResponse, ReleaseTestRequest, ReleaseTestResponse,
    TestChange, TestCounts, TestOutput, TestRun, TestStatistics, test_case::State,
    test_service_server::TestService,
};
use muster_storage::{
    quarantine,
    report::{self, Counts},
    test::{Case, Change, Cursor, Entry, Filter, Identity, Outcome, RunFilter, Test},
};
use serde::Deserialize;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, convert, name, page, quarantine as entry, request::Content};
use crate::{
    app::{Error, WantedQuarantine, test_identity},
    link::ingest::hexadecimal,
};

/// Shortest and longest text that tests are found by, in bytes.
const TEXT: std::ops::RangeInclusive<usize> = 2..=200;
/// Most flaky tests of an answer.
const MOST_FLAKY: u32 = 500;

#[tonic::async_trait]
impl TestService for Api {
    async fn list_reports(
        &self,
        request: Request<ListReportsRequest>,
    ) -> Result<Response<ListReportsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parent = name::execution("parent", &message.parent)?;
        let reports = self.app.list_reports(&caller, parent).await?;
        let reports = reports.into_iter().map(|it| show_report(parent[0], it));
        Ok(Response::new(ListReportsResponse {
            reports: reports.collect(),
        }))
    }

    async fn list_test_cases(
        &self,
        request: Request<ListTestCasesRequest>,
    ) -> Result<Response<ListTestCasesResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parent = name::execution("parent", &message.parent)?;
        let filter = read_filter(&message)?;
        let words: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        let words = words.join(",");
        let flaky = if filter.flaky { "flaky" } else { "" };
        let list = page::List::new(&["ListTestCases", parent[0], parent[1], &words, flaky]);
        let after: Option<(i32, Uuid, Uuid, i32)> = list.after(&message.page_token)?;
        let after = after.map(|(rank, execution, artifact, position)| Cursor {
            rank,
            execution,
            artifact,
            position,
        });
        let limit = page::size(message.page_size)?;
        let (page, totals) = self
            .app
            .list_test_cases(&caller, parent, &filter, after.as_ref(), limit)
            .await?;
        let next = page
            .next
            .map(|it| (it.rank, it.execution, it.artifact, it.position));
        let cases = page
            .items
            .into_iter()
            .map(|case| show_case(parent[0], case));
        Ok(Response::new(ListTestCasesResponse {
            test_cases: cases.collect(),
            next_page_token: list.token(next),
            counts: Some(show_counts(totals.counts)),
            pending_reports: i32::try_from(totals.pending).unwrap_or(i32::MAX),
        }))
    }

    async fn find_tests(
        &self,
        request: Request<FindTestsRequest>,
    ) -> Result<Response<FindTestsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        if !TEXT.contains(&message.text.len()) {
            let (least, most) = (TEXT.start(), TEXT.end());
            let reason = format!("must have between {least} and {most} bytes");
            return Err(Error::invalid("text", reason).into());
        }
        let tests = self.app.find_tests(&caller, project, &message.text).await?;
        Ok(Response::new(FindTestsResponse {
            tests: tests
                .into_iter()
                .map(|test| show_test(project, test))
                .collect(),
        }))
    }

    async fn get_test_history(
        &self,
        request: Request<GetTestHistoryRequest>,
    ) -> Result<Response<GetTestHistoryResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let (project, id) = read_name(&message.name)?;
        let filter = RunFilter {
            tags: message.tags.into_iter().collect(),
            agent: message.agent,
            workflow: message.workflow,
        };
        let limit = page::size(message.page_size)?;
        let history = self
            .app
            .get_test_history(&caller, project, id, &filter, limit);
        let (test, entries, statistics) = history.await?;
        let since = statistics
            .failing_since
            .and_then(|index| entries.get(index));
        let since = since.map(|entry| execution(project, entry.execution));
        Ok(Response::new(GetTestHistoryResponse {
            test: Some(show_test(project, test)),
            statistics: Some(show_statistics(&statistics, since.unwrap_or_default())),
            runs: entries
                .into_iter()
                .map(|it| show_run(project, it))
                .collect(),
        }))
    }

    async fn list_flaky_tests(
        &self,
        request: Request<ListFlakyTestsRequest>,
    ) -> Result<Response<ListFlakyTestsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let since = match message.start_time {
            Some(time) => Some(
                jiff::Timestamp::new(time.seconds, time.nanos)
                    .map_err(|error| Error::invalid("start_time", error.to_string()))?,
            ),
            None => None,
        };
        let limit = page::size(message.page_size)?.min(MOST_FLAKY);
        let found = self
            .app
            .list_flaky_tests(&caller, project, since, limit)
            .await?;
        let tests = found.into_iter().map(|(unsteady, statistics)| FlakyTest {
            statistics: Some(show_statistics(&statistics, String::new())),
            last_time: Some(convert::timestamp(unsteady.last_time)),
            test: Some(show_test(project, unsteady.test)),
        });
        Ok(Response::new(ListFlakyTestsResponse {
            tests: tests.collect(),
        }))
    }

    async fn compare_executions(
        &self,
        request: Request<CompareExecutionsRequest>,
    ) -> Result<Response<CompareExecutionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, base] = name::execution("base", &message.base)?;
        let [other, newer] = name::execution("name", &message.name)?;
        if project != other {
            return Err(Error::invalid("name", "must be of the project of `base`").into());
        }
        let compared = self
            .app
            .compare_executions(&caller, project, [base, newer])
            .await?;
        let show = |changes: Vec<Change>| -> Vec<TestChange> {
            changes
                .into_iter()
                .map(|it| show_change(project, it))
                .collect()
        };
        let count = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Response::new(CompareExecutionsResponse {
            new_failures: show(compared.new_failures),
            fixed: show(compared.fixed),
            still_failing: show(compared.still_failing),
            slower: show(compared.slower),
            quarantined: show(compared.quarantined),
            added: count(compared.added),
            removed: count(compared.removed),
            base_counts: Some(show_counts(compared.base)),
            counts: Some(show_counts(compared.counts)),
        }))
    }

    async fn quarantine_test(
        &self,
        request: Request<QuarantineTestRequest>,
    ) -> Result<Response<QuarantineTestResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let (project, test) = read_name(&message.name)?;
        let request = Content::new("QuarantineTest")
            .on(&message.name)
            .field(&message.name)
            .input("workflow", &message.workflow)
            .input("reason", &message.reason)
            .input("expiration", entry::expiration(&message))
            .request(&caller, &message.request_id)?;
        let wanted = WantedQuarantine {
            test,
            workflow: &message.workflow,
            reason: &message.reason,
            expiration: entry::read_expiration(&message)?,
        };
        let put = self
            .app
            .quarantine_test(&caller, project, &wanted, request.as_ref())
            .await?;
        Ok(Response::new(QuarantineTestResponse {
            quarantined_test: Some(entry::show(project, put)),
        }))
    }

    async fn release_test(
        &self,
        request: Request<ReleaseTestRequest>,
    ) -> Result<Response<ReleaseTestResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let (project, test) = read_name(&message.name)?;
        let request = Content::new("ReleaseTest")
            .on(&message.name)
            .field(&message.name)
            .input("workflow", &message.workflow)
            .request(&caller, &message.request_id)?;
        self.app
            .release_test(&caller, project, test, &message.workflow, request.as_ref())
            .await?;
        Ok(Response::new(ReleaseTestResponse {}))
    }

    async fn list_quarantined_tests(
        &self,
        request: Request<ListQuarantinedTestsRequest>,
    ) -> Result<Response<ListQuarantinedTestsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let expired = if message.expired { "expired" } else { "" };
        let list = page::List::new(&["ListQuarantinedTests", project, expired]);
        let after: Option<(i64, Uuid)> = list.after(&message.page_token)?;
        let after = after.map(|(expire_time, id)| quarantine::Cursor { expire_time, id });
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_quarantined_tests(&caller, project, message.expired, after.as_ref(), limit)
            .await?;
        let shown = page.items.into_iter().map(|it| entry::show(project, it));
        Ok(Response::new(ListQuarantinedTestsResponse {
            quarantined_tests: shown.collect(),
            next_page_token: list.token(page.next.map(|it| (it.expire_time, it.id))),
        }))
    }
}

fn read_filter(message: &ListTestCasesRequest) -> Result<Filter, Error> {
    let states = message.states.iter();
    let states = states.map(|number| read_state("states", *number));
    Ok(Filter {
        states: states.collect::<Result<_, _>>()?,
        flaky: message.flaky,
    })
}

/// A state of a filter.
pub(super) fn read_state(field: &str, number: i32) -> Result<TestState, Error> {
    match State::try_from(number) {
        Ok(State::Passed) => Ok(TestState::Passed),
        Ok(State::Skipped) => Ok(TestState::Skipped),
        Ok(State::Failed) => Ok(TestState::Failed),
        Ok(State::Error) => Ok(TestState::Error),
        Ok(State::Unspecified) | Err(_) => {
            let text = format!("{number} is no state of a test");
            Err(Error::invalid(field, text))
        }
    }
}

/// Project and identity of `projects/{project}/tests/{test}`.
fn read_name(name: &str) -> Result<(&str, Identity), Error> {
    const FORM: &str = "projects/{project}/tests/{test}";
    let [project, id] = name::parts("name", name, FORM)?;
    let refused = || Error::invalid("name", "the test has not 32 hexadecimal digits");
    Ok((project, test_identity(id).ok_or_else(refused)?))
}

fn execution(project: &str, id: muster_core::id::ExecutionId) -> String {
    format!("projects/{project}/executions/{id}")
}

pub(super) fn show_test(project: &str, test: Test) -> v1::Test {
    let id = hexadecimal(&test.identity);
    v1::Test {
        name: format!("projects/{project}/tests/{id}"),
        display_name: test.name,
        class: test.class,
        suite: test.suite,
        parameters: test.parameters.unwrap_or_default(),
        variants: test.variants,
        file: test.file.unwrap_or_default(),
        line: test.line.unwrap_or(0),
    }
}

const fn show_state(state: TestState) -> State {
    match state {
        TestState::Passed => State::Passed,
        TestState::Skipped => State::Skipped,
        TestState::Failed => State::Failed,
        TestState::Error => State::Error,
    }
}

fn millis(duration: Option<i64>) -> Option<prost_types::Duration> {
    let millis = duration?;
    Some(prost_types::Duration {
        seconds: millis / 1000,
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    })
}

fn duration(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|it| prost_types::Duration::try_from(it).ok())
}

const fn show_counts(counts: Counts) -> TestCounts {
    TestCounts {
        passed: counts.passed,
        failed: counts.failed,
        errors: counts.errors,
        skipped: counts.skipped,
        flaky: counts.flaky,
        quarantined: counts.quarantined,
    }
}

/// What is stored beside a case.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    outputs: Vec<Place>,
    attachments: Vec<String>,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    stream: String,
    start: i64,
    end: i64,
}

fn show_case(project: &str, case: Case) -> v1::TestCase {
    let detail = case.detail.as_deref().map(serde_json::from_str::<Detail>);
    let detail = detail.and_then(Result::ok).unwrap_or_default();
    let execution = execution(project, case.execution);
    v1::TestCase {
        report: format!("{execution}/artifacts/{}", case.artifact),
        execution,
        state: show_state(case.state).into(),
        flaky: case.flaky,
        tries: case.tries,
        duration: millis(case.duration),
        message: case.message.unwrap_or_default(),
        kind: case.kind.unwrap_or_default(),
        stack: case.stack.unwrap_or_default(),
        outputs: detail
            .outputs
            .into_iter()
            .map(|it| TestOutput {
                stream: it.stream,
                start: it.start,
                end: it.end,
            })
            .collect(),
        attachments: detail.attachments,
        properties: detail.properties.into_iter().collect(),
        quarantine: case.quarantine.map(entry::show_mark),
        test: Some(show_test(project, case.test)),
    }
}

fn show_report(project: &str, report: report::Report) -> v1::Report {
    let execution = execution(project, report.execution);
    v1::Report {
        artifact: format!("{execution}/artifacts/{}", report.artifact),
        path: report.path,
        format: report.format,
        state: match report.state {
            report::State::Pending => v1::report::State::Pending,
            report::State::Read => v1::report::State::Read,
            report::State::Broken => v1::report::State::Broken,
        }
        .into(),
        message: report.message,
        counts: Some(show_counts(report.counts)),
        duration: millis(report.duration),
        summary_json: report.summary,
    }
}

fn show_run(project: &str, run: Entry) -> TestRun {
    TestRun {
        execution: execution(project, run.execution),
        display_name: run.display_name,
        workflow: run.workflow,
        tags: run.tags.into_iter().collect(),
        agent: run.agent,
        run_time: Some(convert::timestamp(run.run_time)),
        state: show_state(run.result.state).into(),
        flaky: run.result.flaky,
        duration: duration(run.result.duration),
        tries: run.tries,
        message: run.message.unwrap_or_default(),
        revision: run.result.revision.unwrap_or_default(),
        quarantine: run.quarantine.map(entry::show_mark),
    }
}

fn show_statistics(statistics: &Statistics, failing_since: String) -> TestStatistics {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    TestStatistics {
        runs: count(statistics.runs),
        passed: count(statistics.passed),
        bad: count(statistics.bad),
        flaky: count(statistics.flaky),
        flips: count(statistics.flips),
        flaky_score: statistics.flaky_score,
        median_duration: duration(statistics.median),
        p95_duration: duration(statistics.p95),
        failing_since,
    }
}

fn show_change(project: &str, change: Change) -> TestChange {
    let state =
        |outcome: Option<Outcome>| outcome.map_or(State::Unspecified, |it| show_state(it.state));
    TestChange {
        before: state(change.before).into(),
        after: state(Some(change.after)).into(),
        duration_before: millis(change.before.and_then(|it| it.duration)),
        duration_after: millis(change.after.duration),
        quarantined: change.after.quarantined,
        test: Some(show_test(project, change.test)),
    }
}
