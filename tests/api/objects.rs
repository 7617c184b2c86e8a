//! An object store that goes away under a real server, with a real agent and the spools of its runs.
//! Runs where `MUSTER_TEST_S3` is given, as the suite of the storage; with
//! `MUSTER_TEST_REQUIRE_SERVERS=1` it fails where that is not set.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use muster_proto::v1::execution::State;
use muster_tests::{
    agent::Agent,
    control_plane::{ControlPlane, Options},
    given::object_store_behind_a_wire,
    proxy::Wire,
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

#[tokio::test(flavor = "multi_thread")]
async fn logs_wait_in_their_spools_while_the_object_store_is_away() -> anyhow::Result<()> {
    let Some((proxy, url)) = object_store_behind_a_wire().await? else {
        return Ok(());
    };
    let lease = ["--lease-duration", "6s", "--renew-interval", "2s"];
    let options = Options::of(&lease).with_blobs(&url);
    let server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), options).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(COUNTING, None).await?;
    run.prints("line 3\n").await?;
    proxy.set(Wire::Cut);
    let away = Instant::now();
    // All is over but the log, and no lease ends meanwhile.
    run.becomes(State::Finishing).await?;
    while away.elapsed() < Duration::from_secs(15) {
        let now = run.now().await?;
        ensure!(now.state() != State::Passed, "its log can not be whole");
        ensure!(now.attempts.len() == 1, "{:?}", now.attempts);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    proxy.set(Wire::Whole);
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
