//! Files that go from pods to the object store around agent and server, and a way there that breaks. Runs where
//! `MUSTER_TEST_S3` is given too.

use anyhow::{Context as _, ensure};
use muster_proto::v1::execution::State;
use muster_tests::{
    cluster::Clusters,
    control_plane::Options,
    given::object_store_behind_a_wire,
    proxy::{Proxy, Wire},
    run::Run,
};

use crate::ground::{Ground, expect_one_attempt};

/// A large file of no pattern, whose hash it prints, and a small one.
const FILES: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: files
spec:
  container: {image: 'alpine:3.22.0'}
  steps:
  - name: Make
    shell: |
      mkdir -p /data/out && cd /data/out
      head -c 41943040 /dev/urandom > large && sha256sum < large
      echo small > small
    artifacts:
      workingDir: /data/out
      paths: ["*"]
"#;
const LARGE: u64 = 40 << 20;

async fn expect_whole(run: &Run) -> anyhow::Result<()> {
    run.ends_as(State::Passed).await?;
    expect_one_attempt(run).await?;
    let artifacts = run.artifacts().await?;
    let large = artifacts.iter().find(|file| file.path == "large");
    let large = large.context("the large file")?;
    ensure!(artifacts.len() == 2, "{artifacts:?}");
    ensure!(u64::try_from(large.size_bytes)? == LARGE, "{large:?}");
    let log = run.printed().await?;
    ensure!(log.contains(&large.sha256), "{large:?}: {log}");
    ensure!(!log.contains("X-Amz"), "{log}");
    ensure!(run.artifact("small").await? == b"small\n");
    ensure!(run.artifact("large").await?.len() as u64 == LARGE);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_of_a_pod_goes_around_agent_and_server_while_there_is_a_way()
-> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let Some((store, url)) = object_store_behind_a_wire().await? else {
        return Ok(());
    };
    // Pods reach the store by a way of their own.
    let way = Proxy::before_at(clusters.host, store.address).await?;
    let endpoint = format!("http://{}", way.address);
    let direct = ["--direct-uploads", "--direct-uploads-endpoint", &endpoint];
    let Some(ground) = Ground::open_with(Options::of(&direct).with_blobs(&url)).await? else {
        return Ok(());
    };
    let run = ground.start(FILES).await?;
    expect_whole(&run).await?;
    let carried = way.carried();
    ensure!(carried > LARGE, "only {carried} bytes came this way");

    way.set(Wire::Cut);
    let run = ground.start(FILES).await?;
    expect_whole(&run).await?;
    ensure!(way.carried() == carried, "nothing came this way");
    ground.agent.tests.expect_clean().await
}
