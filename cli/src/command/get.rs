//! `muster get`: one execution in full.

use std::collections::HashMap;

use clap::Args;
use muster_proto::v1::{
    Artifact, Execution, GetExecutionRequest, GetExecutionWorkflowRequest, child_origin::Role,
};

use super::stored;
use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    report,
    terminal::{Style, Terminal, escape, measure},
};

const EXAMPLES: &str = "\
Examples:
  muster get smoke-3
  muster get smoke-3 --output json | jq .state
  muster get smoke-3 --workflow      what it ran: templates merged, parameters put in
  muster get workflow/smoke          a stored workflow, as `muster workflows get smoke`
  muster get template/login";

/// Show one execution: state, reason, steps, attempts, warnings
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id; workflow/NAME or template/NAME for what is stored
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Print the workflow that it ran, with templates and parameters put in
    #[arg(long)]
    workflow: bool,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    if let Some((kind, name)) = stored::Kind::named(&arguments.id) {
        let get = stored::Command::Get {
            name: name.to_owned(),
            revision: 0,
        };
        return stored::execute(get, kind, global).await;
    }
    let session = Session::open(global).await?;
    if arguments.workflow {
        let found = async {
            let client = &session.client;
            let execution = execution(client, &arguments.id).await?;
            Ok::<_, Error>((workflow(client, &arguments.id).await?, execution))
        }
        .await;
        session.close().await;
        let (manifest, execution) = found?;
        let origin = execution.origin.as_ref();
        if let Some(origin) = origin.filter(|it| part_of_parent(it.role())) {
            let text = format!(
                "this {} is a part of its parent's workflow, of the step '{}': the whole is shown",
                json::role(origin.role()),
                origin.step,
            );
            super::note(global, &text);
        }
        super::print(&manifest)?;
        return Ok(Exit::Success);
    }
    let found = find(&session.client, &arguments.id).await;
    session.close().await;
    let (execution, artifacts) = found?;
    if global.json() {
        json::print(&json::Execution::new(&execution, &artifacts))?;
    } else {
        super::print(&text(&execution, &artifacts, &global.stdout()))?;
    }
    Ok(Exit::Success)
}

/// Whether a child runs a part of its parent's workflow and not one of its own.
const fn part_of_parent(role: Role) -> bool {
    matches!(role, Role::Worker | Role::Service)
}

async fn workflow(client: &Client, id: &str) -> Result<String, Error> {
    let request = GetExecutionWorkflowRequest {
        name: client.execution_name(id)?,
    };
    let call = async || {
        client
            .executions()
            .get_execution_workflow(request.clone())
            .await
    };
    Ok(client.call(call).await?.manifest)
}

/// Returns an execution.
pub(crate) async fn execution(client: &Client, id: &str) -> Result<Execution, Error> {
    let request = GetExecutionRequest {
        name: client.execution_name(id)?,
    };
    let response = client
        .call(async || client.executions().get_execution(request.clone()).await)
        .await?;
    response
        .execution
        .ok_or_else(|| Error::Corrupt("the server sent an answer without execution".to_owned()))
}

async fn find(client: &Client, id: &str) -> Result<(Execution, Vec<Artifact>), Error> {
    let execution = execution(client, id).await?;
    let artifacts = super::artifacts::list(client, &execution.name).await?;
    Ok((execution, artifacts))
}

/// `a=1 b=2`, by name.
pub(crate) fn pairs(map: &HashMap<String, String>) -> String {
    let mut pairs: Vec<_> = map
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort();
    pairs.join(" ")
}

fn text(execution: &Execution, artifacts: &[Artifact], terminal: &Terminal) -> String {
    let mut text = report::heading(execution, terminal);
    text.push('\n');
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let name = terminal.paint(Style::Dim, &format!("  {name:<10} "));
            text.push_str(&format!("{name}{}\n", escape::visible(value)));
        }
    };
    let time = |time: &Option<prost_types::Timestamp>| {
        json::time(time.as_ref()).map_or_else(String::new, measure::local)
    };
    row("id", &execution.uid);
    row("workflow", &execution.workflow);
    if let Some(rerun) = &execution.rerun {
        let what = match rerun.failed_only {
            true => "what failed of ",
            false => "",
        };
        row("rerun of", &format!("{what}{}", rerun.display_name));
    }
    row("creator", &execution.creator);
    row("tags", &pairs(&execution.tags));
    row("config", &pairs(&execution.config));
    row("created", &time(&execution.create_time));
    row("started", &time(&execution.start_time));
    row("finished", &time(&execution.finish_time));
    if execution.cancel_requested && execution.finish_time.is_none() {
        row("cancel", "requested");
    }
    if execution.pause_requested {
        row("pause", "requested");
    }
    if let Some(pin) = &execution.pin {
        row("pinned", &format!("by {} {}", pin.creator, pin.message));
    }
    for (name, deleted) in [
        ("log", &execution.logs_delete_time),
        ("artifacts", &execution.artifacts_delete_time),
    ] {
        if deleted.is_some() {
            row(name, &format!("deleted by retention {}", time(deleted)));
        }
    }
    row("reason", &execution.reason);
    for attempt in &execution.attempts {
        let why = report::why(&attempt.reason, &attempt.message);
        let why = match why.as_str() {
            "" => String::new(),
            why => format!(": {why}"),
        };
        row(
            "attempt",
            &format!("{} on {}{why}", attempt.epoch, attempt.agent),
        );
    }
    for warning in &execution.warnings {
        row("warning", warning);
    }
    if !execution.steps.is_empty() {
        text.push('\n');
        text.push_str(&report::step::list(&execution.steps, terminal));
    }
    text.push_str(&report::outputs(execution, terminal));
    text.push_str(&report::children(execution, terminal));
    text.push('\n');
    text.push_str(&report::ending(execution, artifacts, None, terminal));
    text
}
