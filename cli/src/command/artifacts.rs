//! `muster artifacts`: lists what an execution left behind. Downloads are in [`download`], archives in
//! [`archive`].

mod archive;
pub(crate) mod download;
mod part;

use std::path::{Path, PathBuf};

use clap::Args;
use muster_proto::v1::{
    Artifact, ArtifactFolder, ListArtifactFoldersRequest, ListArtifactsRequest, MissingArtifact,
};
use muster_spec::pattern::Selection;
use serde::Serialize;

use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{escape, measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster artifacts smoke-3
  muster artifacts smoke-3 --folder reports               what is in one folder; / for the outermost
  muster artifacts smoke-3 --download out
  muster artifacts smoke-3 --download out --path 'reports/**/*.xml' --path '!**/tmp/**'
  muster artifacts smoke-3 reports/junit.xml              to standard output
  muster artifacts smoke-3 video.mp4 --to last.mp4
  muster artifacts smoke-3 --archive smoke-3.zip
  muster artifacts smoke-3 --archive - | tar x            as they come, without a file between";

/// List or download artifacts of an execution
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Only this file, to standard output or --to
    #[arg(value_name = "PATH", conflicts_with_all = ["download", "archive", "patterns"])]
    path: Option<String>,
    /// Write the one file here; - for standard output, also when that is a terminal
    #[arg(long, value_name = "FILE", requires = "path")]
    to: Option<PathBuf>,
    /// Show this folder alone, with the folders in it and how much each holds; / for the outermost
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["path", "patterns", "download", "archive"]
    )]
    folder: Option<String>,
    /// Download into this folder; each file's SHA-256 is checked
    #[arg(long, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Download as one archive, .tar, .tar.gz or .zip; - for standard output
    #[arg(long, value_name = "FILE", conflicts_with = "download")]
    archive: Option<PathBuf>,
    /// Form of the archive when its name does not tell: tar, tar.gz or zip
    #[arg(
        long,
        value_name = "FORM",
        requires = "archive",
        hide_possible_values = true
    )]
    format: Option<archive::Format>,
    /// Only paths that this pattern matches; `**` crosses folders, `!` excludes; repeatable
    #[arg(long = "path", value_name = "PATTERN")]
    patterns: Vec<String>,
}

#[derive(Serialize)]
struct Artifacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    folders: Option<Vec<json::ArtifactFolder>>,
    artifacts: Vec<json::Artifact>,
    missing: Vec<json::MissingArtifact>,
}

/// What was asked for.
enum Found {
    /// A list.
    List(Listed),
    /// Bytes, and they were written.
    Written,
}

/// What there is.
#[derive(Default)]
struct Listed {
    /// Those in the folder that was asked for.
    folders: Option<Vec<ArtifactFolder>>,
    artifacts: Vec<Artifact>,
    missing: Vec<MissingArtifact>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let chosen = Selection::parse(&arguments.patterns)
        .map_err(|error| Error::Usage(format!("--path: {error}")))?;
    let session = Session::open(global).await?;
    let found = find(&session.client, &arguments, &chosen, global).await;
    session.close().await;
    let Found::List(listed) = found? else {
        return Ok(Exit::Success);
    };
    let Listed {
        folders,
        artifacts,
        missing,
    } = listed;
    if global.json() {
        let folders = folders.map(|all| all.iter().map(json::ArtifactFolder::new).collect());
        json::print(&Artifacts {
            folders,
            artifacts: artifacts.iter().map(json::Artifact::new).collect(),
            missing: missing.iter().map(json::MissingArtifact::new).collect(),
        })?;
    } else {
        if arguments.download.is_none() && arguments.archive.is_none() {
            show(&folders.unwrap_or_default(), &artifacts, global)?;
        }
        for file in &missing {
            let text = format!("missing: {}: {}", file.path, file.message);
            super::note(global, &text);
        }
    }
    Ok(Exit::Success)
}

async fn find(
    client: &Client,
    arguments: &Arguments,
    chosen: &Selection,
    global: &Global,
) -> Result<Found, Error> {
    let execution = super::get::execution(client, &arguments.id).await?;
    if let Some(deleted) = json::time(execution.artifacts_delete_time.as_ref()) {
        let deleted = measure::local(deleted);
        let message = format!("its artifacts were deleted by retention at {deleted}");
        if arguments.path.is_some() || arguments.download.is_some() || arguments.archive.is_some() {
            return Err(Error::Refused {
                message,
                usage: false,
                missing: true,
                violations: Vec::new(),
            });
        }
        super::note(global, &message);
    }
    let place = arguments
        .folder
        .as_deref()
        .map(|folder| folder.trim_matches('/'));
    let mut listed = list_below(client, &execution.name, place).await?;
    if place.is_some() {
        return Ok(Found::List(listed));
    }
    if let Some(path) = &arguments.path {
        return one(client, listed.artifacts, path, arguments, global).await;
    }
    let artifacts = &mut listed.artifacts;
    artifacts.retain(|artifact| chosen.matches(&artifact.path));
    listed.missing.retain(|file| chosen.matches(&file.path));
    if let Some(folder) = &arguments.download {
        download::all(client, artifacts, folder, global).await?;
    }
    if let Some(name) = &arguments.archive {
        let format = match arguments.format {
            Some(format) => format,
            None => archive::Format::of_name(name)?,
        };
        let patterns = &arguments.patterns;
        archive::archive(client, &execution.name, patterns, (name, format), global).await?;
        if name == Path::new("-") {
            return Ok(Found::Written);
        }
    }
    Ok(Found::List(listed))
}

/// Brings one file, the newest of its path.
async fn one(
    client: &Client,
    artifacts: Vec<Artifact>,
    path: &str,
    arguments: &Arguments,
    global: &Global,
) -> Result<Found, Error> {
    let found = newest(artifacts)
        .into_iter()
        .find(|artifact| artifact.path == path);
    let Some(artifact) = found else {
        return Err(Error::Refused {
            message: format!(
                "there is no artifact '{}'; `muster artifacts {}` lists those that there are",
                escape::visible(path),
                escape::visible(&arguments.id),
            ),
            usage: false,
            missing: true,
            violations: Vec::new(),
        });
    };
    let name = match &arguments.to {
        Some(name) => name.as_path(),
        None if global.stdout().interactive => {
            return Err(Error::Usage(
                "a file may hold what a terminal must not get: give --to FILE, or --to - to have it here"
                    .to_owned(),
            ));
        }
        None => Path::new("-"),
    };
    download::to(client, &artifact, name).await?;
    Ok(Found::Written)
}

/// Of several artifacts with one path, which are of different attempts, the newest. They come by path,
/// and the newest last.
fn newest(mut artifacts: Vec<Artifact>) -> Vec<Artifact> {
    artifacts.reverse();
    artifacts.dedup_by(|older, newer| older.path == newer.path);
    artifacts.reverse();
    artifacts
}

/// Returns all artifacts of an execution, by path.
pub(crate) async fn list(client: &Client, execution: &str) -> Result<Vec<Artifact>, Error> {
    Ok(list_below(client, execution, None).await?.artifacts)
}

/// Returns what is directly in a folder, with its folders, or all artifacts; and what is missing there.
async fn list_below(
    client: &Client,
    execution: &str,
    folder: Option<&str>,
) -> Result<Listed, Error> {
    let mut listed = Listed::default();
    listed.artifacts = pages(async |page_token| {
        let request = ListArtifactsRequest {
            parent: execution.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
            folder: folder.unwrap_or_default().to_owned(),
            direct: folder.is_some(),
        };
        let response = client
            .call(async || client.artifacts().list_artifacts(request.clone()).await)
            .await?;
        listed.missing.extend(response.missing);
        Ok((response.artifacts, response.next_page_token))
    })
    .await?;
    let Some(folder) = folder else {
        return Ok(listed);
    };
    let folders = pages(async |page_token| {
        let request = ListArtifactFoldersRequest {
            parent: execution.to_owned(),
            folder: folder.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || {
                let mut artifacts = client.artifacts();
                artifacts.list_artifact_folders(request.clone()).await
            })
            .await?;
        Ok((response.folders, response.next_page_token))
    });
    listed.folders = Some(folders.await?);
    Ok(listed)
}

fn show(folders: &[ArtifactFolder], artifacts: &[Artifact], global: &Global) -> Result<(), Error> {
    if artifacts.is_empty() && folders.is_empty() {
        super::note(global, "no artifacts");
        return Ok(());
    }
    let mut table = Table::new(&["PATH", "SIZE", "TYPE", "SHA256", "STEP"]);
    for folder in folders {
        let files = if folder.file_count == 1 {
            "file"
        } else {
            "files"
        };
        table.row([
            format!("{}/", folder.path).into(),
            measure::size(folder.size_bytes).into(),
            format!("{} {files}", folder.file_count).into(),
            "".into(),
            "".into(),
        ]);
    }
    for artifact in artifacts {
        table.row([
            artifact.path.as_str().into(),
            measure::size(artifact.size_bytes).into(),
            artifact.content_type.as_str().into(),
            artifact.sha256.get(..12).unwrap_or_default().into(),
            artifact.step.as_str().into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_path_is_kept() {
        let artifact = |path: &str, step: &str| Artifact {
            path: path.to_owned(),
            step: step.to_owned(),
            ..Artifact::default()
        };
        let all = [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("c", "5")];
        let all = all.map(|(path, step)| artifact(path, step)).to_vec();
        let kept = newest(all).into_iter();
        let kept: Vec<_> = kept.map(|artifact| artifact.step).collect();
        assert_eq!(kept, ["2", "3", "5"]);
    }
}
