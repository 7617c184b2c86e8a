//! Agents, as administrators see them.

use std::{collections::BTreeMap, sync::Arc};

use muster_core::{
    id::{AgentId, ProjectId},
    name,
    policy::Interrupted,
    schedule,
};
use muster_storage::{
    Page, Request,
    agent::{Agent, Cordon, NewAgent},
};

use super::{Access, App, Caller, Error};
use crate::{
    config::MAX_PAIRS,
    token::{Holder, generate, hash},
};

/// Most agents of a project that are looked at together.
const MOST_AGENTS: u32 = 1000;

impl App {
    /// The agents that may serve a project, by name.
    pub(super) async fn agents_of(&self, project: ProjectId) -> Result<Vec<Agent>, Error> {
        let mut agents = self.store.agents().list(None, MOST_AGENTS).await?.items;
        agents.retain(|agent| schedule::serves(&agent.projects, project));
        Ok(agents)
    }

    /// Makes an agent. The token is given only to the first of equal requests.
    pub(crate) async fn create_agent(
        &self,
        caller: &Caller,
        name: &str,
        labels: BTreeMap<String, String>,
        projects: &[String],
        request: Option<&Request>,
    ) -> Result<(Agent, Option<String>), Error> {
        caller.require_admin()?;
        name::check_label(name).map_err(|error| Error::invalid("agent_id", error.to_string()))?;
        if labels.len() > MAX_PAIRS {
            let text = format!("{} labels, at most {MAX_PAIRS} are allowed", labels.len());
            return Err(Error::invalid("labels", text));
        }
        let mut allowed = Vec::with_capacity(projects.len());
        for project in projects {
            allowed.push(self.project(caller, project, Access::Write).await?.id);
        }
        let id = AgentId::generate();
        let secret = generate(Holder::Agent(id));
        let new = NewAgent {
            id,
            name: name.to_owned(),
            token_hash: hash(&secret),
            labels,
            projects: allowed,
        };
        let written = self.store.agents().create(&new, request).await?;
        Ok((written.value, (!written.replayed).then_some(secret)))
    }

    pub(crate) async fn get_agent(&self, caller: &Caller, name: &str) -> Result<Agent, Error> {
        caller.require_admin()?;
        Ok(self.store.agents().find(name).await?)
    }

    pub(crate) async fn list_agents(
        &self,
        caller: &Caller,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Agent, String>, Error> {
        caller.require_admin()?;
        Ok(self.store.agents().list(after, limit).await?)
    }

    /// Gives an agent a new token and closes its stream.
    pub(crate) async fn rotate_agent_token(
        &self,
        caller: &Caller,
        name: &str,
        request: Option<&Request>,
    ) -> Result<Option<String>, Error> {
        caller.require_admin()?;
        let agent = self.store.agents().find(name).await?;
        let secret = generate(Holder::Agent(agent.id));
        let rotated = self
            .store
            .agents()
            .rotate_token(agent.id, &hash(&secret), request)
            .await?;
        self.link.disconnect(agent.id);
        Ok((!rotated.replayed).then_some(secret))
    }

    /// Deletes an agent and closes its stream.
    pub(crate) async fn delete_agent(
        &self,
        caller: &Caller,
        name: &str,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        caller.require_admin()?;
        let agent = self.store.agents().find(name).await?;
        self.store.agents().delete(agent.id, request).await?;
        self.link.disconnect(agent.id);
        Ok(())
    }

    /// Lets an agent take no new work.
    pub(crate) async fn cordon_agent(
        &self,
        caller: &Caller,
        name: &str,
        message: &str,
        request: Option<&Request>,
    ) -> Result<Agent, Error> {
        caller.require_admin()?;
        let agent = self.store.agents().find(name).await?;
        let cordon = Cordon {
            message: by(caller, message),
        };
        let agents = self.store.agents();
        let written = agents.set_cordon(agent.id, Some(&cordon), request).await?;
        self.link.set_cordon(agent.id, true);
        Ok(written.value)
    }

    /// Lets an agent take work again.
    pub(crate) async fn uncordon_agent(
        &self,
        caller: &Caller,
        name: &str,
        request: Option<&Request>,
    ) -> Result<Agent, Error> {
        caller.require_admin()?;
        let agent = self.store.agents().find(name).await?;
        let agents = self.store.agents();
        let written = agents.set_cordon(agent.id, None, request).await?;
        self.link.set_cordon(agent.id, false);
        self.wake_scheduler();
        Ok(written.value)
    }

    /// Cordons an agent and takes from it what may be interrupted. Returns how many attempts were
    /// taken, and how many are left.
    pub(crate) async fn drain_agent(
        self: &Arc<Self>,
        caller: &Caller,
        name: &str,
        message: &str,
        force: bool,
        request: Option<&Request>,
    ) -> Result<(Agent, usize, usize), Error> {
        let agent = self.cordon_agent(caller, name, message, request).await?;
        let live = self.store.agent(agent.id).live().await?;
        let text = format!("agent {name} is drained: {}", by(caller, message));
        let (mut taken, mut left) = (0, 0);
        for live in live {
            let begun = live.attempt.start_time.is_some();
            let interrupted = live.execution.policy.interrupted;
            if begun && !force && interrupted != Some(Interrupted::Rerun) {
                left += 1;
                continue;
            }
            let queue = self.store.queue();
            if let Some(changed) = queue.revoke(live.attempt.id, "DRAINED", &text).await? {
                taken += 1;
                self.taken_away(&changed).await?;
            }
        }
        let agent = self.store.agents().get(agent.id).await?;
        Ok((agent, taken, left))
    }

    /// The agent of a secret.
    pub(crate) async fn authenticate_agent(&self, secret: &str) -> Result<Agent, Error> {
        let found = self
            .store
            .agents()
            .find_by_token_hash(&hash(secret))
            .await?;
        found.ok_or(Error::Unauthenticated(
            "the agent's token is not known or was replaced: make one with `muster agents`",
        ))
    }

    /// Names of the projects of an agent.
    pub(crate) async fn project_names(&self, agent: &Agent) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(agent.projects.len());
        for project in &agent.projects {
            names.push(self.store.projects().get(*project).await?.name);
        }
        Ok(names)
    }
}

/// Who wants something, and why.
pub(super) fn by(caller: &Caller, message: &str) -> String {
    match message {
        "" => format!("by {}", caller.name),
        given => format!("{given} (by {})", caller.name),
    }
}
