//! `muster history`, `muster flaky`, `muster compare`: tests over runs.

use clap::Args;
use muster_proto::v1::{
    CompareExecutionsRequest, CompareExecutionsResponse, FindTestsRequest, FlakyTest,
    GetTestHistoryRequest, GetTestHistoryResponse, ListFlakyTestsRequest, Test, TestChange,
    TestRun, TestStatistics,
};
use serde::Serialize;

use super::test_cases::{Counts, Mark, duration, name, title};
use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{Style, Terminal, escape, measure, table::Table},
};

/// Tests that are named when a part of a name fits several.
const MOST_NAMED: usize = 20;

const HISTORY: &str = "\
Examples:
  muster history test_login             a part of its name is enough when one test has it
  muster history 5f0c0b6e…              its id, of `muster tests --output json`
  muster history test_login --tag branch=main --limit 200
  muster history test_login --agent eu-west --output json

Results of one revision are those of executions with the same tag `commit`, `revision` or `sha`:
`muster run --tag commit=$(git rev-parse HEAD)`.";

/// Show the results of one test over runs
#[derive(Debug, Args)]
#[command(after_help = HISTORY)]
pub(crate) struct History {
    /// Its id, or a part of its class and name
    #[arg(value_name = "TEST")]
    test: String,
    /// Most results, newest first
    #[arg(long, value_name = "COUNT", default_value_t = 30, value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    /// Only of executions with this tag
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = crate::arguments::pair)]
    tags: Vec<(String, String)>,
    /// Only of this agent, which stands for its cluster
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only of this workflow
    #[arg(long, value_name = "WORKFLOW")]
    workflow: Option<String>,
}

const FLAKY: &str = "\
Examples:
  muster flaky
  muster flaky --since 7d --limit 10
  muster flaky --output json

A test is flaky that has passed on a retry, or passed and failed on one revision: the tag `commit`,
`revision` or `sha` of its executions. The score is the share of such results among the newest hundred.";

/// Show tests that pass and fail on the same revision, or pass on a retry
#[derive(Debug, Args)]
#[command(after_help = FLAKY)]
pub(crate) struct Flaky {
    /// Most tests, those with the highest score first
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=500))]
    limit: i32,
    /// Only results since this time, or in this last stretch of time [default: 14d]
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    since: Option<jiff::Timestamp>,
}

const COMPARE: &str = "\
Examples:
  muster compare smoke-3 smoke-4
  muster compare smoke-3 smoke-4 --output json | jq '.newFailures[].name'

Exit code 1 means that a test fails which did not; tests in quarantine are listed apart.";

/// Compare the tests of two executions: new failures, fixed, slower
#[derive(Debug, Args)]
#[command(after_help = COMPARE)]
pub(crate) struct Compare {
    /// The older one
    #[arg(value_name = "BASE")]
    base: String,
    /// The newer one
    #[arg(value_name = "EXECUTION")]
    id: String,
}

/// Runs `muster history`.
pub(crate) async fn history(arguments: History, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let found = read_history(&session.client, arguments).await;
    session.close().await;
    let found = found?;
    if global.json() {
        json::print(&HistoryDocument::new(&found))?;
    } else {
        super::print(&history_text(&found, &global.stdout()))?;
    }
    Ok(Exit::Success)
}

async fn read_history(
    client: &Client,
    arguments: History,
) -> Result<GetTestHistoryResponse, Error> {
    let request = GetTestHistoryRequest {
        name: find(client, &arguments.test).await?,
        page_size: arguments.limit,
        tags: arguments.tags.into_iter().collect(),
        agent: arguments.agent.unwrap_or_default(),
        workflow: arguments.workflow.unwrap_or_default(),
    };
    client
        .call(async || client.tests().get_test_history(request.clone()).await)
        .await
}

/// The resource name of a test.
pub(super) async fn find(client: &Client, wanted: &str) -> Result<String, Error> {
    let parent = client.parent();
    if wanted.len() == 32 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(format!("{parent}/tests/{}", wanted.to_ascii_lowercase()));
    }
    let request = FindTestsRequest {
        parent,
        text: wanted.to_owned(),
    };
    let response = client
        .call(async || client.tests().find_tests(request.clone()).await)
        .await?;
    let exact: Vec<&Test> = response
        .tests
        .iter()
        .filter(|test| test.display_name == wanted)
        .collect();
    let several = if exact.len() == 1 {
        exact
    } else {
        response.tests.iter().collect()
    };
    match several.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => Err(Error::Usage(format!("no test has '{wanted}' in its name"))),
        several => {
            let named = several.iter().take(MOST_NAMED).map(|test| {
                let id = test.name.rsplit('/').next().unwrap_or_default();
                format!("\n  {id}  {}", title(test))
            });
            let named: String = named.collect();
            Err(Error::Usage(format!(
                "{} tests have '{wanted}' in their names; take one by its id:{named}",
                several.len()
            )))
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    id: String,
    name: String,
    class: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variants: String,
}

impl Named {
    pub(super) fn new(test: Option<&Test>) -> Self {
        let test = test.cloned().unwrap_or_default();
        Self {
            id: test.name.rsplit('/').next().unwrap_or_default().to_owned(),
            name: test.display_name,
            class: test.class,
            variants: test.variants,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    runs: i32,
    passed: i32,
    bad: i32,
    flaky: i32,
    flips: i32,
    flaky_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    median_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_seconds: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    failing_since: String,
}

impl Statistics {
    fn new(told: Option<&TestStatistics>) -> Self {
        let told = told.cloned().unwrap_or_default();
        let seconds =
            |told: Option<&prost_types::Duration>| duration(told).map(|it| it.as_secs_f64());
        Self {
            runs: told.runs,
            passed: told.passed,
            bad: told.bad,
            flaky: told.flaky,
            flips: told.flips,
            flaky_score: told.flaky_score,
            median_seconds: seconds(told.median_duration.as_ref()),
            p95_seconds: seconds(told.p95_duration.as_ref()),
            failing_since: told.failing_since,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunRow<'a> {
    execution: &'a str,
    workflow: &'a str,
    agent: &'a str,
    time: Option<jiff::Timestamp>,
    state: &'static str,
    flaky: bool,
    tries: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<Mark>,
    tags: std::collections::BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
struct HistoryDocument<'a> {
    test: Named,
    statistics: Statistics,
    runs: Vec<RunRow<'a>>,
}

impl<'a> HistoryDocument<'a> {
    fn new(found: &'a GetTestHistoryResponse) -> Self {
        let runs = found.runs.iter().map(|run| RunRow {
            execution: &run.display_name,
            workflow: &run.workflow,
            agent: &run.agent,
            time: json::time(run.run_time.as_ref()),
            state: name(run.state()),
            flaky: run.flaky,
            tries: run.tries,
            seconds: duration(run.duration.as_ref()).map(|it| it.as_secs_f64()),
            message: &run.message,
            revision: &run.revision,
            quarantine: run.quarantine.as_ref().map(Mark::new),
            tags: run
                .tags
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect(),
        });
        Self {
            test: Named::new(found.test.as_ref()),
            statistics: Statistics::new(found.statistics.as_ref()),
            runs: runs.collect(),
        }
    }
}

fn history_text(found: &GetTestHistoryResponse, terminal: &Terminal) -> String {
    let heading = found.test.as_ref().map(title).unwrap_or_default();
    let mut text = format!("{}\n", terminal.paint(Style::Bold, &heading));
    let told = found.statistics.clone().unwrap_or_default();
    text.push_str(&format!("  {} of {} passed", told.passed, told.runs));
    for (label, value) in [
        ("median", told.median_duration.as_ref()),
        ("p95", told.p95_duration.as_ref()),
    ] {
        if let Some(value) = duration(value) {
            text.push_str(&format!(" · {label} {}", measure::duration(value)));
        }
    }
    if told.flaky_score > 0.0 {
        let score = format!(" · flaky {:.0} %", told.flaky_score * 100.0);
        text.push_str(&terminal.paint(Style::Yellow, &score));
    }
    text.push('\n');
    let since = found
        .runs
        .iter()
        .find(|run| run.execution == told.failing_since);
    if let Some(since) = since {
        let time = json::time(since.run_time.as_ref()).map(measure::local);
        let words = format!(
            "  fails since {}, {}\n",
            escape::visible(&since.display_name),
            time.unwrap_or_default()
        );
        text.push_str(&terminal.paint(Style::Red, &words));
    }
    text.push('\n');
    let mut table = Table::new(&[
        "STATE",
        "EXECUTION",
        "WHEN",
        "TOOK",
        "AGENT",
        "REVISION",
        "WHY",
    ]);
    for run in &found.runs {
        table.row([
            word(run).into(),
            escape::visible(&run.display_name).into(),
            json::time(run.run_time.as_ref())
                .map(measure::local)
                .unwrap_or_default()
                .into(),
            duration(run.duration.as_ref())
                .map(measure::duration)
                .unwrap_or_default()
                .into(),
            escape::visible(&run.agent).into(),
            escape::visible(&run.revision.chars().take(12).collect::<String>()).into(),
            escape::visible(run.message.lines().next().unwrap_or_default()).into(),
        ]);
    }
    text.push_str(&table.render(terminal));
    text
}

fn word(run: &TestRun) -> &'static str {
    match (run.flaky, &run.quarantine) {
        (true, _) => "flaky",
        (_, Some(_)) => "quarantined",
        _ => name(run.state()),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FlakyRow {
    test: Named,
    statistics: Statistics,
    last_time: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize)]
struct FlakyDocument {
    tests: Vec<FlakyRow>,
}

/// Runs `muster flaky`.
pub(crate) async fn flaky(arguments: Flaky, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let found = read_flaky(&session.client, &arguments).await;
    session.close().await;
    let found = found?;
    if global.json() {
        let tests = found.iter().map(|one| FlakyRow {
            test: Named::new(one.test.as_ref()),
            statistics: Statistics::new(one.statistics.as_ref()),
            last_time: json::time(one.last_time.as_ref()),
        });
        json::print(&FlakyDocument {
            tests: tests.collect(),
        })?;
        return Ok(Exit::Success);
    }
    if found.is_empty() {
        super::note(global, "no test was flaky in this time");
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&[
        "SCORE", "RUNS", "FAILED", "RETRIED", "FLIPS", "LAST", "TEST",
    ]);
    for one in &found {
        let told = one.statistics.clone().unwrap_or_default();
        table.row([
            format!("{:.0} %", told.flaky_score * 100.0).into(),
            told.runs.to_string().into(),
            told.bad.to_string().into(),
            told.flaky.to_string().into(),
            told.flips.to_string().into(),
            json::time(one.last_time.as_ref())
                .map(measure::local)
                .unwrap_or_default()
                .into(),
            one.test.as_ref().map(title).unwrap_or_default().into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))?;
    Ok(Exit::Success)
}

async fn read_flaky(client: &Client, arguments: &Flaky) -> Result<Vec<FlakyTest>, Error> {
    let request = ListFlakyTestsRequest {
        parent: client.parent(),
        page_size: arguments.limit,
        start_time: arguments.since.map(json::wire),
    };
    let response = client
        .call(async || client.tests().list_flaky_tests(request.clone()).await)
        .await?;
    Ok(response.tests)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeRow {
    #[serde(flatten)]
    test: Named,
    before: &'static str,
    after: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_after: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    quarantined: bool,
}

impl ChangeRow {
    fn new(change: &TestChange) -> Self {
        let seconds =
            |told: Option<&prost_types::Duration>| duration(told).map(|it| it.as_secs_f64());
        Self {
            test: Named::new(change.test.as_ref()),
            before: name(change.before()),
            after: name(change.after()),
            seconds_before: seconds(change.duration_before.as_ref()),
            seconds_after: seconds(change.duration_after.as_ref()),
            quarantined: change.quarantined,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    new_failures: Vec<ChangeRow>,
    fixed: Vec<ChangeRow>,
    still_failing: Vec<ChangeRow>,
    quarantined: Vec<ChangeRow>,
    slower: Vec<ChangeRow>,
    added: i32,
    removed: i32,
    base: Counts,
    counts: Counts,
}

/// Runs `muster compare`.
pub(crate) async fn compare(arguments: Compare, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let found = read_comparison(&session.client, &arguments).await;
    session.close().await;
    let found = found?;
    if global.json() {
        let rows = |changes: &[TestChange]| changes.iter().map(ChangeRow::new).collect();
        json::print(&Comparison {
            new_failures: rows(&found.new_failures),
            fixed: rows(&found.fixed),
            still_failing: rows(&found.still_failing),
            quarantined: rows(&found.quarantined),
            slower: rows(&found.slower),
            added: found.added,
            removed: found.removed,
            base: Counts::new(found.base_counts),
            counts: Counts::new(found.counts),
        })?;
    } else {
        super::print(&comparison_text(&found, &arguments, &global.stdout()))?;
    }
    Ok(match found.new_failures.is_empty() {
        true => Exit::Success,
        false => Exit::Failed,
    })
}

async fn read_comparison(
    client: &Client,
    arguments: &Compare,
) -> Result<CompareExecutionsResponse, Error> {
    let request = CompareExecutionsRequest {
        base: client.execution_name(&arguments.base)?,
        name: client.execution_name(&arguments.id)?,
    };
    client
        .call(async || client.tests().compare_executions(request.clone()).await)
        .await
}

fn comparison_text(
    found: &CompareExecutionsResponse,
    arguments: &Compare,
    terminal: &Terminal,
) -> String {
    let mut text = String::new();
    for (heading, changes, style) in [
        ("new failures", &found.new_failures, Style::Red),
        ("still failing", &found.still_failing, Style::Red),
        (
            "new failures in quarantine",
            &found.quarantined,
            Style::Yellow,
        ),
        ("fixed", &found.fixed, Style::Green),
        ("slower", &found.slower, Style::Yellow),
    ] {
        if changes.is_empty() {
            continue;
        }
        let heading = format!("{heading}: {}", changes.len());
        text.push_str(&format!("{}\n", terminal.paint(style, &heading)));
        for change in changes {
            let mut title = change.test.as_ref().map(title).unwrap_or_default();
            if change.quarantined && style == Style::Red {
                title.push_str("  in quarantine");
            }
            let times = [&change.duration_before, &change.duration_after];
            let times = times.map(|told| duration(told.as_ref()).map(measure::duration));
            let took = match times {
                [Some(before), Some(after)] if style == Style::Yellow => {
                    format!("  {before} → {after}")
                }
                _ => String::new(),
            };
            text.push_str(&format!("  {title}{}\n", terminal.paint(Style::Dim, &took)));
        }
        text.push('\n');
    }
    for (id, counts) in [
        (&arguments.base, found.base_counts),
        (&arguments.id, found.counts),
    ] {
        let counts = Counts::new(counts);
        text.push_str(&format!("{}: {}\n", escape::visible(id), counts.words()));
    }
    text.push_str(&format!(
        "{} tests added, {} removed\n",
        found.added, found.removed
    ));
    text
}
