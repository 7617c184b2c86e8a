//! `muster tests`: the tests of an execution, as reports among its artifacts tell them. The reports
//! themselves are in [`reports`], what tests have printed in [`output`].

mod output;
pub(super) mod reports;

use std::time::Duration;

use clap::Args;
use muster_proto::v1::{
    ListTestCasesRequest, Quarantine, Test, TestCase, TestCounts, test_case::State,
};
use serde::Serialize;

use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages},
    error::Error,
    exit::Exit,
    place::Session,
    terminal::{Style, Terminal, escape, measure},
};

/// Lines of a failure that are shown unless all of them are wanted.
const MOST_LINES: usize = 12;
/// How long to wait for reports that are being read.
const PATIENCE: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  muster tests smoke-3                  those that did not pass, with the reason; all are counted
  muster tests smoke-3 --all
  muster tests smoke-3 --state skipped
  muster tests smoke-3 --flaky          passed on a retry
  muster tests smoke-3 --full           with the whole stack, and what the test has printed
  muster tests smoke-3 --reports        which files were read, and what is wrong with them
  muster tests smoke-3 --output json | jq '.tests[].name'

Exit code 1 means that a test did not pass; of tests in quarantine that does not count.";

/// Show the tests of an execution and of its workers and members
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// All tests, also those that passed
    #[arg(long, conflicts_with_all = ["states", "flaky"])]
    all: bool,
    /// Only tests with this state: passed, skipped, failed or error
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<State>,
    /// Only tests that passed on a retry
    #[arg(long)]
    flaky: bool,
    /// Show the whole account of each failure, and of each test the output that its report has
    #[arg(long)]
    full: bool,
    /// Show the reports instead: where tests come from
    #[arg(long, conflicts_with_all = ["all", "states", "flaky", "full"])]
    reports: bool,
}

/// Tests of an execution, for a program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    counts: Counts,
    pending_reports: i32,
    tests: Vec<Row>,
}

/// How tests ended.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Counts {
    passed: i64,
    failed: i64,
    errors: i64,
    skipped: i64,
    flaky: i64,
    quarantined: i64,
}

impl Counts {
    /// Of the wire.
    pub(crate) fn new(counts: Option<TestCounts>) -> Self {
        let counts = counts.unwrap_or_default();
        Self {
            passed: counts.passed,
            failed: counts.failed,
            errors: counts.errors,
            skipped: counts.skipped,
            flaky: counts.flaky,
            quarantined: counts.quarantined,
        }
    }

    /// Those that did not pass.
    const fn failures(&self) -> i64 {
        self.failed + self.errors
    }

    /// Those that did not pass and count.
    pub(crate) const fn bad(&self) -> i64 {
        self.failures() - self.quarantined
    }

    /// Whether there are none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.passed + self.failed + self.errors + self.skipped == 0
    }

    /// In words: `12 passed (1 flaky), 2 failed (1 in quarantine)`.
    pub(crate) fn words(&self) -> String {
        let mut words = vec![match self.flaky {
            0 => format!("{} passed", self.passed),
            flaky => format!("{} passed ({flaky} flaky)", self.passed),
        }];
        for (count, word) in [(self.failed, "failed"), (self.errors, "with errors")] {
            if count > 0 {
                words.push(format!("{count} {word}"));
            }
        }
        if self.quarantined > 0
            && let Some(last) = words.last_mut()
        {
            last.push_str(&format!(" ({} in quarantine)", self.quarantined));
        }
        if self.skipped > 0 {
            words.push(format!("{} skipped", self.skipped));
        }
        words.join(", ")
    }
}

/// Why and until when a failure does not count.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mark {
    reason: String,
    expire_time: Option<jiff::Timestamp>,
}

impl Mark {
    /// Of the wire.
    pub(crate) fn new(quarantine: &Quarantine) -> Self {
        Self {
            reason: quarantine.reason.clone(),
            expire_time: crate::json::time(quarantine.expire_time.as_ref()),
        }
    }

    /// In words, for people.
    fn words(&self) -> String {
        let reason = escape::visible(&self.reason);
        match self.expire_time {
            Some(end) => format!("in quarantine until {}: {reason}", measure::local(end)),
            None => format!("in quarantine: {reason}"),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    class: String,
    suite: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parameters: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variants: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    state: &'static str,
    flaky: bool,
    tries: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    stack: String,
    execution: String,
    report: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<output::Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<Mark>,
}

/// A state by its name.
fn state(text: &str) -> Result<State, String> {
    let all = [State::Passed, State::Skipped, State::Failed, State::Error];
    all.into_iter()
        .find(|state| name(*state) == text)
        .ok_or_else(|| "expected passed, skipped, failed or error".to_owned())
}

/// The name of a state.
pub(crate) const fn name(state: State) -> &'static str {
    match state {
        State::Unspecified => "",
        State::Passed => "passed",
        State::Skipped => "skipped",
        State::Failed => "failed",
        State::Error => "error",
    }
}

/// The name of a test as people read it: class and name, and what sets it apart.
pub(crate) fn title(test: &Test) -> String {
    let mut title = String::new();
    if !test.class.is_empty() && !test.display_name.contains(&test.class) {
        title.push_str(&test.class);
        title.push_str(" › ");
    }
    title.push_str(&test.display_name);
    if !test.variants.is_empty() {
        title.push_str(&format!(" [{}]", test.variants));
    }
    escape::visible(&title)
}

/// A duration of the wire.
pub(crate) fn duration(told: Option<&prost_types::Duration>) -> Option<Duration> {
    told.and_then(|told| Duration::try_from(*told).ok())
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let client = &session.client;
    if arguments.reports {
        let reports = reports::list(client, &arguments.id).await;
        session.close().await;
        return reports::show(&reports?, global);
    }
    let found = read(client, &arguments).await;
    session.close().await;
    let found = found?;
    if global.json() {
        let tests = found.cases.iter().zip(&found.printed);
        crate::json::print(&Document {
            counts: found.counts,
            pending_reports: found.pending,
            tests: tests.map(|(case, printed)| row(case, printed)).collect(),
        })?;
    } else {
        show(&found, arguments.full, global)?;
    }
    Ok(match found.counts.bad() {
        0 => Exit::Success,
        _ => Exit::Failed,
    })
}

/// What was found.
struct Found {
    cases: Vec<TestCase>,
    /// What each of them has printed.
    printed: Vec<output::Printed>,
    counts: Counts,
    pending: i32,
}

async fn read(client: &Client, arguments: &Arguments) -> Result<Found, Error> {
    let states: Vec<State> = match arguments {
        Arguments { all: true, .. } | Arguments { flaky: true, .. } => arguments.states.clone(),
        _ if arguments.states.is_empty() => vec![State::Failed, State::Error],
        _ => arguments.states.clone(),
    };
    let began = std::time::Instant::now();
    loop {
        let mut found = read_once(client, arguments, &states).await?;
        if found.pending == 0 || began.elapsed() > PATIENCE {
            found.printed = output::read(client, &found.cases, arguments.full).await;
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn read_once(
    client: &Client,
    arguments: &Arguments,
    states: &[State],
) -> Result<Found, Error> {
    let parent = client.execution_name(&arguments.id)?;
    let (mut counts, mut pending) = (Counts::default(), 0);
    let cases = pages(async |page_token| {
        let request = ListTestCasesRequest {
            parent: parent.clone(),
            page_size: PAGE_SIZE,
            page_token,
            states: states.iter().map(|state| (*state).into()).collect(),
            flaky: arguments.flaky,
        };
        let response = client
            .call(async || client.tests().list_test_cases(request.clone()).await)
            .await?;
        counts = Counts::new(response.counts);
        pending = response.pending_reports;
        Ok((response.test_cases, response.next_page_token))
    })
    .await?;
    Ok(Found {
        cases,
        printed: Vec::new(),
        counts,
        pending,
    })
}

/// What `muster run` says of tests when it is over: the counts, and those that did not pass, as far as
/// reports are read by then. Nothing when there are none.
pub(crate) async fn summary(client: &Client, execution: &str, terminal: &Terminal) -> String {
    const SHOWN: i32 = 10;
    let began = std::time::Instant::now();
    loop {
        let request = ListTestCasesRequest {
            parent: execution.to_owned(),
            page_size: SHOWN,
            states: vec![State::Failed.into(), State::Error.into()],
            ..ListTestCasesRequest::default()
        };
        // A summary that fails for this would help nobody.
        let Ok(response) = client.tests().list_test_cases(request).await else {
            return String::new();
        };
        let response = response.into_inner();
        if response.pending_reports > 0 && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let counts = Counts::new(response.counts);
        if counts.is_empty() {
            return String::new();
        }
        let mut text = format!("  tests      {}\n", counts.words());
        for case in &response.test_cases {
            let title = case.test.as_ref().map(title).unwrap_or_default();
            let first = case.message.lines().next().unwrap_or_default();
            let message = terminal.paint(Style::Dim, &escape::visible(first));
            let (word, style) = match case.quarantine {
                Some(_) => ("quarantined", Style::Yellow),
                None => (name(case.state()), Style::Red),
            };
            let word = terminal.paint(style, &format!("{word:>9}"));
            text.push_str(&format!("           {word}  {title}  {message}\n"));
        }
        let shown = i64::try_from(response.test_cases.len()).unwrap_or(0);
        if counts.failures() > shown {
            text.push_str(&format!(
                "                      and {} more\n",
                counts.failures() - shown
            ));
        }
        return text;
    }
}

fn row(case: &TestCase, printed: &output::Printed) -> Row {
    let test = case.test.clone().unwrap_or_default();
    Row {
        id: test.name.rsplit('/').next().unwrap_or_default().to_owned(),
        name: test.display_name,
        class: test.class,
        suite: test.suite,
        parameters: test.parameters,
        variants: test.variants,
        file: test.file,
        state: name(case.state()),
        flaky: case.flaky,
        tries: case.tries,
        seconds: duration(case.duration.as_ref()).map(|it| it.as_secs_f64()),
        message: case.message.clone(),
        kind: case.kind.clone(),
        stack: case.stack.clone(),
        execution: case.execution.clone(),
        report: case.report.clone(),
        attachments: case.attachments.clone(),
        outputs: printed.rows(),
        quarantine: case.quarantine.as_ref().map(Mark::new),
    }
}

fn show(found: &Found, full: bool, global: &Global) -> Result<(), Error> {
    let terminal = global.stdout();
    let mut text = String::new();
    for (case, printed) in found.cases.iter().zip(&found.printed) {
        text.push_str(&line(case, &terminal));
        if matches!(case.state(), State::Failed | State::Error) {
            text.push_str(&account(case, full, &terminal));
        }
        if full {
            text.push_str(&printed.text(&terminal));
        }
    }
    if found.counts.is_empty() && found.pending == 0 {
        super::note(
            global,
            "no tests: collect the reports of the test tool as artifacts, such as junit.xml",
        );
        return Ok(());
    }
    text.push_str(&format!("{}\n", found.counts.words()));
    super::print(&text)?;
    if found.pending > 0 {
        super::note(
            global,
            &format!("{} reports are not read yet", found.pending),
        );
    }
    Ok(())
}

fn line(case: &TestCase, terminal: &Terminal) -> String {
    let style = match case.state() {
        State::Failed | State::Error if case.quarantine.is_some() => Style::Yellow,
        State::Failed | State::Error => Style::Red,
        State::Passed if case.flaky => Style::Yellow,
        State::Passed => Style::Green,
        State::Skipped | State::Unspecified => Style::Dim,
    };
    let word = if case.flaky {
        "flaky"
    } else if case.quarantine.is_some() {
        "quarantined"
    } else {
        name(case.state())
    };
    let word = terminal.paint(style, &format!("{word:>7}"));
    let title = case.test.as_ref().map(title).unwrap_or_default();
    let took = duration(case.duration.as_ref()).map(measure::duration);
    let took = terminal.paint(Style::Dim, &took.unwrap_or_default());
    format!("{word}  {title}  {took}\n")
}

fn account(case: &TestCase, full: bool, terminal: &Terminal) -> String {
    let text = match case.stack.is_empty() {
        true => &case.message,
        false => &case.stack,
    };
    let most = if full { usize::MAX } else { MOST_LINES };
    let mut shown = String::new();
    if let Some(quarantine) = &case.quarantine {
        let words = Mark::new(quarantine).words();
        let words = terminal.paint(Style::Yellow, &words);
        shown.push_str(&format!("         {words}\n"));
    }
    let mut lines = text.trim_end().lines();
    for line in lines.by_ref().take(most) {
        let line = terminal.paint(Style::Dim, &escape::visible(line));
        shown.push_str(&format!("         {line}\n"));
    }
    let left = lines.count();
    if left > 0 {
        shown.push_str(&format!("         … {left} lines more, see --full\n"));
    }
    shown
}
