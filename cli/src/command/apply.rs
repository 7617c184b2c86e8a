//! `muster apply`, `muster diff`, `muster delete`: manifests of files against those that are
//! stored.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use similar::TextDiff;

use super::stored::{Kind, call};
use crate::{
    arguments::Global, client::Client, error::Error, exit::Exit, files, json, manifest::Manifest,
    place::Session,
};

const APPLY: &str = "\
Examples:
  muster apply -f smoke.yaml
  muster apply -f workflows/ -f templates/
  muster apply -f workflows/ --dry-run
  generate | muster apply -f -";

const DIFF: &str = "\
Examples:
  muster diff -f workflows/
  muster diff -f smoke.yaml && echo nothing to apply";

const DELETE: &str = "\
Examples:
  muster delete workflow smoke
  muster delete workflow/smoke
  muster delete template k6
  muster delete -f workflows/
  muster delete smoke-3              an execution, its log, its artifacts and all that it has started
  muster delete smoke-3 --force      also when it is pinned";

/// Lines around a change.
const CONTEXT: usize = 3;

/// Store workflows and templates: new ones, and new revisions of those that differ
#[derive(Debug, Args)]
#[command(after_help = APPLY)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Show how manifests differ from what is stored; exit code 1 when they do
#[derive(Debug, Args)]
#[command(after_help = DIFF)]
pub(crate) struct Diff {
    #[command(flatten)]
    files: Files,
}

/// Delete an execution, a stored workflow or template, or all of some files
///
/// Executions of a deleted workflow stay, until retention takes them.
#[derive(Debug, Args)]
#[command(after_help = DELETE)]
pub(crate) struct Delete {
    /// An execution, such as smoke-3; or `workflow` or `template`, or with the name in one word, such as
    /// workflow/NAME
    #[arg(value_name = "WHAT", required_unless_present = "files", value_parser = What::parse)]
    kind: Option<What>,
    /// Name of the workflow or template
    #[arg(conflicts_with = "files")]
    name: Option<String>,
    /// Files and folders whose documents are meant; - for standard input
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Delete an execution although it is pinned
    #[arg(long)]
    force: bool,
}

/// What is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    /// A kind of manifest, and the name when both are one word.
    Stored(Kind, Option<String>),
    /// An execution.
    Execution(String),
}

impl What {
    fn parse(text: &str) -> Result<Self, String> {
        let named = Kind::named(text).or_else(|| Some((Kind::of(text)?, "")));
        if let Some((kind, name)) = named {
            let name = (!name.is_empty()).then(|| name.to_owned());
            return Ok(Self::Stored(kind, name));
        }
        let name = text.strip_prefix("execution/").unwrap_or(text);
        match name.is_empty() || (name.contains('/') && !name.starts_with("projects/")) {
            true => Err("expected an execution, `workflow` or `template`".to_owned()),
            false => Ok(Self::Execution(name.to_owned())),
        }
    }

    /// What is meant together with the second word.
    fn named(
        kind: Kind,
        name: Option<String>,
        second: Option<&str>,
    ) -> Result<(Kind, String), Error> {
        let word = kind.word();
        match (name, second) {
            (Some(name), None) => Ok((kind, name)),
            (None, Some(name)) => Ok((kind, name.to_owned())),
            (None, None) => Err(Error::Usage(format!(
                "which {word}? Give its name, such as {word}/NAME"
            ))),
            (Some(name), Some(_)) => Err(Error::Usage(format!(
                "give one name: {word}/{name} has one already"
            ))),
        }
    }
}

#[derive(Debug, Args)]
struct Files {
    /// Files and folders; - for standard input
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
}

/// A document of a file.
struct Document {
    kind: Kind,
    name: String,
    text: String,
    file: usize,
}

#[derive(Debug, Serialize)]
struct Applied {
    kind: &'static str,
    name: String,
    action: &'static str,
    revision: i64,
}

#[derive(Debug, Serialize)]
struct Report<T> {
    manifests: Vec<T>,
}

#[derive(Debug, Serialize)]
struct Compared {
    kind: &'static str,
    name: String,
    action: &'static str,
    /// A unified diff; empty when nothing differs.
    diff: String,
}

/// What applying a document would do.
fn action(stored: Option<&call::Stored>, document: &Document) -> &'static str {
    match stored {
        None => "created",
        Some(stored) if same(&stored.manifest, &document.text) => "unchanged",
        Some(_) => "configured",
    }
}

/// Stores what differs.
pub(crate) async fn apply(arguments: Apply, global: &Global) -> Result<Exit, Error> {
    let manifests = files::read(&arguments.files.files)?;
    let documents = documents(&manifests, global)?;
    let session = Session::open(global).await?;
    let done = apply_all(
        &session.client,
        &manifests,
        documents,
        arguments.dry_run,
        global,
    )
    .await;
    session.close().await;
    done?;
    Ok(Exit::Success)
}

async fn apply_all(
    client: &Client,
    manifests: &[Manifest],
    documents: Vec<Document>,
    dry_run: bool,
    global: &Global,
) -> Result<(), Error> {
    let mut applied = Vec::new();
    for document in documents {
        let kind = document.kind;
        let stored = stored(client, &document).await?;
        let action = action(stored.as_ref(), &document);
        let mut revision = stored.as_ref().map_or(0, |stored| stored.revision);
        if !dry_run && action != "unchanged" {
            let made = match &stored {
                None => call::create(client, kind, document.text.clone()).await,
                Some(stored) => {
                    call::update(client, kind, stored.name.clone(), document.text.clone()).await
                }
            };
            let place = |error| match manifests.get(document.file) {
                Some(manifest) => manifest.place(error),
                None => error,
            };
            revision = made.map_err(place)?.revision;
        }
        if !global.json() {
            let note = if dry_run { " (dry run)" } else { "" };
            let word = kind.word();
            super::print(&format!("{word}/{} {action}{note}\n", document.name))?;
        }
        applied.push(Applied {
            kind: kind.document(),
            name: document.name,
            action,
            revision,
        });
    }
    if global.json() {
        json::print(&Report { manifests: applied })?;
    }
    Ok(())
}

/// Shows what differs.
pub(crate) async fn diff(arguments: Diff, global: &Global) -> Result<Exit, Error> {
    let manifests = files::read(&arguments.files.files)?;
    let documents = documents(&manifests, global)?;
    let session = Session::open(global).await?;
    let done = diff_all(&session.client, documents, global).await;
    session.close().await;
    let differs = done?;
    Ok(if differs { Exit::Failed } else { Exit::Success })
}

async fn diff_all(
    client: &Client,
    documents: Vec<Document>,
    global: &Global,
) -> Result<bool, Error> {
    let mut compared = Vec::new();
    for document in documents {
        let stored = stored(client, &document).await?;
        let action = action(stored.as_ref(), &document);
        let diff = match action {
            "unchanged" => String::new(),
            _ => difference(stored.as_ref(), &document),
        };
        if !global.json() {
            super::print(&diff)?;
        }
        compared.push(Compared {
            kind: document.kind.document(),
            name: document.name,
            action,
            diff,
        });
    }
    let differs = compared.iter().any(|one| one.action != "unchanged");
    if global.json() {
        json::print(&Report {
            manifests: compared,
        })?;
    }
    Ok(differs)
}

fn difference(stored: Option<&call::Stored>, document: &Document) -> String {
    let old = ended(stored.map_or("", |stored| &stored.manifest));
    let new = ended(&document.text);
    let name = format!("{}/{}", document.kind.word(), document.name);
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&format!("stored/{name}"), &format!("files/{name}"))
        .to_string()
}

/// Deletes.
pub(crate) async fn delete(arguments: Delete, global: &Global) -> Result<Exit, Error> {
    let mut wanted = Vec::new();
    match arguments.kind {
        Some(What::Stored(kind, name)) => {
            wanted.push(What::named(kind, name, arguments.name.as_deref())?);
        }
        Some(What::Execution(name)) => {
            if arguments.name.is_some() {
                let text = format!(
                    "'{name}' is neither `workflow` nor `template`; executions are deleted one by one"
                );
                return Err(Error::Usage(text));
            }
            return super::delete::execution(&name, arguments.force, global).await;
        }
        None => {}
    }
    if !arguments.files.is_empty() {
        let manifests = files::read(&arguments.files)?;
        let documents = documents(&manifests, global)?.into_iter();
        wanted.extend(documents.map(|document| (document.kind, document.name)));
    }
    let session = Session::open(global).await?;
    let client = &session.client;
    let done = async {
        for (kind, name) in wanted {
            let resource = client.resource_name(kind.collection(), &name)?;
            call::delete(client, kind, resource).await?;
            super::print(&format!("{}/{name} deleted\n", kind.word()))?;
        }
        Ok(Exit::Success)
    }
    .await;
    session.close().await;
    done
}

/// All documents that are stored, templates first: a workflow may need them. What is not stored
/// is told, and refused when there is nothing else.
fn documents(manifests: &[Manifest], global: &Global) -> Result<Vec<Document>, Error> {
    let mut all = Vec::new();
    let mut left = Vec::new();
    for manifest in manifests {
        left.extend(manifest.not_stored()?);
    }
    for kind in [Kind::Template, Kind::Workflow] {
        for (file, manifest) in manifests.iter().enumerate() {
            let texts = manifest.texts(kind.document())?.into_iter();
            all.extend(texts.map(|(name, text)| Document {
                kind,
                name,
                text,
                file,
            }));
        }
    }
    if all.is_empty() && !left.is_empty() {
        let text = left.join("\n");
        return Err(Error::Usage(format!("there is nothing to store:\n{text}")));
    }
    for line in left {
        super::note(global, &format!("warning: {line}"));
    }
    for (index, document) in all.iter().enumerate() {
        let twice = all[..index]
            .iter()
            .any(|before| before.kind == document.kind && before.name == document.name);
        if twice {
            return Err(Error::Usage(format!(
                "{} '{}' is there twice",
                document.kind.document(),
                document.name
            )));
        }
    }
    Ok(all)
}

async fn stored(client: &Client, document: &Document) -> Result<Option<call::Stored>, Error> {
    let name = client.resource_name(document.kind.collection(), &document.name)?;
    match call::get(client, document.kind, name, 0).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two texts are the same but for blank lines at their ends.
fn same(a: &str, b: &str) -> bool {
    a.trim_end() == b.trim_end()
}

fn ended(text: &str) -> String {
    match text.trim_end() {
        "" => String::new(),
        text => format!("{text}\n"),
    }
}
