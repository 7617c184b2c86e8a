//! `muster credentials`: values that workflows ask for with `credential(name)`. They go in by a
//! file or standard input, and never come out here.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use muster_proto::v1::{
    Credential, DeleteCredentialRequest, ListCredentialsRequest, UpdateCredentialRequest,
};
use serde::Serialize;

use super::stored::short;
use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster credentials set deploy-token --from-file token.txt
  muster credentials set deploy-token --description 'rotated in May' < token.txt
  pass show ci/deploy | muster credentials set deploy-token
  muster credentials ls
  muster credentials delete deploy-token

A step uses it as {{ credential(\"deploy-token\") }}. Whoever may run workflows in the project can use
its credentials, and so see them.";

/// Most bytes of a value.
const MAX_VALUE: u64 = 64 << 10;
/// Most bytes of an end of line.
const END_OF_LINE: u64 = 2;

/// Manage values that workflows ask for while they run, such as tokens
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Store a value, new or in the place of the old one; read from a file or standard input
    ///
    /// It is text of at most 64 KiB. The end of line behind a single line is not part of it; text of
    /// several lines, such as a key in PEM, is kept as it is.
    Set {
        /// Its name: up to 63 letters, digits, '-' and '_'
        name: String,
        /// File that holds the value, - for standard input [default: standard input]
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
        /// For people; kept when it is not given
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List credentials, without their values
    #[command(visible_alias = "list")]
    Ls,
    /// Delete a credential and its value
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    description: String,
    revision: i64,
    create_time: Option<jiff::Timestamp>,
    update_time: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Rows {
    credentials: Vec<Row>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    // What is wrong with the value is said before anything is started.
    let value = match &arguments.command {
        Command::Set { from_file, .. } => read(from_file.as_ref())?,
        Command::Ls | Command::Delete { .. } => String::new(),
    };
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command, value, global).await;
    session.close().await;
    done?;
    Ok(Exit::Success)
}

async fn perform(
    client: &Client,
    command: Command,
    value: String,
    global: &Global,
) -> Result<(), Error> {
    match command {
        Command::Set {
            name, description, ..
        } => {
            let request = UpdateCredentialRequest {
                name: client.resource_name("credentials", &name)?,
                request_id: request_id(),
                value,
                description,
                etag: String::new(),
                allow_missing: true,
            };
            let response = client
                .call(async || {
                    client
                        .credentials()
                        .update_credential(request.clone())
                        .await
                })
                .await?;
            let stored = response.credential.unwrap_or_default();
            if global.json() {
                return json::print(&row(stored));
            }
            let verb = match stored.revision {
                1 => "stored",
                _ => "replaced",
            };
            super::note(global, &format!("{verb} {}", short(&stored.name)));
            Ok(())
        }
        Command::Ls => show(list(client).await?, global),
        Command::Delete { name } => {
            let request = DeleteCredentialRequest {
                name: client.resource_name("credentials", &name)?,
                request_id: request_id(),
            };
            client
                .call(async || {
                    client
                        .credentials()
                        .delete_credential(request.clone())
                        .await
                })
                .await?;
            super::note(global, &format!("deleted {name}"));
            Ok(())
        }
    }
}

/// Reads a value. No message has anything of it.
fn read(file: Option<&PathBuf>) -> Result<String, Error> {
    let file = file.filter(|path| path.as_os_str() != "-");
    let (mut source, name): (Box<dyn Read>, String) = match file {
        Some(path) => {
            let shown = path.display().to_string();
            let opened =
                File::open(path).map_err(|error| Error::Usage(format!("{shown}: {error}")))?;
            (Box::new(opened), shown)
        }
        None if io::stdin().is_terminal() => {
            let text = "give the value by --from-file FILE, or by standard input: \
                        on the command line others could see it";
            return Err(Error::Usage(text.to_owned()));
        }
        None => (Box::new(io::stdin()), "standard input".to_owned()),
    };
    let mut bytes = Vec::new();
    let most = MAX_VALUE + END_OF_LINE + 1;
    let read = source.by_ref().take(most).read_to_end(&mut bytes);
    read.map_err(|error| Error::Usage(format!("{name}: {error}")))?;
    value(bytes).map_err(|what| Error::Usage(format!("{name} {what}")))
}

/// The value in the bytes of a file.
fn value(bytes: Vec<u8>) -> Result<String, String> {
    let too_long = || format!("has more than {MAX_VALUE} bytes");
    if bytes.len() as u64 > MAX_VALUE + END_OF_LINE {
        return Err(too_long());
    }
    let mut text = String::from_utf8(bytes).map_err(|_error| "is not UTF-8 text".to_owned())?;
    let line = text.strip_suffix('\n');
    let line = line.map(|line| line.strip_suffix('\r').unwrap_or(line));
    if let Some(line) = line.filter(|line| !line.contains('\n')) {
        text.truncate(line.len());
    }
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() as u64 > MAX_VALUE {
        return Err(too_long());
    }
    Ok(text)
}

async fn list(client: &Client) -> Result<Vec<Credential>, Error> {
    pages(async |page_token| {
        let request = ListCredentialsRequest {
            parent: client.parent(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.credentials().list_credentials(request.clone()).await)
            .await?;
        Ok((response.credentials, response.next_page_token))
    })
    .await
}

fn row(credential: Credential) -> Row {
    Row {
        name: short(&credential.name).to_owned(),
        description: credential.description,
        revision: credential.revision,
        create_time: json::time(credential.create_time.as_ref()),
        update_time: json::time(credential.update_time.as_ref()),
    }
}

fn show(credentials: Vec<Credential>, global: &Global) -> Result<(), Error> {
    let rows = credentials.into_iter().map(row);
    if global.json() {
        return json::print(&Rows {
            credentials: rows.collect(),
        });
    }
    let mut table = Table::new(&["NAME", "REVISION", "UPDATED", "DESCRIPTION"]);
    for row in rows {
        table.row([
            row.name.into(),
            row.revision.to_string().into(),
            row.update_time
                .map_or_else(String::new, measure::local)
                .into(),
            row.description.into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_single_line_is_no_part_of_a_value() {
        for (given, expected) in [
            ("token", "token"),
            ("token\n", "token"),
            ("token\r\n", "token"),
            (" token \n", " token "),
            ("-----BEGIN\nx\n", "-----BEGIN\nx\n"),
            ("token\n\n", "token\n\n"),
        ] {
            assert_eq!(value(given.into()), Ok(expected.to_owned()), "{given:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_without_showing_it() {
        for given in [&b""[..], b"\n", b"hunter\xff", &[b'x'; 70_000]] {
            let refused = value(given.to_vec()).expect_err("no value");
            assert!(!refused.contains("hunter") && refused.len() < 100);
        }
    }
}
