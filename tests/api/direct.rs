//! Large files that go from a run to the object store, around agent and server. Runs where
//! `MUSTER_TEST_S3` is given, as `objects`.

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use muster_storage::Store;
use muster_tests::{
    agent::Agent,
    control_plane::{ControlPlane, Options},
    given::object_store_behind_a_wire,
    large_file::{SIZE, expect_whole, manifest},
    proxy::{Proxy, Wire},
    wait,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes of artifacts that came by an agent and directly, as the server counts them.
async fn ways(server: &ControlPlane) -> anyhow::Result<[u64; 2]> {
    let token = std::fs::read_to_string(server.folder().join("server/admin-token"))?;
    let address = server.url.strip_prefix("http://").context("plain text")?;
    let mut stream = TcpStream::connect(address).await?;
    let token = token.trim();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(["agent", "direct"].map(|way| {
        let start = format!("muster_artifact_bytes_total{{way=\"{way}\"}} ");
        let line = answer.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_around_agent_and_server() -> anyhow::Result<()> {
    let Some((_proxy, url)) = object_store_behind_a_wire().await? else {
        return Ok(());
    };
    let options = Options::of(&["--direct-uploads"]).with_blobs(&url);
    let server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), options).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(&manifest(""), None).await?;
    expect_whole(&run).await?;
    let ways = ways(&server).await?;
    ensure!(ways == [6, SIZE], "{ways:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_does_not_reach_the_store_sends_its_files_by_the_agent() -> anyhow::Result<()> {
    let Some((_proxy, url)) = object_store_behind_a_wire().await? else {
        return Ok(());
    };
    // Nobody listens there any more.
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", nobody.local_addr()?);
    drop(nobody);
    let direct = ["--direct-uploads", "--direct-uploads-endpoint", &endpoint];
    let options = Options::of(&direct).with_blobs(&url);
    let server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), options).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(&manifest(""), None).await?;
    expect_whole(&run).await?;
    let ways = ways(&server).await?;
    ensure!(ways == [SIZE + 6, 0], "{ways:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_after_it_gave_a_url_out_lists_nothing_that_is_not_there()
-> anyhow::Result<()> {
    let Some((proxy, url)) = object_store_behind_a_wire().await? else {
        return Ok(());
    };
    // Pods have a wire of their own, and nothing comes through.
    let way = Proxy::before(proxy.address).await?;
    way.set(Wire::Silent);
    let endpoint = format!("http://{}", way.address);
    let direct = ["--direct-uploads", "--direct-uploads-endpoint", &endpoint];
    let options = Options::of(&direct).with_blobs(&url);
    let mut server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), options).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(&manifest(""), None).await?;
    let database = server.folder().join("server/muster.db");
    let database = format!("sqlite://{}", database.display());
    let store = Store::connect(&database, &muster_storage::Options::default()).await?;
    wait::until("a key is given out", async || {
        let doomed = store.keeper().count_doomed_blobs().await?;
        Ok((doomed == 1).then_some(()))
    })
    .await?;
    server.kill()?;
    server.restart().await?;
    let artifacts = run.artifacts().await?;
    ensure!(
        artifacts.iter().all(|file| file.path != "large"),
        "{artifacts:?}"
    );
    // The run goes on where it was, and the same key becomes the artifact.
    way.set(Wire::Whole);
    expect_whole(&run).await?;
    let ways = ways(&server).await?;
    ensure!(ways[1] == SIZE, "{ways:?}");
    let doomed = store.keeper().count_doomed_blobs().await?;
    ensure!(doomed == 0, "{doomed}");
    store.close().await;
    Ok(())
}
