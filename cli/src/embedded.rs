//! The control plane in this process, on this machine's own data, and its agent for `muster run`.
//! Several processes may share the data: each has an agent of its own, and an execution names the
//! session whose agent it is for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use muster_agent::{Agent, Config, config};
use muster_core::clock::Clock;
use muster_proto::v1::{CreateAgentRequest, DeleteAgentRequest};
use muster_server::Server;

use crate::{
    client::{Client, request_id},
    command::agent::{refusal, runner},
    error::{self, Error},
    place::Remote,
};

/// Most workers of one run at a time: services and whatever waits for others come on top.
const CAPACITY: u32 = 16;

/// The control plane of this process.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    server: Server,
    token: String,
    data_dir: PathBuf,
}

impl ControlPlane {
    /// Starts it on `data_dir`, reachable from this process alone.
    pub(crate) async fn open(
        data_dir: &Path,
        global_template: Option<String>,
    ) -> Result<Self, Error> {
        let clock = Clock::system();
        let started = Box::pin(Server::start_embedded(data_dir, global_template, clock)).await;
        let (server, token) = started.map_err(|error| {
            Error::Local(format!(
                "can not use the data in {}: {}",
                data_dir.display(),
                error::chain(&error)
            ))
        })?;
        Ok(Self {
            server,
            token,
            data_dir: data_dir.to_path_buf(),
        })
    }

    /// Connects to it.
    pub(crate) async fn client(&self, project: &str) -> Result<Client, Error> {
        let remote = Remote {
            url: self.url(),
            token: Some(self.token.clone()),
            authority: None,
        };
        Client::connect(&remote, project).await
    }

    /// Starts an agent for the executions whose target is `session`.
    pub(crate) async fn start_agent(
        &self,
        client: &Client,
        session: &str,
    ) -> Result<LocalAgent, Error> {
        let short = session.split('-').next().unwrap_or(session);
        let name = format!("local-{short}-{}", std::process::id());
        let label = (LocalAgent::LABEL.to_owned(), session.to_owned());
        let request = CreateAgentRequest {
            agent_id: name.clone(),
            request_id: request_id(),
            labels: [label].into(),
            projects: Vec::new(),
        };
        let response = client
            .call(async || client.agents().create_agent(request.clone()).await)
            .await?;
        let config = Config {
            servers: vec![self.url()],
            token: config::Token::new(&response.token),
            trust: config::Trust::System,
            insecure: false,
            labels: BTreeMap::new(),
            capacity: CAPACITY,
            backend: config::Backend::Process(config::Process {
                directory: self.data_dir.join("runs"),
                runner: runner()?,
                embedded: true,
            }),
        };
        let agent = Agent::start(config)
            .await
            .map_err(|error| refusal(&error))?;
        Ok(LocalAgent { agent, name })
    }

    /// Folder of its data.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Stops it in order.
    pub(crate) async fn close(self) {
        self.server.stop().await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

/// The agent of this process.
#[derive(Debug)]
pub(crate) struct LocalAgent {
    agent: Agent,
    name: String,
}

impl LocalAgent {
    /// Label by which an execution names the session whose agent it is for.
    pub(crate) const LABEL: &str = "muster.dev/session";

    /// Waits until the agent ends by itself, which is an error.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.agent.ended().await {
            Err(error) => refusal(&error),
            Ok(()) => Error::Local("the agent of this process has ended".to_owned()),
        }
    }

    /// Stops the agent and whatever still runs under it, and forgets it.
    pub(crate) async fn close(self, client: &Client) {
        if let Err(error) = self.agent.stop().await {
            tracing::debug!(error = %error::chain(&error), "the agent had ended");
        }
        let request = DeleteAgentRequest {
            name: format!("agents/{}", self.name),
            request_id: request_id(),
        };
        let deleted = client
            .call(async || client.agents().delete_agent(request.clone()).await)
            .await;
        if let Err(error) = deleted {
            tracing::debug!(%error, "the agent's name stays in the list");
        }
    }
}
