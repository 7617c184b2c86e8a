//! A server in a temporary directory, and clients for it.

use std::{collections::HashMap, time::Duration};

use muster_core::clock::Clock;
use muster_proto::v1::{
    CreateAgentRequest, CreateExecutionRequest, CreateProjectRequest, CreateTokenRequest,
    Execution, InlineWorkflow, RotateAgentTokenRequest,
    agent_link_service_client::AgentLinkServiceClient, agent_service_client::AgentServiceClient,
    artifact_service_client::ArtifactServiceClient, audit_service_client::AuditServiceClient,
    create_execution_request::Source, credential_service_client::CredentialServiceClient,
    execution::State, execution_service_client::ExecutionServiceClient,
    log_service_client::LogServiceClient, project_service_client::ProjectServiceClient,
    queue_service_client::QueueServiceClient, retention_service_client::RetentionServiceClient,
    template_service_client::TemplateServiceClient, test_service_client::TestServiceClient,
    token::Role, workflow_service_client::WorkflowServiceClient,
};
use muster_server::{Config, Server};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::home::Home;

/// A workflow of one step.
pub(crate) const WORKFLOW: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: smoke
  labels: {team: core}
spec:
  config:
    greeting: {type: string, default: hello}
  steps:
  - name: Greet
    shell: echo {{ config.greeting }}
";

/// Puts a token on every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0)).expect("plain text");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) type Authed = InterceptedService<Channel, Bearer>;

/// A server and a directory that ends with it.
pub(crate) struct Fixture {
    pub(crate) dir: Home,
    pub(crate) server: Server,
    pub(crate) admin: String,
}

/// All clients with one token.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) executions: ExecutionServiceClient<Authed>,
    pub(crate) workflows: WorkflowServiceClient<Authed>,
    pub(crate) templates: TemplateServiceClient<Authed>,
    pub(crate) credentials: CredentialServiceClient<Authed>,
    pub(crate) logs: LogServiceClient<Authed>,
    pub(crate) tests: TestServiceClient<Authed>,
    pub(crate) artifacts: ArtifactServiceClient<Authed>,
    pub(crate) agents: AgentServiceClient<Authed>,
    pub(crate) projects: ProjectServiceClient<Authed>,
    pub(crate) queue: QueueServiceClient<Authed>,
    pub(crate) retention: RetentionServiceClient<Authed>,
    pub(crate) audit: AuditServiceClient<Authed>,
    pub(crate) link: AgentLinkServiceClient<Authed>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Clock::system(), change).await
    }

    pub(crate) async fn start_at(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Home::new().await, clock, change).await
    }

    /// A server with SQLite and files, also where others have more.
    pub(crate) async fn start_on_files() -> Self {
        Self::start_on_files_with(|_| {}).await
    }

    pub(crate) async fn start_on_files_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Home::on_files(), Clock::system(), change).await
    }

    async fn start_in(dir: Home, clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let server = Box::pin(Self::serve(&dir, clock, change)).await;
        let path = server
            .admin_token()
            .expect("the first start writes a token");
        let admin = std::fs::read_to_string(path)
            .expect("it is there")
            .trim()
            .to_owned();
        Self { dir, server, admin }
    }

    /// Another server of the same database, with a directory of its own.
    pub(crate) async fn beside(other: &Self, change: impl FnOnce(&mut Config)) -> Self {
        let dir = Home::on_files();
        let server = Self::serve(&dir, Clock::system(), change).await;
        assert!(server.admin_token().is_none(), "the first one has it");
        Self {
            dir,
            server,
            admin: other.admin.clone(),
        }
    }

    async fn serve(dir: &Home, clock: Clock, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = dir.config();
        config.lease_duration = Duration::from_secs(4);
        config.renew_interval = Duration::from_secs(2);
        change(&mut config);
        Server::start(config, clock, None).await.expect("it starts")
    }

    /// Stops the server and starts another one on the same directory.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, server, admin } = self;
        server.stop().await;
        let server = Self::serve(&dir, Clock::system(), |_| {}).await;
        assert!(server.admin_token().is_none(), "the token is written once");
        Self { dir, server, admin }
    }

    /// The same with other settings; something is done while no server runs.
    pub(crate) async fn restart_with(
        self,
        clock: Clock,
        change: impl FnOnce(&mut Config),
        meanwhile: impl FnOnce(),
    ) -> Self {
        let Self { dir, server, admin } = self;
        server.stop().await;
        meanwhile();
        let server = Self::serve(&dir, clock, change).await;
        assert!(server.admin_token().is_none(), "the token is written once");
        Self { dir, server, admin }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub(crate) async fn channel(&self) -> Channel {
        channel(self.url()).await
    }

    pub(crate) async fn clients(&self, token: &str) -> Clients {
        Clients::connect(&self.url(), token).await
    }

    pub(crate) async fn admin(&self) -> Clients {
        self.clients(&self.admin).await
    }

    /// Clients with a member's token of a new project.
    pub(crate) async fn member_of_new_project(&self, project: &str) -> Clients {
        let token = self.token_of_new_project(project, Role::Member).await;
        self.clients(&token).await
    }

    /// A token of a new project.
    pub(crate) async fn token_of_new_project(&self, project: &str, role: Role) -> String {
        let mut admin = self.admin().await;
        let new = CreateProjectRequest {
            project_id: project.to_owned(),
            ..CreateProjectRequest::default()
        };
        admin
            .projects
            .create_project(new)
            .await
            .expect("it can be made");
        let new = CreateTokenRequest {
            display_name: "somebody".to_owned(),
            role: role.into(),
            project: format!("projects/{project}"),
            ..CreateTokenRequest::default()
        };
        let made = admin
            .projects
            .create_token(new)
            .await
            .expect("it can be made");
        made.into_inner().secret
    }

    /// A new token of an agent that is there.
    pub(crate) async fn new_token_of(&self, name: &str) -> String {
        let rotate = RotateAgentTokenRequest {
            name: format!("agents/{name}"),
            ..RotateAgentTokenRequest::default()
        };
        let made = self.admin().await.agents.rotate_agent_token(rotate).await;
        made.expect("it can be made").into_inner().token
    }

    /// The token of a new agent.
    pub(crate) async fn agent(&self, name: &str) -> String {
        let new = CreateAgentRequest {
            agent_id: name.to_owned(),
            labels: HashMap::from([("region".to_owned(), name.to_owned())]),
            ..CreateAgentRequest::default()
        };
        let made = self
            .admin()
            .await
            .agents
            .create_agent(new)
            .await
            .expect("it can be made");
        made.into_inner().token
    }
}

/// A request to run [`WORKFLOW`].
pub(crate) fn run() -> CreateExecutionRequest {
    run_text(WORKFLOW)
}

/// A request to run a workflow.
pub(crate) fn run_text(manifest: &str) -> CreateExecutionRequest {
    CreateExecutionRequest {
        parent: "projects/default".to_owned(),
        source: Some(Source::Inline(InlineWorkflow {
            manifest: manifest.to_owned(),
            workflow: String::new(),
        })),
        ..CreateExecutionRequest::default()
    }
}

async fn channel(url: String) -> Channel {
    Channel::from_shared(url)
        .expect("a URL")
        .connect()
        .await
        .expect("the server listens")
}

impl Clients {
    pub(crate) async fn connect(url: &str, token: &str) -> Self {
        let channel = channel(url.to_owned()).await;
        let bearer = Bearer(token.to_owned());
        macro_rules! client {
            ($client:ident) => {
                $client::with_interceptor(channel.clone(), bearer.clone())
            };
        }
        Self {
            executions: client!(ExecutionServiceClient),
            workflows: client!(WorkflowServiceClient),
            templates: client!(TemplateServiceClient),
            credentials: client!(CredentialServiceClient),
            logs: client!(LogServiceClient),
            tests: client!(TestServiceClient),
            artifacts: client!(ArtifactServiceClient),
            agents: client!(AgentServiceClient),
            projects: client!(ProjectServiceClient),
            queue: client!(QueueServiceClient),
            retention: client!(RetentionServiceClient),
            audit: client!(AuditServiceClient),
            link: client!(AgentLinkServiceClient),
        }
    }

    pub(crate) async fn create(&mut self, request: CreateExecutionRequest) -> Execution {
        let made = self
            .executions
            .create_execution(request)
            .await
            .expect("it is accepted");
        made.into_inner().execution.expect("it is told")
    }

    pub(crate) async fn get(&mut self, name: &str) -> Execution {
        let request = muster_proto::v1::GetExecutionRequest {
            name: name.to_owned(),
        };
        let got = self
            .executions
            .get_execution(request)
            .await
            .expect("it is there");
        got.into_inner().execution.expect("it is told")
    }

    /// How many executions of the default project wait for an agent.
    pub(crate) async fn queued(&mut self) -> usize {
        let request = muster_proto::v1::ListExecutionsRequest {
            parent: "projects/default".to_owned(),
            states: vec![State::Queued.into()],
            ..muster_proto::v1::ListExecutionsRequest::default()
        };
        let listed = self.executions.list_executions(request).await;
        listed.expect("a list").into_inner().executions.len()
    }

    /// Waits until the execution is terminal and its log has ended.
    pub(crate) async fn finished(&mut self, name: &str) -> Execution {
        let request = muster_proto::v1::WatchExecutionRequest {
            name: name.to_owned(),
        };
        let watch = self.executions.watch_execution(request).await;
        let mut watch = watch.expect("it is there").into_inner();
        let mut newest = None;
        while let Some(change) = watch.message().await.expect("no error") {
            newest = change.execution;
        }
        newest.expect("it is told at least once")
    }
}
