//! `muster.v1.ArtifactService`.

use muster_core::id::ArtifactId;
use muster_proto::v1::{
    ArchiveArtifactsRequest, ArchiveArtifactsResponse, DownloadArtifactRequest,
    DownloadArtifactResponse, GetArtifactRequest, GetArtifactResponse, ListArtifactFoldersRequest,
    ListArtifactFoldersResponse, ListArtifactsRequest, ListArtifactsResponse,
    archive_artifacts_request::Format, artifact_service_server::ArtifactService,
};
use muster_spec::pattern::Selection;
use muster_storage::artifact::{Below, Cursor};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Answers, Api, convert, name, page};
use crate::{
    app::{Error, Form},
    link::upload::check_path,
};

const FORM: &str = "projects/{project}/executions/{execution}/artifacts/{artifact}";
/// Most patterns of one request.
const MAX_PATTERNS: usize = 100;
/// Longest pattern, in bytes: that of a path.
const MAX_PATTERN: usize = 1024;

#[tonic::async_trait]
impl ArtifactService for Api {
    async fn list_artifacts(
        &self,
        request: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parent = name::execution("parent", &message.parent)?;
        let below = Below {
            folder: read_folder(&message.folder)?.to_owned(),
            direct: message.direct,
        };
        let list = page::List::new(&[
            "ListArtifacts",
            parent[0],
            parent[1],
            &below.folder,
            if below.direct { "direct" } else { "" },
        ]);
        let after: Option<(String, ArtifactId)> = list.after(&message.page_token)?;
        let after = after.map(|(path, id)| Cursor { path, id });
        let limit = page::size(message.page_size)?;
        let (page, missing) = self
            .app
            .list_artifacts(&caller, parent, &below, after.as_ref(), limit)
            .await?;
        Ok(Response::new(ListArtifactsResponse {
            next_page_token: list.token(page.next.map(|next| (next.path, next.id))),
            artifacts: page
                .items
                .into_iter()
                .map(|record| convert::artifact(parent[0], record))
                .collect(),
            missing: missing.into_iter().map(convert::missing_artifact).collect(),
        }))
    }

    async fn list_artifact_folders(
        &self,
        request: Request<ListArtifactFoldersRequest>,
    ) -> Result<Response<ListArtifactFoldersResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parent = name::execution("parent", &message.parent)?;
        let folder = read_folder(&message.folder)?;
        let list = page::List::new(&["ListArtifactFolders", parent[0], parent[1], folder]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_artifact_folders(&caller, parent, folder, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListArtifactFoldersResponse {
            folders: page
                .items
                .into_iter()
                .map(convert::artifact_folder)
                .collect(),
            next_page_token: list.token(page.next),
        }))
    }

    async fn get_artifact(
        &self,
        request: Request<GetArtifactRequest>,
    ) -> Result<Response<GetArtifactResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let (parent, id) = read_name(&message.name)?;
        let found = self.app.get_artifact(&caller, parent, id).await?;
        Ok(Response::new(GetArtifactResponse {
            artifact: Some(convert::artifact(parent[0], found)),
        }))
    }

    type DownloadArtifactStream = Answers<DownloadArtifactResponse>;

    async fn download_artifact(
        &self,
        request: Request<DownloadArtifactRequest>,
    ) -> Result<Response<Self::DownloadArtifactStream>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let (parent, id) = read_name(&message.name)?;
        let offset = u64::try_from(message.offset)
            .map_err(|_refused| Error::invalid("offset", "must not be negative"))?;
        let pieces = self
            .app
            .download_artifact(&caller, parent, id, offset)
            .await?;
        let answers = pieces.map(|piece| match piece {
            Ok(data) => Ok(DownloadArtifactResponse { data }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type ArchiveArtifactsStream = Answers<ArchiveArtifactsResponse>;

    async fn archive_artifacts(
        &self,
        request: Request<ArchiveArtifactsRequest>,
    ) -> Result<Response<Self::ArchiveArtifactsStream>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parent = name::execution("parent", &message.parent)?;
        let chosen = read_patterns(&message.patterns)?;
        let form = read_format(&message)?;
        let pieces = self
            .app
            .archive_artifacts(&caller, parent, chosen, form)
            .await?;
        let answers = ReceiverStream::new(pieces).map(|piece| match piece {
            Ok(data) => Ok(ArchiveArtifactsResponse { data }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// A folder, with or without a slash at its end; empty for all.
fn read_folder(given: &str) -> Result<&str, Error> {
    if given.is_empty() {
        return Ok(given);
    }
    let folder = given.strip_suffix('/').unwrap_or(given);
    check_path("folder", folder)?;
    Ok(folder)
}

fn read_patterns(patterns: &[String]) -> Result<Selection, Error> {
    if patterns.len() > MAX_PATTERNS {
        return Err(Error::invalid(
            "patterns",
            format!(
                "there are {}, at most {MAX_PATTERNS} are allowed: use wildcards such as 'reports/**'",
                patterns.len()
            ),
        ));
    }
    if let Some(index) = patterns.iter().position(|text| text.len() > MAX_PATTERN) {
        return Err(Error::invalid(
            format!("patterns[{index}]"),
            format!("longer than {MAX_PATTERN} bytes, which no path is: shorten it"),
        ));
    }
    Selection::parse(patterns).map_err(|error| Error::invalid("patterns", error.to_string()))
}

fn read_format(message: &ArchiveArtifactsRequest) -> Result<Form, Error> {
    match Format::try_from(message.format) {
        Ok(Format::Tar) => Ok(Form::Tar),
        Ok(Format::TarGz | Format::Unspecified) => Ok(Form::TarGz),
        Ok(Format::Zip) => Ok(Form::Zip),
        Err(_unknown) => Err(Error::invalid(
            "format",
            "is none that this server knows; there are TAR, TAR_GZ and ZIP",
        )),
    }
}

/// Project and execution, and the artifact.
fn read_name(given: &str) -> Result<([&str; 2], ArtifactId), Error> {
    let [project, execution, artifact] = name::parts("name", given, FORM)?;
    let artifact = artifact
        .parse()
        .map_err(|error| Error::invalid("name", format!("{error}")))?;
    Ok(([project, execution], artifact))
}
