//! Artifacts, as people see them.

use muster_core::id::ArtifactId;
use muster_storage::{
    Page,
    artifact::{Artifact, Below, Cursor, Folder, Missing},
    execution::Execution,
    project::Project,
};

use super::{
    Access, App, Caller, Error,
    audit::Reading,
    whole::{self, WholeStream},
};

/// Refuses to read artifacts that were deleted.
pub(super) fn refuse_deleted(execution: &Execution) -> Result<(), Error> {
    execution.artifacts_delete_time.map_or(Ok(()), |at| {
        Err(Error::Deleted(format!(
            "the artifacts of {} were deleted by retention at {at:.0}; `muster projects set \
             --keep-artifacts` says how long artifacts are kept",
            execution.display_name
        )))
    })
}

impl App {
    /// A page of artifacts, and with the last one what is missing there.
    pub(crate) async fn list_artifacts(
        &self,
        caller: &Caller,
        [project, execution]: [&str; 2],
        below: &Below,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<(Page<Artifact, Cursor>, Vec<Missing>), Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        let artifacts = self.store.artifacts(project.id);
        let page = artifacts.list(execution.id, below, after, limit).await?;
        let missing = match page.next {
            Some(_) => Vec::new(),
            None => artifacts.missing(execution.id).await?,
        };
        let missing = missing.into_iter();
        let missing = missing.filter(|file| below.has(&file.path)).collect();
        Ok((page, missing))
    }

    /// A page of the folders in a folder, by path.
    pub(crate) async fn list_artifact_folders(
        &self,
        caller: &Caller,
        [project, execution]: [&str; 2],
        folder: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Folder, String>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        let artifacts = self.store.artifacts(project.id);
        Ok(artifacts
            .folders(execution.id, folder, after, limit)
            .await?)
    }

    pub(crate) async fn get_artifact(
        &self,
        caller: &Caller,
        parent: [&str; 2],
        artifact: ArtifactId,
    ) -> Result<Artifact, Error> {
        let (_, _, found) = self.find_artifact(caller, parent, artifact).await?;
        Ok(found)
    }

    /// An artifact, with whose it is.
    async fn find_artifact(
        &self,
        caller: &Caller,
        [project, execution]: [&str; 2],
        artifact: ArtifactId,
    ) -> Result<(Project, Execution, Artifact), Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let execution = self.store.executions(project.id).find(execution).await?;
        let found = match self.store.artifacts(project.id).get(artifact).await {
            Err(error) if error.is_not_found() => {
                refuse_deleted(&execution)?;
                return Err(error.into());
            }
            found => found?,
        };
        if found.execution != execution.id {
            return Err(Error::NotFound(format!(
                "artifact '{artifact}' was not found in execution '{}'",
                execution.display_name
            )));
        }
        Ok((project, execution, found))
    }

    /// The bytes of an artifact from an offset on. What comes last is an error when they are not what was
    /// collected, as far as that can be seen: of a part only the length.
    pub(crate) async fn download_artifact(
        &self,
        caller: &Caller,
        parent: [&str; 2],
        artifact: ArtifactId,
        offset: u64,
    ) -> Result<WholeStream, Error> {
        let (project, execution, found) = self.find_artifact(caller, parent, artifact).await?;
        let file = Some(found.path.as_str());
        self.note_reading(caller, &project, &execution, Reading::Artifact, file);
        match self.blobs.read(&found.blob, offset).await {
            Ok(bytes) => Ok(whole::whole(bytes, found, offset)),
            Err(error) if error.is_not_found() => {
                // Deleted meanwhile, or replaced, or lost.
                let now = self.get_artifact(caller, parent, artifact).await?;
                Err(Error::DataLoss(whole::gone(&now)))
            }
            Err(error) => Err(error.into()),
        }
    }
}
