//! `muster context`: manages the user's contexts.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    arguments::Global,
    context::{self, Context, Contexts, LOCAL},
    error::Error,
    exit::Exit,
    json,
    terminal::table::Table,
};

const EXAMPLES: &str = "\
Examples:
  muster context set prod --server https://muster.example:8443 --ca-file ca.pem --token-file token
  muster context use prod
  muster context use local       work on this machine's own data again
  muster context ls
  muster context rm prod";

/// Manage contexts: named servers with their token
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make or change a context from --server, --token-file or --token, --ca-file, --project;
    /// the first one is used at once
    Set {
        /// Its name
        name: String,
    },
    /// Use a context from now on; `local` for this machine's own data
    Use {
        /// Its name
        name: String,
    },
    /// List contexts
    #[command(visible_alias = "list")]
    Ls,
    /// Remove a context
    Rm {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: &'a str,
    server: &'a str,
    project: Option<&'a str>,
    current: bool,
}

#[derive(Serialize)]
struct Rows<'a> {
    contexts: Vec<Row<'a>>,
}

/// Runs it.
pub(crate) fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let path = context::path()?;
    let mut contexts = Contexts::load(&path)?;
    match arguments.command {
        Command::Set { name } => {
            set(&mut contexts, &name, global)?;
            contexts.store(&path)?;
        }
        Command::Use { name } => {
            if name != LOCAL && !contexts.contexts.contains_key(&name) {
                return Err(missing(&name));
            }
            contexts.current = (name != LOCAL).then_some(name);
            contexts.store(&path)?;
        }
        Command::Ls => list(&contexts, global)?,
        Command::Rm { name } => {
            if contexts.contexts.remove(&name).is_none() {
                return Err(missing(&name));
            }
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.store(&path)?;
        }
    }
    Ok(Exit::Success)
}

fn set(contexts: &mut Contexts, name: &str, global: &Global) -> Result<(), Error> {
    if name == LOCAL || name.is_empty() {
        return Err(Error::Usage(format!(
            "'{LOCAL}' always means this machine's own data; choose another name"
        )));
    }
    let mut context = contexts.contexts.get(name).cloned().unwrap_or_default();
    if let Some(server) = &global.server {
        if *server != context.server {
            // A token is for one server only.
            context = Context {
                project: context.project,
                ..Context::default()
            };
        }
        context.server.clone_from(server);
    }
    if context.server.is_empty() {
        return Err(Error::Usage("give the address by --server".to_owned()));
    }
    if let Some(token) = &global.token {
        context.token = Some(token.clone());
        context.token_file = None;
    }
    if let Some(file) = &global.token_file {
        context.token_file = Some(absolute(file)?);
        context.token = None;
    }
    if let Some(file) = &global.ca_file {
        context.ca_file = Some(absolute(file)?);
    }
    if let Some(project) = &global.project {
        context.project = Some(project.clone());
    }
    if contexts.contexts.is_empty() {
        contexts.current = Some(name.to_owned());
    }
    contexts.contexts.insert(name.to_owned(), context);
    Ok(())
}

fn list(contexts: &Contexts, global: &Global) -> Result<(), Error> {
    let rows = contexts.contexts.iter().map(|(name, context)| Row {
        name,
        server: &context.server,
        project: context.project.as_deref(),
        current: contexts.current.as_ref() == Some(name),
    });
    if global.json() {
        return json::print(&Rows {
            contexts: rows.collect(),
        });
    }
    let mut table = Table::new(&["", "NAME", "SERVER", "PROJECT"]);
    for row in rows {
        table.row([
            if row.current { "*" } else { " " }.into(),
            row.name.into(),
            row.server.into(),
            row.project.unwrap_or("default").into(),
        ]);
    }
    if table.is_empty() {
        super::note(
            global,
            "no contexts; commands work on this machine's own data",
        );
        return Ok(());
    }
    super::print(&table.render(&global.stdout()))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::fs::canonicalize(path).map_err(Error::file("use", path))
}

fn missing(name: &str) -> Error {
    Error::Usage(format!(
        "there is no context '{name}'; `muster context ls` lists them"
    ))
}
