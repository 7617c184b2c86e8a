//! A run that leaves a large file and a small one behind, and the proof that both came whole.

use anyhow::{Context as _, ensure};
use muster_proto::v1::execution::State;

use crate::run::Run;

/// Bytes of the large file.
pub const SIZE: u64 = 40 << 20;

/// A workflow that makes a large file of no pattern, whose hash it prints, and a small one of six bytes; `spec` is
/// what else its spec has, indented lines.
#[must_use]
pub fn manifest(spec: &str) -> String {
    format!(
        r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: files
spec:
{spec}  steps:
  - name: Make
    shell: |
      mkdir -p /data/out && cd /data/out
      head -c {SIZE} /dev/urandom > large && sha256sum < large
      echo small > small
    artifacts:
      workingDir: /data/out
      paths: ["*"]
"#
    )
}

/// Compares what came of a run of it with what the run has printed.
///
/// # Errors
///
/// When the run does not pass, a file is not whole, or a URL that opens the store stands in the log.
pub async fn expect_whole(run: &Run) -> anyhow::Result<()> {
    run.ends_as(State::Passed).await?;
    let artifacts = run.artifacts().await?;
    let large = artifacts.iter().find(|file| file.path == "large");
    let large = large.context("the large file")?;
    ensure!(artifacts.len() == 2, "{artifacts:?}");
    ensure!(u64::try_from(large.size_bytes)? == SIZE, "{large:?}");
    let log = run.printed().await?;
    ensure!(log.contains(&large.sha256), "{large:?}: {log}");
    ensure!(!log.contains("X-Amz"), "{log}");
    ensure!(run.artifact("small").await? == b"small\n");
    ensure!(run.artifact("large").await?.len() as u64 == SIZE);
    Ok(())
}
