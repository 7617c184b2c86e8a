//! `muster agents`: manages agents; for administrators.

use clap::{Args, Subcommand};
use muster_proto::v1::{
    Agent, CordonAgentRequest, CreateAgentRequest, DeleteAgentRequest, DrainAgentRequest,
    ListAgentsRequest, RotateAgentTokenRequest, UncordonAgentRequest,
};
use serde::Serialize;

use super::stored::short;
use crate::{
    arguments::{Global, pair},
    client::{Client, PAGE_SIZE, pages, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{
        Style, measure,
        table::{Cell, Table},
    },
};

const EXAMPLES: &str = "\
Examples:
  muster agents create east --label region=east > east-token
  muster agents ls
  muster agents rotate-token east > east-token
  muster agents cordon east -m 'upgrade of the cluster'
  muster agents drain east            take what may go elsewhere; the rest runs to its end
  muster agents uncordon east
  muster agents delete east";

/// Manage agents, the daemons of clusters
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an agent and print its token, which is never shown again
    Create {
        /// Its name, a DNS label
        name: String,
        /// Label that the agent itself can not change; may be given several times
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
        labels: Vec<(String, String)>,
        /// Project that it may serve; may be given several times, all when never
        #[arg(long = "only-project", value_name = "NAME")]
        projects: Vec<String>,
    },
    /// List agents
    #[command(visible_alias = "list")]
    Ls,
    /// Print a new token; the old one stops at once. Restart the agent with it within the server's
    /// lease duration and its running tests go on
    RotateToken {
        /// Its name
        name: String,
    },
    /// Let an agent take no new work; what it runs goes on
    Cordon {
        /// Its name
        name: String,
        /// Shown to people as the reason
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
    },
    /// Let an agent take work again
    Uncordon {
        /// Its name
        name: String,
    },
    /// Cordon an agent and take from it what has not begun, and what may be interrupted
    ///
    /// What has begun goes on to its end, unless `execution.recovery.interrupted: rerun` lets another
    /// attempt follow elsewhere. Run it again to see what is left.
    Drain {
        /// Its name
        name: String,
        /// Shown to people as the reason
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
        /// Take all that it runs: what its policy does not let run again is aborted
        #[arg(long)]
        force: bool,
    },
    /// Delete an agent and revoke its token
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    connected: bool,
    cordoned: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    cordon_message: String,
    version: String,
    backend: String,
    capacity: i32,
    running: i32,
    labels: std::collections::BTreeMap<String, String>,
    last_seen_time: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Rows {
    agents: Vec<Row>,
}

#[derive(Serialize)]
struct Drained {
    name: String,
    taken: i32,
    left: i32,
}

#[derive(Serialize)]
struct Secret {
    name: String,
    token: String,
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
            labels,
            projects,
        } => {
            let projects = projects.iter().map(|project| format!("projects/{project}"));
            let request = CreateAgentRequest {
                agent_id: name.clone(),
                request_id: request_id(),
                labels: labels.into_iter().collect(),
                projects: projects.collect(),
            };
            let response = client
                .call(async || client.agents().create_agent(request.clone()).await)
                .await?;
            secret(name, response.token, global)
        }
        Command::Ls => show(list(client).await?, global),
        Command::RotateToken { name } => {
            let request = RotateAgentTokenRequest {
                name: format!("agents/{name}"),
                request_id: request_id(),
            };
            let response = client
                .call(async || client.agents().rotate_agent_token(request.clone()).await)
                .await?;
            secret(name, response.token, global)
        }
        Command::Cordon { name, message } => {
            let request = CordonAgentRequest {
                name: format!("agents/{name}"),
                request_id: request_id(),
                message,
            };
            client
                .call(async || client.agents().cordon_agent(request.clone()).await)
                .await?;
            super::note(global, &format!("{name} takes no new work"));
            Ok(())
        }
        Command::Uncordon { name } => {
            let request = UncordonAgentRequest {
                name: format!("agents/{name}"),
                request_id: request_id(),
            };
            client
                .call(async || client.agents().uncordon_agent(request.clone()).await)
                .await?;
            super::note(global, &format!("{name} takes work"));
            Ok(())
        }
        Command::Drain {
            name,
            message,
            force,
        } => {
            let request = DrainAgentRequest {
                name: format!("agents/{name}"),
                message,
                force,
            };
            let drained = client
                .call(async || client.agents().drain_agent(request.clone()).await)
                .await?;
            let (taken, left) = (drained.taken, drained.left);
            if global.json() {
                return json::print(&Drained { name, taken, left });
            }
            super::print(&format!("{name}: {taken} taken, {left} still running\n"))
        }
        Command::Delete { name } => {
            let request = DeleteAgentRequest {
                name: format!("agents/{name}"),
                request_id: request_id(),
            };
            client
                .call(async || client.agents().delete_agent(request.clone()).await)
                .await?;
            super::note(global, &format!("deleted {name}"));
            Ok(())
        }
    }
}

/// Prints a token that is shown once.
pub(super) fn secret(name: String, token: String, global: &Global) -> Result<(), Error> {
    // The server keeps a hash alone: who asks twice for the same thing gets no second copy.
    if token.is_empty() {
        return Err(Error::Corrupt(format!(
            "the token of {name} was made, but the answer that held it was lost; make another one"
        )));
    }
    if global.json() {
        return json::print(&Secret { name, token });
    }
    super::note(global, "keep this token, it is never shown again:");
    super::print(&format!("{token}\n"))
}

async fn list(client: &Client) -> Result<Vec<Agent>, Error> {
    pages(async |page_token| {
        let request = ListAgentsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.agents().list_agents(request.clone()).await)
            .await?;
        Ok((response.agents, response.next_page_token))
    })
    .await
}

fn show(agents: Vec<Agent>, global: &Global) -> Result<(), Error> {
    if global.json() {
        let agents = agents.into_iter().map(|agent| Row {
            name: short(&agent.name).to_owned(),
            connected: agent.connected,
            cordoned: agent.cordoned,
            cordon_message: agent.cordon_message,
            version: agent.version,
            backend: agent.backend,
            capacity: agent.capacity,
            running: agent.running,
            labels: agent.labels.into_iter().collect(),
            last_seen_time: json::time(agent.last_seen_time.as_ref()),
        });
        return json::print(&Rows {
            agents: agents.collect(),
        });
    }
    let now = muster_core::clock::Clock::system().now();
    let mut table = Table::new(&[
        "NAME", "STATE", "BACKEND", "RUNNING", "VERSION", "SEEN", "LABELS",
    ]);
    for agent in &agents {
        let state = match (agent.connected, agent.cordoned) {
            (true, false) => Cell::styled("connected", Style::Green),
            (true, true) => Cell::styled("cordoned", Style::Yellow),
            (false, false) => Cell::styled("away", Style::Yellow),
            (false, true) => Cell::styled("away, cordoned", Style::Yellow),
        };
        let seen = json::time(agent.last_seen_time.as_ref());
        let seen = seen.map_or_else(|| "never".to_owned(), |seen| measure::age(seen, now));
        table.row([
            short(&agent.name).into(),
            state,
            agent.backend.as_str().into(),
            format!("{}/{}", agent.running, agent.capacity).into(),
            agent.version.as_str().into(),
            seen.into(),
            super::get::pairs(&agent.labels).into(),
        ]);
    }
    if table.is_empty() {
        super::note(global, "no agents; `muster agents create NAME` makes one");
        return Ok(());
    }
    super::print(&table.render(&global.stdout()))
}
