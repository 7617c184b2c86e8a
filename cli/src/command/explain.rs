//! `muster explain`: why an execution is where it is.

use clap::Args;
use muster_proto::v1::{ExplainExecutionRequest, ExplainExecutionResponse, Hindrance};
use serde::Serialize;

use crate::{
    arguments::Global,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{
        Style,
        escape::visible,
        table::{Cell, Table},
    },
};

const EXAMPLES: &str = "\
Examples:
  muster explain smoke-3              what it waits for, its place, what each agent says to it
  muster explain smoke-3 -o json | jq '.hindrances[0].reason'";

/// Say why an execution is where it is: what it waits for, and what agents say to it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    name: String,
    state: String,
    hindrances: Vec<Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_before: Option<i64>,
    agents: Vec<Verdict>,
}

#[derive(Serialize)]
struct Entry {
    reason: String,
    message: String,
}

#[derive(Serialize)]
struct Verdict {
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hindrance: Option<Entry>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let explained = async {
        let request = ExplainExecutionRequest {
            name: session.client.execution_name(&arguments.id)?,
        };
        let client = &session.client;
        client
            .call(async || client.executions().explain_execution(request.clone()).await)
            .await
    }
    .await;
    session.close().await;
    show(explained?, global)?;
    Ok(Exit::Success)
}

fn entry(told: Hindrance) -> Entry {
    Entry {
        reason: told.reason,
        message: told.message,
    }
}

fn show(told: ExplainExecutionResponse, global: &Global) -> Result<(), Error> {
    let execution = told.execution.unwrap_or_default();
    let document = Document {
        state: json::state(execution.state()),
        name: execution.display_name,
        hindrances: told.hindrances.into_iter().map(entry).collect(),
        queued_before: told.queued_before,
        agents: told
            .agents
            .into_iter()
            .map(|verdict| Verdict {
                agent: verdict.agent,
                hindrance: verdict.hindrance.map(entry),
            })
            .collect(),
    };
    if global.json() {
        return json::print(&document);
    }
    let terminal = global.stdout();
    let mut text = format!(
        "{} is {}\n",
        visible(&document.name),
        document.state.replace('_', " ")
    );
    for hindrance in &document.hindrances {
        let message = visible(&hindrance.message);
        text.push_str(&format!("  {message}\n"));
    }
    if document.hindrances.is_empty() {
        text.push_str(match document.queued_before {
            Some(_) => "  nothing holds it up: it is the next one\n",
            None => "  nothing holds it up\n",
        });
    }
    super::print(&text)?;
    if document.agents.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["AGENT", "SAYS", "WHY"]);
    for verdict in &document.agents {
        let (says, why) = match &verdict.hindrance {
            None => (Cell::styled("yes", Style::Green), String::new()),
            Some(hindrance) => (
                Cell::styled(hindrance.reason.to_lowercase(), Style::Yellow),
                hindrance.message.clone(),
            ),
        };
        table.row([verdict.agent.as_str().into(), says, why.into()]);
    }
    super::print(&format!("\n{}", table.render(&terminal)))
}
