//! `muster du`: what uses the space.

use clap::Args;
use muster_proto::v1::{
    ListLargestExecutionsRequest, ListProjectsRequest, ListUsageRequest, Usage,
};
use serde::Serialize;

use super::stored::short;
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
  muster du                          workflows of the project, the largest first
  muster du --top 20                 and its 20 largest executions
  muster du --all-projects           sums of each project that the token can see
  muster du --output json | jq '.workflows[0]'";

/// Show what uses the space: logs and artifacts, by workflow
///
/// Sums are over what has ended and was not deleted. Logs count as they were printed; they are stored
/// packed, which most take a small part of.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Also list so many executions that take the most, each without what it has started
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(i32).range(0..=1000))]
    top: i32,
    /// Sum up projects and not workflows
    #[arg(long, conflicts_with = "top")]
    all_projects: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    executions: i64,
    log_bytes: i64,
    artifact_bytes: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    projects: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflows: Option<Vec<Row>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    executions: Option<Vec<Row>>,
    total: Row,
}

impl Row {
    fn new(usage: Usage) -> Self {
        Self {
            name: usage.name,
            executions: usage.executions,
            log_bytes: usage.log_bytes,
            artifact_bytes: usage.artifact_bytes,
        }
    }

    fn total(name: &str, rows: &[Self]) -> Self {
        let sum = |of: fn(&Self) -> i64| rows.iter().map(of).fold(0, i64::saturating_add);
        Self {
            name: name.to_owned(),
            executions: sum(|row| row.executions),
            log_bytes: sum(|row| row.log_bytes),
            artifact_bytes: sum(|row| row.artifact_bytes),
        }
    }

    const fn bytes(&self) -> i64 {
        self.log_bytes.saturating_add(self.artifact_bytes)
    }
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let found = find(&session.client, &arguments).await;
    session.close().await;
    let document = found?;
    if global.json() {
        json::print(&document)?;
        return Ok(Exit::Success);
    }
    let Document {
        projects,
        workflows,
        executions,
        total,
    } = document;
    let mut text = String::new();
    for (heading, rows, total) in [
        ("PROJECT", projects, Some(&total)),
        ("WORKFLOW", workflows, Some(&total)),
        ("EXECUTION", executions, None),
    ] {
        let Some(rows) = rows else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        let mut table = Table::new(&[heading, "EXECUTIONS", "LOGS", "ARTIFACTS", "TOGETHER"]);
        for row in rows.iter().chain(total) {
            table.row([
                row.name.as_str().into(),
                row.executions.to_string().into(),
                measure::size(row.log_bytes).into(),
                measure::size(row.artifact_bytes).into(),
                measure::size(row.bytes()).into(),
            ]);
        }
        text.push_str(&table.render(&global.stdout()));
    }
    super::print(&text)?;
    Ok(Exit::Success)
}

async fn find(client: &Client, arguments: &Arguments) -> Result<Document, Error> {
    if arguments.all_projects {
        let projects = pages(async |page_token| {
            let request = ListProjectsRequest {
                page_size: PAGE_SIZE,
                page_token,
            };
            let response = client
                .call(async || client.projects().list_projects(request.clone()).await)
                .await?;
            Ok((response.projects, response.next_page_token))
        })
        .await?;
        let mut rows = Vec::with_capacity(projects.len());
        for project in projects {
            let workflows = usage(client, &project.name).await?;
            rows.push(Row::total(short(&project.name), &workflows));
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.bytes()));
        return Ok(Document {
            total: Row::total("all", &rows),
            projects: Some(rows),
            workflows: None,
            executions: None,
        });
    }
    let rows = usage(client, &client.parent()).await?;
    let mut executions = None;
    if arguments.top > 0 {
        let request = ListLargestExecutionsRequest {
            parent: client.parent(),
            page_size: arguments.top,
        };
        let call = async || {
            let mut retention = client.retention();
            retention.list_largest_executions(request.clone()).await
        };
        let largest = client.call(call).await?.executions;
        executions = Some(largest.into_iter().map(Row::new).collect());
    }
    Ok(Document {
        projects: None,
        total: Row::total("all", &rows),
        workflows: Some(rows),
        executions,
    })
}

/// The workflows of a project, the largest first.
async fn usage(client: &Client, project: &str) -> Result<Vec<Row>, Error> {
    let usage = pages(async |page_token| {
        let request = ListUsageRequest {
            parent: project.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.retention().list_usage(request.clone()).await)
            .await?;
        Ok((response.workflows, response.next_page_token))
    })
    .await?;
    let mut rows: Vec<Row> = usage.into_iter().map(Row::new).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes()));
    Ok(rows)
}
