//! Taking an artifact in: path rules, streaming to the blob store, size and SHA-256 compared,
//! then the row. Before the row there is no artifact; an upload that does not come to its end is
//! noted with its reason, and so is a file of which there is nothing to upload. What has come of a broken one is
//! kept for a while, see [`super::kept`].

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    execution::Lease,
    id::{AgentId, AttemptId},
};
use muster_proto::v1::{ArtifactFooter, ArtifactHeader, MissedFile};
use muster_report::{Format, HEAD};
use muster_storage::{
    artifact::{self, Artifact, NewArtifact, NewMissing},
    attempt::{Attempt, Status},
    blob::BlobInfo,
};
use tokio_util::sync::CancellationToken;

use super::kept::{Partial, Turn};
use crate::{
    app::{App, Error},
    media::Media,
};

/// Longest path, in bytes.
const MAX_PATH: usize = 1024;
/// Longest reason, in bytes.
const MAX_REASON: usize = 64;

/// An artifact that is on its way.
#[derive(Debug)]
pub(crate) struct Upload {
    agent: AgentId,
    lease: Lease,
    header: ArtifactHeader,
    partial: Partial,
    /// How many bytes it may have, and why not more.
    most: (u64, String),
    turn: Turn,
}

/// A file that there is not.
pub(super) struct Missed {
    pub(super) agent: AgentId,
    pub(super) lease: Lease,
    pub(super) path: String,
    pub(super) step: String,
}

/// A blob that is whole, and is to be an artifact.
pub(super) struct Whole {
    pub(super) agent: AgentId,
    pub(super) lease: Lease,
    pub(super) header: ArtifactHeader,
    pub(super) blob: BlobInfo,
    /// The first bytes of the file.
    pub(super) head: Vec<u8>,
}

impl App {
    /// Begins an artifact.
    pub(crate) async fn begin_artifact(
        &self,
        agent: AgentId,
        header: ArtifactHeader,
    ) -> Result<Upload, Error> {
        self.open_artifact(agent, header, false).await
    }

    /// Goes on with an artifact whose upload broke, or begins it.
    pub(crate) async fn resume_artifact(
        &self,
        agent: AgentId,
        header: ArtifactHeader,
    ) -> Result<Upload, Error> {
        self.open_artifact(agent, header, true).await
    }

    async fn open_artifact(
        &self,
        agent: AgentId,
        header: ArtifactHeader,
        resume: bool,
    ) -> Result<Upload, Error> {
        let (lease, stored) = self.uploading(agent, &header).await?;
        if stored.status != Status::Live {
            return Err(Error::LeaseLost { epoch: lease.epoch });
        }
        let most = self.room(&stored, &header.path).await?;
        let uploads = &self.link.uploads;
        let (turn, kept) = match resume {
            true => uploads.resume(lease, &header.path).await,
            false => (uploads.begin(lease, &header.path), None),
        };
        let partial = kept.unwrap_or_else(|| {
            let key = self.blobs.key(&format!("artifacts/{}", stored.execution));
            Partial {
                writer: self.blobs.writer(&key),
                key,
                head: Vec::new(),
            }
        });
        Ok(Upload {
            agent,
            lease,
            header,
            partial,
            most,
            turn,
        })
    }

    /// The attempt that a file is of.
    pub(super) async fn uploading(
        &self,
        agent: AgentId,
        header: &ArtifactHeader,
    ) -> Result<(Lease, Attempt), Error> {
        check_path("header.path", &header.path)?;
        let attempt: AttemptId = header
            .attempt
            .parse()
            .map_err(|error| Error::invalid("header.attempt", format!("{error}")))?;
        let lease = Lease {
            attempt,
            epoch: header.epoch,
        };
        let stored = self.store.agent(agent).attempt(attempt).await?;
        if stored.epoch != lease.epoch {
            return Err(Error::LeaseLost { epoch: lease.epoch });
        }
        Ok((lease, stored))
    }

    /// How many bytes a file may have that comes now, and why not more.
    pub(super) async fn room(&self, attempt: &Attempt, path: &str) -> Result<(u64, String), Error> {
        let executions = self.store.executions(attempt.project);
        let execution = executions.get(attempt.execution).await?;
        let unsigned = |size| u64::try_from(size).unwrap_or(0);
        let (single, all) = (
            self.config.max_artifact_size,
            self.config.max_artifacts_size,
        );
        let mut left = all.saturating_sub(unsigned(execution.artifact_bytes));
        let is_full =
            execution.artifact_count >= artifact::LIMIT && !path.starts_with(artifact::ARCHIVES);
        if is_full || left < single {
            // One that is there may come again, and take its own place: nobody may have heard that it is.
            let artifacts = self.store.artifacts(attempt.project);
            let before = artifacts.find(attempt.execution, path).await.ok();
            match before.filter(|before| before.attempt == attempt.id) {
                Some(before) => left = left.saturating_add(unsigned(before.size)),
                None if is_full => return Err(Error::LimitReached(artifact::too_many())),
                None => {}
            }
        }
        if left < single {
            let limit = i64::try_from(all).unwrap_or(i64::MAX);
            return Ok((left, artifact::too_long(limit)));
        }
        let words = format!(
            "it has more than {single} bytes, which is the limit (--max-artifact-size of the server)"
        );
        Ok((single, words))
    }

    /// Ends an artifact: from here on it is listed.
    pub(crate) async fn end_artifact(
        self: &Arc<Self>,
        upload: Upload,
        footer: &ArtifactFooter,
    ) -> Result<Artifact, Error> {
        let missed = upload.missed();
        let Upload {
            agent,
            lease,
            header,
            partial,
            most: _,
            turn: _turn,
        } = upload;
        let blob = match partial.writer.finish().await {
            Ok(blob) => blob,
            Err(error) => {
                self.miss(missed, "STORAGE", "it could not be stored").await;
                return Err(error.into());
            }
        };
        let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
        if size != footer.size_bytes || blob.sha256 != footer.sha256 {
            self.discard(&partial.key).await;
            let words = format!(
                "{} bytes with SHA-256 {} arrived, {} with {} were told: send it again",
                size, blob.sha256, footer.size_bytes, footer.sha256
            );
            self.miss(missed, "MISMATCH", &words).await;
            return Err(Error::invalid("footer", words));
        }
        let whole = Whole {
            agent,
            lease,
            header,
            blob,
            head: partial.head,
        };
        self.list_artifact(whole, None).await
    }

    /// Lists an artifact whose blob is whole; one that the attempt has put itself when it is not to be
    /// deleted before `after`.
    pub(super) async fn list_artifact(
        self: &Arc<Self>,
        whole: Whole,
        after: Option<Timestamp>,
    ) -> Result<Artifact, Error> {
        let limit = i64::try_from(self.config.max_artifacts_size).unwrap_or(i64::MAX);
        let media = Media::of(&whole.header.path, &whole.head);
        let new = NewArtifact {
            content_type: media.content_type.to_owned(),
            preview: media.preview,
            path: whole.header.path,
            size: i64::try_from(whole.blob.size).unwrap_or(i64::MAX),
            sha256: whole.blob.sha256,
            mode: whole.header.mode,
            step: whole.header.step,
            blob: whole.blob.key,
            report: media.report.map(Format::as_str),
        };
        let (work, lease) = (self.store.agent(whole.agent), whole.lease);
        let added = match after {
            Some(after) => work.add_direct_artifact(lease, &new, limit, after).await,
            None => work.add_artifact(lease, &new, limit).await,
        };
        let added = match added {
            Ok(added) => added,
            Err(error) => {
                // With an unknown commit the row may name the blob: the sweep decides then. One that was
                // given out is doomed already.
                let unknown = matches!(error, muster_storage::Error::CommitUnknown { .. });
                if !unknown && after.is_none() {
                    self.discard(&new.blob).await;
                }
                return Err(error.into());
            }
        };
        if let Some(unused) = &added.discard {
            self.discard(unused).await;
        }
        let way = after.map_or("agent", |_| "direct");
        metrics::counter!(crate::metrics::ARTIFACT_BYTES, "way" => way).increment(whole.blob.size);
        self.execution_changed(added.artifact.execution);
        if new.report.is_some() {
            self.read_report_later(added.artifact.id);
        }
        Ok(added.artifact)
    }

    /// Keeps an upload that broke for who goes on with it, where there is enough of it; takes note of why
    /// there is no such file now.
    pub(crate) async fn interrupt(&self, mut upload: Upload, message: &str) {
        let settled = upload.partial.writer.settle().await;
        let size = upload.partial.writer.size();
        if settled.is_err() || size == 0 || self.link.drain.is_cancelled() {
            return self.give_up(upload, "INTERRUPTED", message).await;
        }
        // Before anybody can go on and end it.
        self.miss(upload.missed(), "INTERRUPTED", message).await;
        let Upload { partial, turn, .. } = upload;
        let (time, stop) = (self.config.keep_uploads, self.link.drain.clone());
        self.tasks.spawn(turn.keep(partial, time, stop));
    }

    /// Gives an upload up, and takes note of why there is no such file.
    pub(crate) async fn give_up(&self, upload: Upload, reason: &'static str, message: &str) {
        let missed = upload.missed();
        if let Err(error) = upload.partial.writer.abort().await {
            tracing::warn!(%error, "an unfinished upload stays until the sweep");
        }
        self.miss(missed, reason, message).await;
    }

    pub(super) async fn miss(&self, missed: Missed, reason: &'static str, message: &str) {
        let Missed {
            agent,
            lease,
            path,
            step,
        } = missed;
        // Those that executions put aside for each other are no results.
        if path.starts_with(artifact::ARCHIVES) {
            return;
        }
        let new = [NewMissing {
            path,
            step,
            reason: reason.to_owned(),
            message: message.to_owned(),
        }];
        if let Err(error) = self.store.agent(agent).miss_artifacts(lease, &new).await {
            let [new] = &new;
            tracing::warn!(attempt = %lease.attempt, path = new.path, %error, "a missing artifact could not be noted");
        }
    }

    /// Takes note of files of which there is nothing to upload.
    pub(crate) async fn miss_artifacts(
        &self,
        agent: AgentId,
        lease: Lease,
        step: &str,
        files: Vec<MissedFile>,
    ) -> Result<(), Error> {
        if files.len() as u64 > artifact::MOST_MISSING {
            let words = format!("at most {} are listed", artifact::MOST_MISSING);
            return Err(Error::invalid("files", words));
        }
        let mut new = Vec::with_capacity(files.len());
        for (index, file) in files.into_iter().enumerate() {
            check_path(&format!("files[{index}].path"), &file.path)?;
            check_reason(&format!("files[{index}].reason"), &file.reason)?;
            new.push(NewMissing {
                path: file.path,
                step: step.to_owned(),
                reason: file.reason,
                message: file.message,
            });
        }
        Ok(self.store.agent(agent).miss_artifacts(lease, &new).await?)
    }

    async fn discard(&self, key: &str) {
        if let Err(error) = self.blobs.delete(key).await {
            tracing::warn!(key, %error, "an unused blob stays until the sweep");
        }
    }
}

impl Upload {
    /// Why so many bytes more are too many, if they are.
    pub(crate) fn is_too_long(&self, more: usize) -> Option<&str> {
        let (most, words) = &self.most;
        let size = self.partial.writer.size().saturating_add(more as u64);
        (size > *most).then_some(words)
    }

    /// What has come before: how many bytes, and their SHA-256.
    pub(crate) fn kept(&self) -> (u64, String) {
        (self.partial.writer.size(), self.partial.writer.sha256())
    }

    /// Told when somebody else wants to go on with it.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.turn.stop()
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        let wanted = HEAD.saturating_sub(self.partial.head.len());
        self.partial.head.extend(data.iter().take(wanted));
        Ok(self.partial.writer.write(data).await?)
    }

    /// What is known of it when there is no such file.
    fn missed(&self) -> Missed {
        Missed {
            agent: self.agent,
            lease: self.lease,
            path: self.header.path.clone(),
            step: self.header.step.clone(),
        }
    }
}

/// A path is relative and normalised, and nothing in it can surprise whoever writes it to disk.
pub(crate) fn check_path(field: &str, path: &str) -> Result<(), Error> {
    let refused = |reason: &str| {
        let shown: String = path.chars().take(200).collect();
        Err(Error::invalid(
            field,
            format!("'{}': {reason}", shown.escape_debug()),
        ))
    };
    if path.is_empty() || path.len() > MAX_PATH {
        return refused("must have 1 to 1024 bytes");
    }
    if path.starts_with('/') {
        return refused("must be relative");
    }
    if path.chars().any(char::is_control) {
        return refused("must not have control characters");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused("must not have empty parts, '.' or '..'");
    }
    Ok(())
}

/// A reason is a word for programs.
fn check_reason(field: &str, reason: &str) -> Result<(), Error> {
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match reason.len() {
        1..=MAX_REASON if reason.bytes().all(is_word) => Ok(()),
        _ => Err(Error::invalid(
            field,
            "must have 1 to 64 of A-Z, 0-9 and _, such as UNREADABLE",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_for_programs() {
        for bad in ["", "unreadable", "TOO LARGE", &"A".repeat(65)] {
            assert!(check_reason("reason", bad).is_err(), "{bad:?}");
        }
        assert!(check_reason("reason", "TOO_DEEP").is_ok());
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        for bad in [
            "", "/a", "a/../b", "..", "a//b", "a/", "./a", "a\nb", "a\0b",
        ] {
            assert!(check_path("path", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b.xml", "..a/b", "ä/ö"] {
            assert!(check_path("path", good).is_ok(), "{good}");
        }
    }
}
