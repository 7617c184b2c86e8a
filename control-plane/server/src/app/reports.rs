//! Reports of test tools: read once they are here, in the background, and again after a crash.

mod pipe;
mod read;

use std::sync::Arc;

use futures::StreamExt as _;
use muster_core::id::ArtifactId;
use muster_storage::report::{self, Counts, Read, Report};

use super::{
    Access, App, Caller, Error,
    whole::{self, Check},
};
use pipe::Pipe;

/// Most reports that are read at once.
pub(crate) const MOST_READING: usize = 2;
/// Most tests of an execution and of all that it has started, over all of its reports.
pub(crate) const MOST_RESULTS: u64 = 1_000_000;
/// Longest report that is compared with what was collected, in bytes: none longer is read to its end.
const MOST_CHECKED: i64 = 64 << 20;
/// Pieces of a file that wait to be read.
const AHEAD: usize = 4;

impl App {
    /// The reports of an execution and of all that it has started.
    pub(crate) async fn list_reports(
        &self,
        caller: &Caller,
        [project, execution]: [&str; 2],
    ) -> Result<Vec<Report>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        Ok(self.store.reports(project.id).list(execution.id).await?)
    }

    /// Reads a report on a task of its own.
    pub(crate) fn read_report_later(self: &Arc<Self>, artifact: ArtifactId) {
        let app = Arc::clone(self);
        self.tasks.spawn(async move {
            let pending = app.store.queue().pending_report(artifact).await;
            let read = match pending {
                Ok(Some(report)) => app.read_report(&report).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = read {
                tracing::warn!(%artifact, %error, "a report is read later, by the sweep");
            }
        });
    }

    /// Reads a report and keeps its tests. May be done again.
    ///
    /// # Errors
    ///
    /// When the object store or the database fails. A report that can not be read is no error: that
    /// is kept with it.
    pub(crate) async fn read_report(&self, report: &Report) -> Result<(), Error> {
        let Ok(_turn) = self.link.reading.acquire().await else {
            return Ok(());
        };
        let artifacts = self.store.artifacts(report.project);
        let file = match artifacts.get(report.artifact).await {
            Ok(file) => file,
            // It was replaced, or deleted.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let queue = self.store.queue();
        let Some(format) = read::format(&report.format) else {
            let read = Read {
                broken: Some(format!(
                    "this server does not know reports of format {}",
                    report.format
                )),
                ..read::nothing()
            };
            return Ok(queue.keep_report(report.artifact, &[], &read).await?);
        };
        let mut bytes = match self.blobs.read(&file.blob, 0).await {
            Err(error) if error.is_not_found() => {
                // The bucket itself is there.
                self.blobs.check().await?;
                return self.keep_lost_report(report, whole::gone(&file)).await;
            }
            read => read?.fuse(),
        };
        let mut check = Check::new(&file, 0);
        let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
        let reading = tokio::task::spawn_blocking(move || read::read(format, Pipe::new(receiver)));
        while let Some(piece) = bytes.next().await {
            if let Ok(piece) = &piece {
                check.take(piece);
            }
            // A reader that has seen enough wants no more.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        let (cases, read) = reading
            .await
            .map_err(|error| Error::Internal(error.into()))??;
        // Of one that is too long for a report only its beginning was wanted.
        if file.size <= MOST_CHECKED {
            while let Some(piece) = bytes.next().await {
                check.take(&piece?);
            }
            if let Some(wrong) = check.finish(&file) {
                return self.keep_lost_report(report, wrong).await;
            }
        }
        match self.keep_report(report.artifact, cases, read).await {
            Err(error) if error.is_not_found() => {}
            kept => kept?,
        }
        self.execution_changed(report.execution);
        Ok(())
    }

    /// Keeps that a report is not what was collected, so that none of its tests are listed.
    async fn keep_lost_report(&self, report: &Report, wrong: String) -> Result<(), Error> {
        let artifact = report.artifact;
        tracing::error!(%artifact, wrong, "the object store has lost or changed a blob");
        let read = Read {
            broken: Some(wrong),
            ..read::nothing()
        };
        match self.store.queue().keep_report(artifact, &[], &read).await {
            // It was replaced, or deleted.
            Err(error) if error.is_not_found() => {}
            kept => kept?,
        }
        self.execution_changed(report.execution);
        Ok(())
    }

    /// Keeps what a report says, a part of its tests at a time, so that they are never held twice.
    async fn keep_report(
        &self,
        artifact: ArtifactId,
        mut cases: read::Cases,
        read: Read,
    ) -> Result<(), muster_storage::Error> {
        let queue = self.store.queue();
        let others = queue.count_other_results(artifact).await?;
        if others.saturating_add(cases.len() as u64) > MOST_RESULTS {
            return queue
                .end_report(artifact, &too_many(&cases, others, MOST_RESULTS, read), 0)
                .await;
        }
        let (mut first, mut quarantined) = (0, 0);
        loop {
            let part: Vec<_> = cases.by_ref().take(report::PART).collect();
            if part.is_empty() {
                return queue.end_report(artifact, &read, quarantined).await;
            }
            quarantined += queue.keep_cases(artifact, first, &part).await?;
            first += part.len();
        }
    }
}

/// What is kept of a report that has more tests than the execution may have yet: all but those.
fn too_many(cases: &read::Cases, others: u64, most: u64, read: Read) -> Read {
    let own = cases.len();
    Read {
        broken: Some(format!(
            "its {own} tests are not listed: of an execution and all that it has started at most {most} are, and \
             other reports have {others} already"
        )),
        counts: Counts::default(),
        ..read
    }
}
