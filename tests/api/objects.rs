//! An object store that goes away under a real server, with a real agent and the spools of its runs.
//! Runs where `MUSTER_TEST_S3` is given, as the suite of the storage; with
//! `MUSTER_TEST_REQUIRE_SERVERS=1` it fails where that is not set.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use muster_proto::v1::{ListTestCasesRequest, execution::State};
use muster_tests::{
    agent::Agent,
    control_plane::{ControlPlane, Options},
    digest::sha256,
    given::{object_store_behind_a_wire, size},
    proxy::{Proxy, Wire},
    run::Run,
    wait,
};

/// Prints numbered lines for about ten seconds.
const COUNTING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: counting
spec:
  execution: {recovery: {lostAgent: fail, lostAgentAfter: 1s}}
  steps:
  - shell: |
      i=0
      while [ $i -lt 50 ]; do echo "line $i"; sleep 0.2; i=$((i+1)); done
"#;

/// Makes a report and a file of twenty megabytes a second after the store is gone, goes on printing a megabyte
/// of lines, and fails.
const EVIDENCE: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: evidence
spec:
  execution: {recovery: {lostAgent: fail, lostAgentAfter: 1s}}
  steps:
  - name: Files
    shell: |
      echo begin; sleep 3
      mkdir -p /data/out && cd /data/out
      seq 1 2700000 > numbers
      echo '<testsuite name="evidence"><testcase classname="a" name="one"/><testcase classname="a" name="two"><failure message="away"/></testcase></testsuite>' > report.xml
    artifacts:
      workingDir: /data/out
      paths: ["**"]
  - name: Lines
    shell: seq 1 160000; exit 3
"#;

/// A run on an object store behind a wire.
struct Scene {
    wire: Proxy,
    run: Run,
    server: ControlPlane,
    _agent: Agent,
}

impl Scene {
    /// Starts a run; nothing where no object store is given.
    async fn start(manifest: &str) -> anyhow::Result<Option<Self>> {
        let Some((wire, url)) = object_store_behind_a_wire().await? else {
            return Ok(None);
        };
        let lease = ["--lease-duration", "6s", "--renew-interval", "2s"];
        let options = Options::of(&lease).with_blobs(&url);
        let server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), options).await?;
        let agent = Agent::on_this_machine(&server, "here").await?;
        let run = server.client.start(manifest, None).await?;
        Ok(Some(Self {
            wire,
            run,
            server,
            _agent: agent,
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_wait_in_their_spools_while_the_object_store_is_away() -> anyhow::Result<()> {
    let Some(Scene { wire, run, .. }) = &Scene::start(COUNTING).await? else {
        return Ok(());
    };
    run.prints("line 3\n").await?;
    wire.set(Wire::Cut);
    let away = Instant::now();
    // All is over but the log, and no lease ends meanwhile.
    run.becomes(State::Finishing).await?;
    while away.elapsed() < Duration::from_secs(15) {
        let now = run.now().await?;
        ensure!(now.state() != State::Passed, "its log can not be whole");
        ensure!(now.attempts.len() == 1, "{:?}", now.attempts);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    wire.set(Wire::Whole);
    let done = run.ends_as(State::Passed).await?;
    ensure!(done.attempts.len() == 1, "{:?}", done.attempts);
    let mut expected = String::new();
    for number in 0..50 {
        writeln!(expected, "line {number}")?;
    }
    let log = run.whole_log().await?;
    log.expect_whole()?;
    ensure!(log.text().contains(&expected), "{}", log.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_evidence_of_a_run_is_there_after_minutes_without_the_object_store()
-> anyhow::Result<()> {
    let Some(scene) = &Scene::start(EVIDENCE).await? else {
        return Ok(());
    };
    let Scene { wire, run, .. } = scene;
    run.prints("begin\n").await?;
    wire.set(Wire::Cut);
    tokio::time::sleep(Duration::from_secs(size(20, 300).into())).await;
    let now = run.now().await?;
    ensure!(
        now.state() != State::Failed,
        "its evidence can not be whole"
    );
    ensure!(now.attempts.len() == 1, "{:?}", now.attempts);
    wire.set(Wire::Whole);
    let done = run.ends_as(State::Failed).await?;
    ensure!(done.attempts.len() == 1, "{:?}", done.attempts);

    let numbers = |last: u32| {
        (1..=last).fold(String::new(), |mut text, number| {
            let _infallible = writeln!(text, "{number}");
            text
        })
    };
    let log = run.whole_log().await?;
    log.expect_whole()?;
    ensure!(log.text().contains(&numbers(160_000)), "lines are missing");
    let artifacts = run.artifacts().await?;
    let paths: Vec<_> = artifacts.iter().map(|file| file.path.as_str()).collect();
    ensure!(paths == ["numbers", "report.xml"], "{paths:?}");
    ensure!(artifacts[0].sha256 == sha256(numbers(2_700_000).as_bytes()));
    wait::until("its report is read", async || {
        let request = ListTestCasesRequest {
            parent: run.name.clone(),
            ..ListTestCasesRequest::default()
        };
        let cases = scene.server.client.tests().list_test_cases(request).await?;
        let cases = cases.into_inner().test_cases;
        Ok((cases.len() == 2).then_some(()))
    })
    .await
}
