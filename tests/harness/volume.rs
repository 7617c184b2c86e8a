//! Steps that print much: what they run, what their output must be, and whether the stored log is
//! that, without holding it in memory.

use anyhow::{Context as _, ensure};
use muster_proto::v1::{ReadLogRequest, log_chunk::Stream, read_log_response::Item};
use sha2::{Digest as _, Sha256};

use crate::run::{Run, step};

/// Lines of a block, 1.03 MB.
const LINES: u32 = 163_000;

/// Output in numbered blocks of about a megabyte.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// How many.
    pub blocks: u32,
    /// Seconds between them.
    pub pause: u32,
}

impl Volume {
    /// A workflow with one step, `print`, that prints it; `spec` is added to its spec, a YAML mapping
    /// that is indented by two spaces.
    #[must_use]
    pub fn manifest(&self, spec: &str) -> String {
        let pause = match self.pause {
            0 => String::new(),
            seconds => format!("; sleep {seconds}"),
        };
        let blocks = self.blocks;
        format!(
            "apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: volume
spec:
{spec}  steps:
  - name: print
    shell: |
      seq 1 {LINES} > /data/block
      i=0
      while [ $i -lt {blocks} ]; do echo \"block $i\"; cat /data/block{pause}; i=$((i+1)); done
"
        )
    }

    /// Size and SHA-256 of what the step prints.
    #[must_use]
    pub fn digest(&self) -> (u64, Vec<u8>) {
        let mut block = String::new();
        for line in 1..=LINES {
            block.push_str(&format!("{line}\n"));
        }
        let (mut size, mut digest) = (0, Sha256::new());
        for number in 0..self.blocks {
            let head = format!("block {number}\n");
            digest.update(&head);
            digest.update(&block);
            size += (head.len() + block.len()) as u64;
        }
        (size, digest.finalize().to_vec())
    }

    /// Proves that the log of an execution is whole and that the step printed exactly this.
    ///
    /// # Errors
    ///
    /// What is wrong with the log.
    pub async fn expect(&self, run: &Run) -> anyhow::Result<()> {
        let execution = run.now().await?;
        let log = execution.log.clone().context("it has a log")?;
        ensure!(log.complete, "the log is not complete: {log:?}");
        let request = ReadLogRequest {
            name: run.name.clone(),
            follow: true,
            step: step(&execution, "print")?.reference.clone(),
            streams: vec![Stream::Stdout.into()],
            ..ReadLogRequest::default()
        };
        let mut stream = run.client.logs().read_log(request).await?.into_inner();
        let (mut size, mut digest) = (0, Sha256::new());
        while let Some(answer) = stream.message().await? {
            match answer.item.context("an empty message")? {
                Item::Chunk(chunk) => {
                    digest.update(&chunk.data);
                    size += chunk.data.len() as u64;
                }
                Item::End(end) => ensure!(end.complete, "{end:?}"),
                other => anyhow::bail!("not a whole log: {other:?}"),
            }
        }
        let (expected, sha256) = self.digest();
        ensure!(size == expected, "{size} bytes of {expected}");
        ensure!(digest.finalize().to_vec() == sha256, "another SHA-256");
        Ok(())
    }
}
