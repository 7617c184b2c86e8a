//! `muster tokens`: credentials of people and programs; for administrators.

use clap::{Args, Subcommand, ValueEnum};
use muster_proto::v1::{CreateTokenRequest, DeleteTokenRequest, ListTokensRequest, Token, token};
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
  muster tokens create ci --role member --project payments > ci-token
  muster tokens create alice --role viewer --expires-in 720h
  muster tokens ls
  muster tokens delete 0199c0de-0000-7000-8000-000000000000";

/// Manage tokens of people and programs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token for the project and print it; it is never shown again
    Create {
        /// Name for people, shown as the creator of executions
        name: String,
        /// What it allows
        #[arg(long, value_enum)]
        role: Role,
        /// When it ends by itself, such as 720h
        #[arg(long, value_name = "DURATION")]
        expires_in: Option<String>,
    },
    /// List tokens, without their secrets
    #[command(visible_alias = "list")]
    Ls,
    /// Revoke a token at once
    Delete {
        /// Its id
        id: String,
    },
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Read everything in its project
    Viewer,
    /// Also run, cancel and change workflows in its project
    Member,
    /// Everything, in all projects
    Admin,
}

impl From<Role> for token::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    name: String,
    role: String,
    project: String,
    create_time: Option<jiff::Timestamp>,
    expire_time: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Rows {
    tokens: Vec<Row>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command, global).await;
    session.close().await;
    done?;
    Ok(Exit::Success)
}

async fn perform(client: &Client, command: Command, global: &Global) -> Result<(), Error> {
    match command {
        Command::Create {
            name,
            role,
            expires_in,
        } => {
            let project = match role {
                Role::Admin => String::new(),
                Role::Viewer | Role::Member => client.parent(),
            };
            let request = CreateTokenRequest {
                request_id: request_id(),
                display_name: name.clone(),
                role: token::Role::from(role).into(),
                project,
                expire_time: expires_in.as_deref().map(expiry).transpose()?,
            };
            let response = client
                .call(async || client.projects().create_token(request.clone()).await)
                .await?;
            super::agents::secret(name, response.secret, global)
        }
        Command::Ls => show(list(client).await?, global),
        Command::Delete { id } => {
            let request = DeleteTokenRequest {
                name: format!("tokens/{id}"),
                request_id: request_id(),
            };
            client
                .call(async || client.projects().delete_token(request.clone()).await)
                .await?;
            super::note(global, &format!("revoked {id}"));
            Ok(())
        }
    }
}

fn expiry(text: &str) -> Result<prost_types::Timestamp, Error> {
    let bad = |reason: String| Error::Usage(format!("--expires-in: {reason}"));
    let duration = muster_spec::duration::parse(text).map_err(|error| bad(error.to_string()))?;
    let now = muster_core::clock::Clock::system().now();
    let end = now
        .checked_add(duration)
        .map_err(|error| bad(error.to_string()))?;
    Ok(json::wire(end))
}

async fn list(client: &Client) -> Result<Vec<Token>, Error> {
    pages(async |page_token| {
        let request = ListTokensRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.projects().list_tokens(request.clone()).await)
            .await?;
        Ok((response.tokens, response.next_page_token))
    })
    .await
}

fn show(tokens: Vec<Token>, global: &Global) -> Result<(), Error> {
    let rows = tokens.into_iter().map(|token| Row {
        id: short(&token.name).to_owned(),
        role: token
            .role()
            .as_str_name()
            .trim_start_matches("ROLE_")
            .to_ascii_lowercase(),
        name: token.display_name,
        project: short(&token.project).to_owned(),
        create_time: json::time(token.create_time.as_ref()),
        expire_time: json::time(token.expire_time.as_ref()),
    });
    if global.json() {
        return json::print(&Rows {
            tokens: rows.collect(),
        });
    }
    let mut table = Table::new(&["ID", "NAME", "ROLE", "PROJECT", "CREATED", "EXPIRES"]);
    for row in rows {
        table.row([
            row.id.into(),
            row.name.into(),
            row.role.into(),
            row.project.into(),
            row.create_time
                .map_or_else(String::new, measure::local)
                .into(),
            row.expire_time
                .map_or_else(|| "never".to_owned(), measure::local)
                .into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}
