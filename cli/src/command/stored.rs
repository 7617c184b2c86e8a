//! `muster workflows` and `muster templates`: manifests that a server keeps.

pub(super) mod call;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    manifest::Manifest,
    place::Session,
    terminal::{measure, table::Table},
};
use call::Stored;

/// Examples of `muster workflows`.
pub(crate) const WORKFLOWS: &str = "\
Examples:
  muster workflows create smoke.yaml
  muster workflows ls
  muster workflows get smoke > smoke.yaml
  muster workflows history smoke
  muster workflows get smoke --revision 2
  muster workflows update smoke.yaml
  muster run --workflow smoke
  muster workflows delete smoke";

/// Examples of `muster templates`.
pub(crate) const TEMPLATES: &str = "\
Examples:
  muster templates create templates.yaml
  muster templates ls
  muster templates get k6 --revision 2
  muster templates history k6
  muster templates update templates.yaml
  muster templates delete k6";

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `TestWorkflow`.
    Workflow,
    /// `TestWorkflowTemplate`.
    Template,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store new manifests
    Create(Source),
    /// Store new revisions of manifests
    Update(Source),
    /// Print a manifest
    Get {
        /// Its name
        name: String,
        /// This revision; the newest when not given
        #[arg(
            long,
            default_value_t = 0,
            value_name = "NUMBER",
            hide_default_value = true
        )]
        revision: i64,
    },
    /// List the revisions of a manifest, newest first
    #[command(visible_alias = "revisions")]
    History {
        /// Its name
        name: String,
    },
    /// List manifests
    #[command(visible_alias = "list")]
    Ls,
    /// Delete a manifest; executions that used it stay
    Delete {
        /// Its name
        name: String,
    },
}

/// Where manifests come from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// File with one or more documents; - for standard input
    file: PathBuf,
    /// Only the document with this name
    #[arg(long)]
    name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    name: String,
    revision: i64,
    description: String,
    update_time: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
}

#[derive(Serialize)]
struct Documents {
    manifests: Vec<Document>,
}

impl Kind {
    /// The kind of a word such as `workflow` or `templates`.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "workflow" | "workflows" => Some(Self::Workflow),
            "template" | "templates" => Some(Self::Template),
            _ => None,
        }
    }

    /// Kind and name of a text such as `workflow/smoke`.
    pub(super) fn named(text: &str) -> Option<(Self, &str)> {
        let (word, name) = text.split_once('/')?;
        Some((Self::of(word)?, name))
    }

    /// Its name in what is said about one of them.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Template => "template",
        }
    }

    pub(super) const fn document(self) -> &'static str {
        match self {
            Self::Workflow => "TestWorkflow",
            Self::Template => "TestWorkflowTemplate",
        }
    }

    pub(super) const fn collection(self) -> &'static str {
        match self {
            Self::Workflow => "workflows",
            Self::Template => "templates",
        }
    }
}

/// Runs it.
pub(crate) async fn execute(command: Command, kind: Kind, global: &Global) -> Result<Exit, Error> {
    // A file is read before anything is opened.
    let source = match &command {
        Command::Create(source) | Command::Update(source) => Some(read(source, kind)?),
        Command::Get { .. } | Command::History { .. } | Command::Ls | Command::Delete { .. } => {
            None
        }
    };
    let session = Session::open(global).await?;
    let done = perform(&session.client, command, kind, source, global).await;
    session.close().await;
    done?;
    Ok(Exit::Success)
}

struct Read {
    manifest: Manifest,
    documents: Vec<(String, String)>,
}

fn read(source: &Source, kind: Kind) -> Result<Read, Error> {
    let manifest = Manifest::read(&source.file)?;
    let mut documents = manifest.texts(kind.document())?;
    documents.retain(|(name, _)| source.name.as_ref().is_none_or(|wanted| wanted == name));
    if documents.is_empty() {
        let wanted = match &source.name {
            Some(name) => format!("{} '{name}'", kind.document()),
            None => kind.document().to_owned(),
        };
        return Err(Error::Usage(format!("{} holds no {wanted}", manifest.file)));
    }
    Ok(Read {
        manifest,
        documents,
    })
}

async fn perform(
    client: &Client,
    command: Command,
    kind: Kind,
    source: Option<Read>,
    global: &Global,
) -> Result<(), Error> {
    let collection = kind.collection();
    let resource = |name: &str| client.resource_name(collection, name);
    match (command, source) {
        (Command::Get { name, revision }, _) => {
            let stored = call::get(client, kind, resource(&name)?, revision).await?;
            if global.json() {
                return json::print(&document(&stored, true));
            }
            super::print(&ended(stored.manifest))
        }
        (Command::History { name }, _) => show(
            &call::revisions(client, kind, resource(&name)?).await?,
            global,
        ),
        (Command::Ls, _) => show(&call::list(client, kind).await?, global),
        (Command::Delete { name }, _) => {
            call::delete(client, kind, resource(&name)?).await?;
            super::note(global, &format!("deleted {name}"));
            Ok(())
        }
        (command, source) => {
            let update = matches!(command, Command::Update(_));
            if let Some(read) = source {
                store(client, kind, &read, update, global).await?;
            }
            Ok(())
        }
    }
}

async fn store(
    client: &Client,
    kind: Kind,
    read: &Read,
    update: bool,
    global: &Global,
) -> Result<(), Error> {
    let mut documents = Vec::new();
    for (name, text) in &read.documents {
        let stored = if update {
            let name = client.resource_name(kind.collection(), name)?;
            call::update(client, kind, name, text.clone()).await
        } else {
            call::create(client, kind, text.clone()).await
        };
        let stored = stored.map_err(|error| read.manifest.place(error))?;
        if !global.json() {
            super::print(&format!("{name} revision {}\n", stored.revision))?;
        }
        documents.push(document(&stored, false));
    }
    if global.json() {
        json::print(&Documents {
            manifests: documents,
        })?;
    }
    Ok(())
}

fn show(all: &[Stored], global: &Global) -> Result<(), Error> {
    if global.json() {
        return json::print(&Documents {
            manifests: all.iter().map(|one| document(one, false)).collect(),
        });
    }
    let mut table = Table::new(&["NAME", "REVISION", "UPDATED", "DESCRIPTION"]);
    for stored in all {
        let document = document(stored, false);
        let updated = document
            .update_time
            .map_or_else(String::new, measure::local);
        table.row([
            document.name.into(),
            document.revision.to_string().into(),
            updated.into(),
            document.description.into(),
        ]);
    }
    if table.is_empty() {
        super::note(global, "none");
        return Ok(());
    }
    super::print(&table.render(&global.stdout()))
}

fn document(stored: &Stored, whole: bool) -> Document {
    Document {
        name: short(&stored.name).to_owned(),
        revision: stored.revision,
        description: stored.description.clone(),
        update_time: json::time(stored.update_time.as_ref()),
        manifest: whole.then(|| stored.manifest.clone()),
    }
}

/// The last part of a resource name.
pub(crate) fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
