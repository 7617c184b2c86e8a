//! The log of an execution, read and checked as any client can.

use anyhow::{Context as _, ensure};
use muster_proto::v1::{LogChunk, LogEnd, ReadLogRequest, read_log_response::Item};

use crate::{digest::sha256, run::Client};

/// A log that was read to its end.
#[derive(Debug)]
pub struct Log {
    /// Every chunk, in order.
    pub chunks: Vec<LogChunk>,
    /// All bytes.
    pub bytes: Vec<u8>,
    /// The server's last word.
    pub end: LogEnd,
}

impl Log {
    /// Reads the whole log, waiting for its end.
    ///
    /// # Errors
    ///
    /// When there is a gap, an overlap, or no end.
    pub async fn read(client: &Client, execution: &str) -> anyhow::Result<Self> {
        Self::of_attempt(client, execution, 0).await
    }

    /// Reads the whole log of one attempt, by its epoch; 0 for the newest one.
    ///
    /// # Errors
    ///
    /// When there is a gap, an overlap, or no end.
    pub async fn of_attempt(client: &Client, execution: &str, epoch: i64) -> anyhow::Result<Self> {
        let request = ReadLogRequest {
            name: execution.to_owned(),
            follow: true,
            attempt: epoch,
            ..ReadLogRequest::default()
        };
        let mut stream = client.logs().read_log(request).await?.into_inner();
        let (mut chunks, mut bytes, mut end) = (Vec::new(), Vec::new(), None);
        while let Some(response) = stream.message().await? {
            ensure!(end.is_none(), "something follows the end of the log");
            match response.item.context("an empty message")? {
                Item::Chunk(chunk) => {
                    let position = i64::try_from(bytes.len())?;
                    ensure!(
                        chunk.offset == position,
                        "{} is not {position}",
                        chunk.offset
                    );
                    bytes.extend_from_slice(&chunk.data);
                    chunks.push(chunk);
                }
                Item::Gap(gap) => anyhow::bail!("the log has a gap: {gap:?}"),
                Item::Match(_) | Item::Skip(_) => anyhow::bail!("nobody has asked for that"),
                Item::End(last) => end = Some(last),
            }
        }
        let end = end.context("the log has no end")?;
        Ok(Self { chunks, bytes, end })
    }

    /// Proves that it is whole: length and SHA-256 are those that the conductor computed.
    ///
    /// # Errors
    ///
    /// When they are not.
    pub fn expect_whole(&self) -> anyhow::Result<()> {
        ensure!(self.end.complete, "not complete: {:?}", self.end);
        ensure!(usize::try_from(self.end.size_bytes)? == self.bytes.len());
        let digest = sha256(&self.bytes);
        ensure!(
            digest == self.end.sha256,
            "{digest} is not {}",
            self.end.sha256
        );
        Ok(())
    }

    /// All of it as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// What the processes of one step printed, without the conductor's remarks.
    #[must_use]
    pub fn of_step(&self, reference: &str) -> String {
        let remarks = muster_proto::v1::log_chunk::Stream::System;
        let bytes: Vec<u8> = self
            .chunks
            .iter()
            .filter(|chunk| chunk.step == reference && chunk.stream() != remarks)
            .flat_map(|chunk| chunk.data.iter().copied())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
