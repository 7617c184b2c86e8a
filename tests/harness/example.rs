//! Examples with a real test tool: which tests they have, and the proof that each becomes a test case.

use std::path::Path;

use anyhow::{Context as _, ensure};
use muster_proto::v1::{
    CompareExecutionsRequest, CreateExecutionRequest, QuarantineTestRequest, TestCase,
    create_execution_request::Source, execution::State as End, test_case::State,
};
use tokio::process::Command;
use uuid::Uuid;

use crate::run::{Client, PROJECT, Run};

/// An example whose tool writes a report.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Its file in `examples`.
    file: &'static str,
    /// A command that passes on a machine that has the tool.
    probe: &'static [&'static str],
    /// Names of the tests that pass.
    passed: &'static [&'static str],
    /// The one that is skipped, and why.
    skipped: (&'static str, &'static str),
    /// The one that fails on demand, and words of its message then.
    fails: (&'static str, &'static str),
    /// It hands its tool the tests that failed, and those that were skipped beside them.
    takes_failed: bool,
}

/// Tests in Python.
pub const PYTEST: Example = Example {
    file: "pytest.yaml",
    probe: &["python3", "-m", "pytest", "--version"],
    passed: &[
        "test_all_are_counted[0]",
        "test_all_are_counted[1]",
        "test_all_are_counted[3]",
        "test_is_no_more_than_all",
    ],
    skipped: ("test_of_a_voucher", "there are no vouchers yet"),
    fails: ("test_is_taken_off", "assert 400 == 375"),
    takes_failed: true,
};

/// Tests in JavaScript.
pub const NODE: Example = Example {
    file: "node.yaml",
    probe: &[
        "node",
        "--eval",
        "import('node:test/reporters').then(known => process.exit(known.junit ? 0 : 1))",
    ],
    passed: &["is empty at first", "refuses less than one"],
    skipped: ("is kept overnight", "nothing is stored yet"),
    fails: ("counts what is added", "3 !== 4"),
    takes_failed: false,
};

/// Tests of programs, in Bash.
pub const BATS: Example = Example {
    file: "junit.yaml",
    probe: &["bats", "--version"],
    passed: &[
        "sorts words",
        "finds <a word> & more",
        "ends with 1 when nothing is found",
    ],
    skipped: ("reads archives", "there is no archive yet"),
    fails: ("sorts numbers by value", "in test file sort.bats, line 11"),
    takes_failed: false,
};

impl Example {
    /// Whether this machine has its tool; a word about it when it has not.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub async fn has_its_tool_here(&self) -> bool {
        let (program, arguments) = self.probe.split_first().unwrap_or((&"false", &[]));
        let output = Command::new(program).args(arguments).output().await;
        let found = output.is_ok_and(|output| output.status.success());
        if !found {
            eprintln!("skipped: no tool for {} here", self.file);
        }
        found
    }

    /// Runs it twice on the only agent, and in `image` if one is given: once all is well, once a test
    /// fails, and that one is found. Where its tool is told what failed, the others do not run again. In
    /// quarantine it fails, and the run passes.
    ///
    /// # Errors
    ///
    /// When anything else comes of it.
    pub async fn prove(&self, client: &Client, image: Option<&str>) -> anyhow::Result<()> {
        let good = self.run(client, image, false).await?;
        good.ends_as(End::Passed).await?;
        let cases = good.test_cases().await?;
        self.expect(&cases, self.passed, State::Passed)?;

        let bad = self.run(client, image, true).await?;
        bad.ends_as(End::Failed).await?;
        let cases = bad.test_cases().await?;
        self.expect(&cases, self.passed, State::Failed)?;
        let first = cases.first().context("no tests")?;
        let (name, message) = self.fails;
        ensure!(title(first) == name, "not first: {cases:#?}");
        ensure!(first.message.contains(message), "{first:#?}");
        ensure!(!first.stack.is_empty(), "{first:#?}");

        let request = CompareExecutionsRequest {
            base: good.name,
            name: bad.name.clone(),
        };
        let compared = client.tests().compare_executions(request).await?;
        let compared = compared.into_inner();
        let [change] = compared.new_failures.as_slice() else {
            anyhow::bail!("not one new failure: {compared:#?}");
        };
        let test = change.test.clone().unwrap_or_default();
        ensure!(test.display_name == name, "{change:#?}");
        ensure!(
            change.before() == State::Passed && change.after() == State::Failed,
            "{change:#?}"
        );
        ensure!(
            compared.fixed.is_empty()
                && compared.still_failing.is_empty()
                && (compared.added, compared.removed) == (0, 0),
            "{compared:#?}"
        );
        if self.takes_failed {
            self.prove_rerun(client, &bad).await?;
        }
        self.prove_quarantine(client, &test.name, image).await
    }

    /// Puts the test that fails into quarantine: the run passes, and says which test it forgave.
    async fn prove_quarantine(
        &self,
        client: &Client,
        test: &str,
        image: Option<&str>,
    ) -> anyhow::Result<()> {
        let request = QuarantineTestRequest {
            name: test.to_owned(),
            request_id: Uuid::new_v4().to_string(),
            reason: "it is looked into".to_owned(),
            ..QuarantineTestRequest::default()
        };
        client.tests().quarantine_test(request).await?;
        let run = self.run(client, image, true).await?;
        run.ends_as(End::Passed).await?;
        let cases = run.test_cases().await?;
        self.expect(&cases, self.passed, State::Failed)?;
        let forgiven = cases.iter().filter(|case| case.quarantine.is_some());
        let forgiven: Vec<_> = forgiven.map(title).collect();
        ensure!(forgiven == [self.fails.0], "{forgiven:?}");
        Ok(())
    }

    /// Runs again what failed, mended: that test, and the one that was skipped beside it.
    async fn prove_rerun(&self, client: &Client, bad: &Run) -> anyhow::Result<()> {
        let request = CreateExecutionRequest {
            parent: PROJECT.to_owned(),
            request_id: Uuid::new_v4().to_string(),
            source: Some(Source::Execution(bad.name.clone())),
            config: [("fail".to_owned(), "false".to_owned())].into(),
            failed_only: true,
            ..CreateExecutionRequest::default()
        };
        let made = client.executions().create_execution(request).await?;
        let made = made.into_inner().execution.unwrap_or_default();
        let again = Run::of(client, made.name);
        again.ends_as(End::Passed).await?;
        let cases = again.test_cases().await?;
        self.expect(&cases, &[], State::Passed)
    }

    async fn run(&self, client: &Client, image: Option<&str>, fail: bool) -> anyhow::Result<Run> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(self.file);
        let manifest = tokio::fs::read_to_string(&path).await;
        let manifest = manifest.with_context(|| path.display().to_string())?;
        let mut config = vec![];
        if fail {
            config.push(("fail", "true"));
        }
        config.extend(image.map(|image| ("image", image)));
        let run = client.start_with(&manifest, &config).await;
        run.context("the server refused the example")
    }

    /// Compares tests by name and state: `passed`, the skipped one, and `last` of the test that can fail.
    fn expect(&self, cases: &[TestCase], passed: &[&str], last: State) -> anyhow::Result<()> {
        let passed = passed.iter().map(|&name| (name, State::Passed));
        let mut wanted: Vec<_> = passed
            .chain([(self.skipped.0, State::Skipped), (self.fails.0, last)])
            .collect();
        let mut found: Vec<_> = cases
            .iter()
            .map(|case| (title(case), case.state()))
            .collect();
        wanted.sort_unstable();
        found.sort_unstable();
        ensure!(found == wanted, "{found:#?} in place of {wanted:#?}");
        let skipped = cases.iter().find(|case| case.state() == State::Skipped);
        let reason = skipped.map_or("", |case| case.message.as_str());
        ensure!(reason.contains(self.skipped.1), "{skipped:#?}");
        Ok(())
    }
}

fn title(case: &TestCase) -> &str {
    case.test
        .as_ref()
        .map_or("", |test| test.display_name.as_str())
}
