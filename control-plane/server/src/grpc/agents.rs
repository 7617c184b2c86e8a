//! `muster.v1.AgentService`.

use muster_proto::v1::{
    Agent, CordonAgentRequest, CordonAgentResponse, CreateAgentRequest, CreateAgentResponse,
    DeleteAgentRequest, DeleteAgentResponse, DrainAgentRequest, DrainAgentResponse,
    GetAgentRequest, GetAgentResponse, ListAgentsRequest, ListAgentsResponse,
    RotateAgentTokenRequest, RotateAgentTokenResponse, UncordonAgentRequest, UncordonAgentResponse,
    agent_service_server::AgentService,
};
use muster_storage::agent;
use tonic::{Request, Response, Status};

use super::{Api, convert, name, page, request::Content};
use crate::app::Error;

const FORM: &str = "agents/{agent}";

#[tonic::async_trait]
impl AgentService for Api {
    async fn create_agent(
        &self,
        request: Request<CreateAgentRequest>,
    ) -> Result<Response<CreateAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let request = Content::new("CreateAgent")
            .on(format!("agents/{}", message.agent_id))
            .field(&message.agent_id)
            .pairs(&message.labels)
            .field(message.projects.join("\n"))
            .request(&caller, &message.request_id)?;
        let projects = message
            .projects
            .iter()
            .map(|given| name::project("projects", given).map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()?;
        let labels = message.labels.into_iter().collect();
        let (made, token) = self
            .app
            .create_agent(
                &caller,
                &message.agent_id,
                labels,
                &projects,
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(CreateAgentResponse {
            agent: Some(self.show(made).await?),
            token: token.unwrap_or_default(),
        }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        let found = self.app.get_agent(&caller, agent).await?;
        Ok(Response::new(GetAgentResponse {
            agent: Some(self.show(found).await?),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let list = page::List::new(&["ListAgents"]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_agents(&caller, after.as_deref(), limit)
            .await?;
        let mut agents = Vec::with_capacity(page.items.len());
        for agent in page.items {
            agents.push(self.show(agent).await?);
        }
        Ok(Response::new(ListAgentsResponse {
            next_page_token: list.token(page.next),
            agents,
        }))
    }

    async fn rotate_agent_token(
        &self,
        request: Request<RotateAgentTokenRequest>,
    ) -> Result<Response<RotateAgentTokenResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("RotateAgentToken")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        let token = self
            .app
            .rotate_agent_token(&caller, agent, request.as_ref())
            .await?;
        Ok(Response::new(RotateAgentTokenResponse {
            token: token.unwrap_or_default(),
        }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<DeleteAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("DeleteAgent")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        self.app
            .delete_agent(&caller, agent, request.as_ref())
            .await?;
        Ok(Response::new(DeleteAgentResponse {}))
    }

    async fn cordon_agent(
        &self,
        request: Request<CordonAgentRequest>,
    ) -> Result<Response<CordonAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("CordonAgent")
            .on(&message.name)
            .field(&message.name)
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let cordoned = self
            .app
            .cordon_agent(&caller, agent, &message.message, request.as_ref())
            .await?;
        Ok(Response::new(CordonAgentResponse {
            agent: Some(self.show(cordoned).await?),
        }))
    }

    async fn uncordon_agent(
        &self,
        request: Request<UncordonAgentRequest>,
    ) -> Result<Response<UncordonAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        let request = Content::new("UncordonAgent")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        let agent = self
            .app
            .uncordon_agent(&caller, agent, request.as_ref())
            .await?;
        Ok(Response::new(UncordonAgentResponse {
            agent: Some(self.show(agent).await?),
        }))
    }

    async fn drain_agent(
        &self,
        request: Request<DrainAgentRequest>,
    ) -> Result<Response<DrainAgentResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [agent] = name::parts("name", &message.name, FORM)?;
        // Each drain looks again at what there is to take.
        let request = Content::new("DrainAgent")
            .on(&message.name)
            .input("message", &message.message)
            .note("force", message.force.to_string())
            .request(&caller, "")?;
        let (agent, taken, left) = self
            .app
            .drain_agent(
                &caller,
                agent,
                &message.message,
                message.force,
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(DrainAgentResponse {
            agent: Some(self.show(agent).await?),
            taken: i32::try_from(taken).unwrap_or(i32::MAX),
            left: i32::try_from(left).unwrap_or(i32::MAX),
        }))
    }
}

impl Api {
    async fn show(&self, record: agent::Agent) -> Result<Agent, Error> {
        let projects = self.app.project_names(&record).await?;
        let connected = self.app.link.is_connected(record.id);
        Ok(convert::agent(record, projects, connected))
    }
}
