//! Files that go from pods to the object store around agent and server, and a way there that breaks. Runs where
//! `MUSTER_TEST_S3` is given too.

use anyhow::ensure;
use muster_tests::{
    cluster::Clusters,
    control_plane::Options,
    given::object_store_behind_a_wire,
    large_file::{self, SIZE, expect_whole},
    proxy::{Proxy, Wire},
};

use crate::ground::{Ground, expect_one_attempt};

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
    let files = large_file::manifest("  container: {image: 'alpine:3.22.0'}\n");
    let run = ground.start(&files).await?;
    expect_whole(&run).await?;
    expect_one_attempt(&run).await?;
    let carried = way.carried();
    ensure!(carried > SIZE, "only {carried} bytes came this way");

    way.set(Wire::Cut);
    let run = ground.start(&files).await?;
    expect_whole(&run).await?;
    expect_one_attempt(&run).await?;
    ensure!(way.carried() == carried, "nothing came this way");
    ground.agent.tests.expect_clean().await
}
