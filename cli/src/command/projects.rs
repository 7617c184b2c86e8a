//! `muster projects`: tenants.

use clap::{Args, Subcommand};
use muster_proto::v1::{CreateProjectRequest, ListProjectsRequest, Project};
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
  muster projects create payments --display-name 'Payments team'
  muster projects ls
  muster --project payments ls";

/// Manage projects (tenants)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project; for administrators
    Create {
        /// Its name, a DNS label
        name: String,
        /// Name for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        display_name: String,
    },
    /// List projects that the token can see
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    display_name: String,
    create_time: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Rows {
    projects: Vec<Row>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command).await;
    session.close().await;
    show(done?, global)?;
    Ok(Exit::Success)
}

async fn perform(client: &Client, command: Command) -> Result<Vec<Project>, Error> {
    match command {
        Command::Create { name, display_name } => {
            let request = CreateProjectRequest {
                project_id: name,
                request_id: request_id(),
                display_name,
            };
            let response = client
                .call(async || client.projects().create_project(request.clone()).await)
                .await?;
            Ok(response.project.into_iter().collect())
        }
        Command::Ls => list(client).await,
    }
}

async fn list(client: &Client) -> Result<Vec<Project>, Error> {
    pages(async |page_token| {
        let request = ListProjectsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.projects().list_projects(request.clone()).await)
            .await?;
        Ok((response.projects, response.next_page_token))
    })
    .await
}

fn show(projects: Vec<Project>, global: &Global) -> Result<(), Error> {
    let rows = projects.into_iter().map(|project| Row {
        name: short(&project.name).to_owned(),
        display_name: project.display_name,
        create_time: json::time(project.create_time.as_ref()),
    });
    if global.json() {
        return json::print(&Rows {
            projects: rows.collect(),
        });
    }
    let mut table = Table::new(&["NAME", "CREATED", "DISPLAY NAME"]);
    for row in rows {
        let created = row.create_time.map_or_else(String::new, measure::local);
        table.row([row.name.into(), created.into(), row.display_name.into()]);
    }
    super::print(&table.render(&global.stdout()))
}
