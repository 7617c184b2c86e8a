//! Executions that are deleted by a server that is killed meanwhile: each is there whole or gone without a
//! rest.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_proto::v1::{DeleteExecutionRequest, execution::State};
use muster_tests::{agent::Agent, control_plane::ControlPlane, run::Run, wait};
use tonic::Code;

/// Prints a line and keeps a file.
const KEEPING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: keeping
spec:
  steps:
  - shell: echo printed; echo kept > /data/file
    artifacts:
      workingDir: /data
      paths: ["file"]
"#;
/// Milliseconds from the first deletions to the end of the server that does them.
const MOMENTS: [u64; 6] = [2, 5, 10, 20, 40, 80];
/// Executions that are deleted at once.
const AT_ONCE: usize = 12;

async fn delete(run: &Run, server: &ControlPlane) -> Result<(), tonic::Status> {
    let request = DeleteExecutionRequest {
        name: run.name.clone(),
        ..DeleteExecutionRequest::default()
    };
    let deleted = server.client.executions().delete_execution(request).await;
    deleted.map(drop)
}

/// Whether an execution is there, which must be whole then.
async fn is_there(run: &Run) -> anyhow::Result<bool> {
    match run.now().await {
        Ok(_) => {}
        Err(error) => {
            let status = error.downcast_ref::<tonic::Status>();
            ensure!(
                status.is_some_and(|status| status.code() == Code::NotFound),
                "{error:#}"
            );
            return Ok(false);
        }
    }
    let log = run.whole_log().await?;
    log.expect_whole()?;
    ensure!(log.text().contains("printed\n"), "{}", log.text());
    ensure!(run.artifact("file").await? == b"kept\n", "another file");
    Ok(true)
}

/// The files below a folder.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_was_deleting_is_whole_or_gone_without_a_rest() -> anyhow::Result<()> {
    let mut server = ControlPlane::start().await?;
    let _agent = Agent::with_slots_on_this_machine(&server, "here", 8).await?;
    let (mut left, mut cut_short) = (Vec::new(), 0);
    for moment in MOMENTS {
        while left.len() < AT_ONCE {
            left.push(server.client.start(KEEPING, None).await?);
        }
        for run in &left {
            run.ends_as(State::Passed).await?;
        }
        let mut deletions: FuturesUnordered<_> =
            left.iter().map(|run| delete(run, &server)).collect();
        let pause = tokio::time::sleep(Duration::from_millis(moment));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                done = deletions.next() => if done.is_none() { break },
            }
        }
        drop(deletions);
        server.kill()?;
        server.restart().await?;
        let mut there = Vec::new();
        for run in left {
            if is_there(&run).await? {
                there.push(run);
            }
        }
        cut_short += usize::from(!there.is_empty());
        left = there;
    }
    ensure!(cut_short > 0, "no kill came before all was deleted");
    for run in &left {
        delete(run, &server).await?;
    }
    let blobs = server.folder().join("server/blobs");
    wait::until("no object is left", async || {
        let left = files(&blobs)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(Some(()))
    })
    .await
}
