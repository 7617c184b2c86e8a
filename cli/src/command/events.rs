//! `muster events`: what happened to an execution.

use clap::Args;
use muster_proto::v1::{ExecutionEvent, ListExecutionEventsRequest};
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
  muster events smoke-3
  muster events smoke-3 --output json";

/// Show what happened to an execution, oldest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
}

#[derive(Serialize)]
struct Events {
    events: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    sequence: i64,
    time: Option<jiff::Timestamp>,
    r#type: String,
    message: String,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let events = list(&session.client, &arguments.id).await;
    session.close().await;
    let events: Vec<Event> = events?.into_iter().map(event).collect();
    if global.json() {
        json::print(&Events { events })?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(&["TIME", "EVENT", "MESSAGE"]);
    for event in events {
        table.row([
            event.time.map_or_else(String::new, measure::local).into(),
            event.r#type.into(),
            event.message.into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))?;
    Ok(Exit::Success)
}

fn event(event: ExecutionEvent) -> Event {
    Event {
        sequence: event.sequence,
        time: json::time(event.time.as_ref()),
        r#type: event.r#type,
        message: event.message,
    }
}

async fn list(client: &Client, id: &str) -> Result<Vec<ExecutionEvent>, Error> {
    let parent = client.execution_name(id)?;
    pages(async |page_token| {
        let request = ListExecutionEventsRequest {
            parent: parent.clone(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || {
                let mut executions = client.executions();
                executions.list_execution_events(request.clone()).await
            })
            .await?;
        Ok((response.events, response.next_page_token))
    })
    .await
}
