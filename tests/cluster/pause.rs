//! Pauses of real pods.

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{run::step, site::Site};

const TICKING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: ticking
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: tick
    timeout: 1m
    shell: |
      (while [ ! -e /data/stop ]; do echo child; sleep 0.1; done) &
      i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo "tick $i"; sleep 0.1; done
      touch /data/stop; wait
  - name: gate
    paused: true
    shell: echo gone on
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pod_stands_still_and_goes_on() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site.start(TICKING).await?;
    run.prints("tick 3\n").await?;
    run.pause().await?;
    run.becomes(State::Paused).await?;
    let mut lengths = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        lengths.push(run.printed().await?.len());
    }
    ensure!(lengths[1] == lengths[2], "it still prints: {lengths:?}");
    run.resume().await?;
    run.prints("muster resume ticking-1").await?;
    run.becomes(State::Paused).await?;
    ensure!(step(&run.now().await?, "gate")?.state() == Step::Paused);
    run.resume().await?;
    let execution = run.ends_as(State::Passed).await?;
    let tick = step(&execution, "tick")?;
    ensure!(
        tick.paused_duration
            .is_some_and(|paused| paused.seconds >= 4)
    );
    ensure!(run.whole_log().await?.text().contains("tick 60\n"));
    site.namespace.expect_clean().await
}
