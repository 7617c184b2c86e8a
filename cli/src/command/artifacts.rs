//! `muster artifacts`: lists what an execution left behind. Downloads are in [`download`].

pub(crate) mod download;

use std::path::PathBuf;

use clap::Args;
use muster_proto::v1::{Artifact, ListArtifactsRequest, MissingArtifact};
use serde::Serialize;

use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster artifacts smoke-3
  muster artifacts smoke-3 --download out
  muster artifacts smoke-3 --download out --path 'reports/**/*.xml'";

/// List or download artifacts of an execution
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Download into this folder; each file's SHA-256 is checked
    #[arg(long, value_name = "DIR")]
    download: Option<PathBuf>,
    /// Only paths that this pattern matches; `**` crosses folders
    #[arg(long = "path", value_name = "PATTERN")]
    pattern: Option<String>,
}

#[derive(Serialize)]
struct Artifacts {
    artifacts: Vec<json::Artifact>,
    missing: Vec<json::MissingArtifact>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let chosen = chooser(arguments.pattern.as_deref())?;
    let session = Session::open(global).await?;
    let found = find(&session.client, &arguments, &chosen, global).await;
    session.close().await;
    let (artifacts, missing) = found?;
    if global.json() {
        json::print(&Artifacts {
            artifacts: artifacts.iter().map(json::Artifact::new).collect(),
            missing: missing.iter().map(json::MissingArtifact::new).collect(),
        })?;
    } else {
        if arguments.download.is_none() {
            show(&artifacts, global)?;
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
    chosen: &impl Fn(&str) -> bool,
    global: &Global,
) -> Result<(Vec<Artifact>, Vec<MissingArtifact>), Error> {
    let execution = super::get::execution(client, &arguments.id).await?;
    let (mut artifacts, mut missing) = list_all(client, &execution.name).await?;
    artifacts.retain(|artifact| chosen(&artifact.path));
    missing.retain(|file| chosen(&file.path));
    if let Some(folder) = &arguments.download {
        download::all(client, &artifacts, folder, global).await?;
    }
    Ok((artifacts, missing))
}

/// Returns all artifacts of an execution, by path.
pub(crate) async fn list(client: &Client, execution: &str) -> Result<Vec<Artifact>, Error> {
    Ok(list_all(client, execution).await?.0)
}

/// Returns all artifacts of an execution and what is missing, by path.
async fn list_all(
    client: &Client,
    execution: &str,
) -> Result<(Vec<Artifact>, Vec<MissingArtifact>), Error> {
    let mut missing = Vec::new();
    let artifacts = pages(async |page_token| {
        let request = ListArtifactsRequest {
            parent: execution.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.artifacts().list_artifacts(request.clone()).await)
            .await?;
        missing.extend(response.missing);
        Ok((response.artifacts, response.next_page_token))
    })
    .await?;
    Ok((artifacts, missing))
}

fn chooser(pattern: Option<&str>) -> Result<impl Fn(&str) -> bool + use<>, Error> {
    let matcher = pattern
        .map(|pattern| {
            globset::GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map(|glob| glob.compile_matcher())
                .map_err(|error| Error::Usage(format!("--path: {error}")))
        })
        .transpose()?;
    Ok(move |path: &str| {
        matcher
            .as_ref()
            .is_none_or(|matcher| matcher.is_match(path))
    })
}

fn show(artifacts: &[Artifact], global: &Global) -> Result<(), Error> {
    if artifacts.is_empty() {
        super::note(global, "no artifacts");
        return Ok(());
    }
    let mut table = Table::new(&["PATH", "SIZE", "SHA256", "STEP"]);
    for artifact in artifacts {
        table.row([
            artifact.path.as_str().into(),
            measure::size(artifact.size_bytes).into(),
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
    fn one_star_stays_in_its_folder() {
        let one = chooser(Some("reports/*.xml")).unwrap();
        assert!(one("reports/a.xml"));
        assert!(!one("reports/b/a.xml"));
        let many = chooser(Some("**/*.xml")).unwrap();
        assert!(many("a.xml") && many("b/c/a.xml") && !many("a.txt"));
        assert!(chooser(None).unwrap()("anything"));
        assert!(chooser(Some("[")).is_err());
    }
}
