//! `muster audit`: who changed or reached what.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use muster_proto::v1::{
    AuditEvent, ListAuditEventsRequest,
    audit_event::{Kind, Outcome},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster audit
  muster audit --since 24h --action CredentialService/ --resource projects/payments/
  muster audit --actor ci --limit 0 --output json
  muster audit --actor retention --resource projects/payments/
  muster audit --action LogService/ReadLog --since 24h
  muster audit export --since 2026-11-01T00:00:00Z > november.ndjson

An administrator sees the events of the instance and of all projects, or with --project those
of one; a member those of its project. Executions of one batch are one event, whose --output json
has all of their ids; who reads logs and artifacts is there once an hour for each execution.";

/// Show who changed or reached what, newest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    filter: Filter,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print all events that fit, one JSON document a line, newest first
    Export(Filter),
}

#[derive(Debug, Clone, Args)]
struct Filter {
    /// Only since then: a duration back from now such as 24h, or a time such as 2026-11-28T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    since: Option<Timestamp>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    until: Option<Timestamp>,
    /// Only of this token, agent or rule of the server such as retention, by name or id
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only methods that begin so
    #[arg(
        long,
        value_name = "METHOD",
        help = "Only methods that begin so, such as CredentialService/ or ProjectService/UpdateProject"
    )]
    action: Option<String>,
    /// Only where the name of the resource begins so, such as projects/payments/workflows/
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: String,
    time: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    project: String,
    actor: Actor,
    action: String,
    resource: String,
    peer: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    inputs: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
}

#[derive(Serialize)]
struct Actor {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    role: String,
}

#[derive(Serialize)]
struct Events {
    events: Vec<Event>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = match &arguments.command {
        Some(Command::Export(filter)) => export(&session.client, filter, global).await,
        None => list(&session.client, &arguments, global).await,
    };
    session.close().await;
    done?;
    Ok(Exit::Success)
}

impl Filter {
    fn request(&self, client: &Client, global: &Global) -> ListAuditEventsRequest {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        ListAuditEventsRequest {
            // Without it an administrator sees all, and others what is theirs.
            parent: match &global.project {
                Some(_) => client.parent(),
                None => String::new(),
            },
            page_size: PAGE_SIZE,
            page_token: String::new(),
            actor: text(&self.actor),
            action: text(&self.action),
            resource: text(&self.resource),
            since: self.since.map(crate::json::wire),
            until: self.until.map(crate::json::wire),
        }
    }
}

async fn page(
    client: &Client,
    request: &ListAuditEventsRequest,
) -> Result<(Vec<AuditEvent>, String), Error> {
    let response = client
        .call(async || client.audit().list_audit_events(request.clone()).await)
        .await?;
    Ok((response.events, response.next_page_token))
}

/// Prints pages as they come, so that a log of any length needs no memory.
async fn export(client: &Client, filter: &Filter, global: &Global) -> Result<(), Error> {
    let mut request = filter.request(client, global);
    loop {
        let (events, next) = page(client, &request).await?;
        let mut lines = String::new();
        for event in events {
            let line = serde_json::to_string(&show(event));
            let line = line.map_err(|error| Error::Local(format!("an event: {error}")))?;
            lines.push_str(&line);
            lines.push('\n');
        }
        super::print(&lines)?;
        if next.is_empty() {
            return Ok(());
        }
        request.page_token = next;
    }
}

async fn list(client: &Client, arguments: &Arguments, global: &Global) -> Result<(), Error> {
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let mut request = arguments.filter.request(client, global);
    let mut events = Vec::new();
    loop {
        let missing = limit - events.len();
        request.page_size = i32::try_from(missing).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let (found, next) = page(client, &request).await?;
        events.extend(found.into_iter().map(show));
        if next.is_empty() || events.len() >= limit {
            break;
        }
        request.page_token = next;
    }
    if global.json() {
        return json::print(&Events { events });
    }
    if events.is_empty() {
        super::note(global, "no events match");
        return Ok(());
    }
    let mut table = Table::new(&["TIME", "ACTOR", "FROM", "ACTION", "RESOURCE", "OUTCOME"]);
    for event in events {
        let outcome = match event.reason.as_str() {
            "" => event.outcome.to_owned(),
            reason => format!("{}: {reason}", event.outcome),
        };
        let actor = match event.actor.kind {
            kind @ ("agent" | "server") => format!("{kind} {}", event.actor.name),
            "nobody" => "nobody".to_owned(),
            _ => event.actor.name,
        };
        table.row([
            event.time.map_or_else(String::new, measure::local).into(),
            actor.into(),
            event.peer.into(),
            event.action.into(),
            event.resource.into(),
            outcome.into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}

fn show(event: AuditEvent) -> Event {
    let outcome = match event.outcome() {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Unspecified => "unknown",
    };
    let raw = |json: String| serde_json::from_str(&json).ok();
    let actor = event.actor.unwrap_or_default();
    let kind = match actor.kind() {
        Kind::Token => "token",
        Kind::Agent => "agent",
        Kind::Nobody => "nobody",
        Kind::Server => "server",
        Kind::Unspecified => "unknown",
    };
    Event {
        id: super::stored::short(&event.name).to_owned(),
        time: json::time(event.time.as_ref()),
        project: super::stored::short(&event.project).to_owned(),
        actor: Actor {
            kind,
            id: actor.uid,
            name: actor.display_name,
            role: actor.role,
        },
        action: event.action,
        resource: event.resource,
        peer: event.peer,
        inputs: event.inputs.into_iter().collect(),
        before: raw(event.before_json),
        after: raw(event.after_json),
        outcome,
        reason: event.reason,
        request_id: event.request_id,
    }
}
