//! A client of the control plane: starts workflows and looks at what became of them.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use muster_proto::v1::{
    Agent, Artifact, CancelExecutionRequest, CreateAgentRequest, CreateExecutionRequest,
    DownloadArtifactRequest, Execution, GetAgentRequest, GetExecutionRequest, InlineWorkflow,
    LabelValues, ListArtifactsRequest, ListTestCasesRequest, MissingArtifact,
    PauseExecutionRequest, ReadLogRequest, ResumeExecutionRequest, StepResult, Target, TestCase,
    agent_service_client, artifact_service_client, create_execution_request::Source,
    credential_service_client, execution::State, execution_service_client, log_service_client,
    project_service_client, read_log_response::Item, test_service_client, workflow_service_client,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use uuid::Uuid;

use crate::{digest::sha256, log::Log, wait};

/// The project of all tests.
pub const PROJECT: &str = "projects/default";

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.clone();
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

/// A connection with a token.
pub type Service = InterceptedService<Channel, Bearer>;

/// A client with a token.
#[derive(Debug, Clone)]
pub struct Client {
    service: Service,
}

impl Client {
    /// Makes a client; the connection is made with the first call, and again when it breaks.
    ///
    /// # Errors
    ///
    /// When address or token can not be used.
    pub fn new(url: &str, authority: Option<&[u8]>, token: &str) -> anyhow::Result<Self> {
        let mut endpoint = Endpoint::from_shared(url.to_owned())?;
        if let Some(pem) = authority {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        value.set_sensitive(true);
        let service = InterceptedService::new(endpoint.connect_lazy(), Bearer(value));
        Ok(Self { service })
    }

    /// Returns a client of executions.
    #[must_use]
    pub fn executions(&self) -> execution_service_client::ExecutionServiceClient<Service> {
        execution_service_client::ExecutionServiceClient::new(self.service.clone())
    }

    /// Returns a client of projects.
    #[must_use]
    pub fn projects(&self) -> project_service_client::ProjectServiceClient<Service> {
        project_service_client::ProjectServiceClient::new(self.service.clone())
    }

    /// Returns a client of workflows.
    #[must_use]
    pub fn workflows(&self) -> workflow_service_client::WorkflowServiceClient<Service> {
        workflow_service_client::WorkflowServiceClient::new(self.service.clone())
    }

    /// Returns a client of logs.
    #[must_use]
    pub fn logs(&self) -> log_service_client::LogServiceClient<Service> {
        log_service_client::LogServiceClient::new(self.service.clone())
    }

    /// Returns a client of credentials.
    #[must_use]
    pub fn credentials(&self) -> credential_service_client::CredentialServiceClient<Service> {
        credential_service_client::CredentialServiceClient::new(self.service.clone())
    }

    /// Returns a client of artifacts.
    #[must_use]
    pub fn artifacts(&self) -> artifact_service_client::ArtifactServiceClient<Service> {
        artifact_service_client::ArtifactServiceClient::new(self.service.clone())
    }

    /// Returns a client of tests.
    #[must_use]
    pub fn tests(&self) -> test_service_client::TestServiceClient<Service> {
        test_service_client::TestServiceClient::new(self.service.clone())
    }

    /// Returns a client of agents.
    #[must_use]
    pub fn agents(&self) -> agent_service_client::AgentServiceClient<Service> {
        agent_service_client::AgentServiceClient::new(self.service.clone())
    }

    /// Makes an agent and returns its token.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn create_agent(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let request = CreateAgentRequest {
            agent_id: name.to_owned(),
            request_id: Uuid::new_v4().to_string(),
            labels: labels.collect(),
            projects: Vec::new(),
        };
        Ok(self
            .agents()
            .create_agent(request)
            .await?
            .into_inner()
            .token)
    }

    /// Waits until an agent is connected.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub async fn agent_connected(&self, name: &str) -> anyhow::Result<Agent> {
        let name = format!("agents/{name}");
        wait::until("the agent is connected", async || {
            let request = GetAgentRequest { name: name.clone() };
            let agent = self.agents().get_agent(request).await?.into_inner().agent;
            Ok(agent.filter(|agent| agent.connected))
        })
        .await
    }

    /// Starts a workflow on any agent with the label `on`.
    ///
    /// # Errors
    ///
    /// The server's refusal, as [`Status`].
    pub async fn start(&self, manifest: &str, on: Option<(&str, &str)>) -> Result<Run, Status> {
        let target = on.map(|(key, value)| {
            let values = vec![value.to_owned()];
            Target {
                r#match: HashMap::from([(key.to_owned(), LabelValues { values })]),
                ..Target::default()
            }
        });
        self.create(manifest, "", target, &[]).await
    }

    /// Starts a workflow with values of its `config`, on any agent.
    ///
    /// # Errors
    ///
    /// The server's refusal, as [`Status`].
    pub async fn start_with(&self, manifest: &str, config: &[(&str, &str)]) -> Result<Run, Status> {
        self.create(manifest, "", None, config).await
    }

    /// Starts one of several workflows in a manifest, on any agent.
    ///
    /// # Errors
    ///
    /// The server's refusal, as [`Status`].
    pub async fn start_one(&self, manifest: &str, workflow: &str) -> Result<Run, Status> {
        self.create(manifest, workflow, None, &[]).await
    }

    async fn create(
        &self,
        manifest: &str,
        workflow: &str,
        target: Option<Target>,
        config: &[(&str, &str)],
    ) -> Result<Run, Status> {
        let config = config
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let inline = InlineWorkflow {
            manifest: manifest.to_owned(),
            workflow: workflow.to_owned(),
        };
        let request = CreateExecutionRequest {
            parent: PROJECT.to_owned(),
            request_id: Uuid::new_v4().to_string(),
            source: Some(Source::Inline(inline)),
            config: config.collect(),
            target,
            ..CreateExecutionRequest::default()
        };
        let response = self.executions().create_execution(request).await?;
        let execution = response.into_inner().execution.unwrap_or_default();
        Ok(Run {
            client: self.clone(),
            name: execution.name,
        })
    }
}

/// An execution that this test started.
#[derive(Debug, Clone)]
pub struct Run {
    /// Resource name.
    pub name: String,
    pub(crate) client: Client,
}

impl Run {
    /// An execution that somebody else has started.
    #[must_use]
    pub fn of(client: &Client, name: String) -> Self {
        Self {
            name,
            client: client.clone(),
        }
    }

    /// Returns the execution as it is now.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn now(&self) -> anyhow::Result<Execution> {
        let request = GetExecutionRequest {
            name: self.name.clone(),
        };
        let response = self.client.executions().get_execution(request).await?;
        response.into_inner().execution.context("no execution")
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn end(&self) -> anyhow::Result<Execution> {
        self.end_within(wait::PATIENCE).await
    }

    async fn end_within(&self, patience: Duration) -> anyhow::Result<Execution> {
        let mut last = Execution::default();
        let end = wait::until_within(patience, "the execution ends", async || {
            last = self.now().await?;
            Ok(is_terminal(last.state()).then(|| last.clone()))
        })
        .await;
        end.with_context(|| format!("last seen: {}", describe(&last)))
    }

    /// Waits for its end, and for `state` there.
    ///
    /// # Errors
    ///
    /// When it ends otherwise; the message holds steps and log.
    pub async fn ends_as(&self, state: State) -> anyhow::Result<Execution> {
        self.ends_within(wait::PATIENCE, state).await
    }

    /// As [`Run::ends_as`], for a run that takes long when all is well.
    ///
    /// # Errors
    ///
    /// When it ends otherwise, or not within `patience`.
    pub async fn ends_within(&self, patience: Duration, state: State) -> anyhow::Result<Execution> {
        let execution = self.end_within(patience).await?;
        if execution.state() != state {
            let log = Log::read(&self.client, &self.name).await;
            let log = log.map_or_else(|error| format!("{error:#}"), |log| log.text());
            bail!(
                "ended as {:?}, not {state:?}\n{}\n{log}",
                execution.state(),
                describe(&execution)
            );
        }
        Ok(execution)
    }

    /// The log as far as it is there.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn printed(&self) -> anyhow::Result<String> {
        let request = ReadLogRequest {
            name: self.name.clone(),
            ..ReadLogRequest::default()
        };
        let mut stream = self.client.logs().read_log(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(response) = stream.message().await? {
            if let Some(Item::Chunk(chunk)) = response.item {
                bytes.extend_from_slice(&chunk.data);
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the log holds `text`.
    ///
    /// # Errors
    ///
    /// When it does not come, or the log ends without it.
    pub async fn prints(&self, text: &str) -> anyhow::Result<()> {
        let what = format!("the log holds {text:?}");
        let mut last = Execution::default();
        let printed = wait::until(&what, async || {
            last = self.now().await?;
            let printed = self.printed().await?.contains(text);
            // An end without the text is told at once, not when patience is over.
            Ok((printed || is_terminal(last.state())).then_some(printed))
        })
        .await;
        match printed {
            Ok(true) => Ok(()),
            Ok(false) => bail!("ended without {text:?}: {}", describe(&last)),
            Err(error) => Err(error.context(format!("last seen: {}", describe(&last)))),
        }
    }

    /// Asks for its end.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn cancel(&self, force: bool) -> anyhow::Result<()> {
        let request = CancelExecutionRequest {
            name: self.name.clone(),
            request_id: Uuid::new_v4().to_string(),
            force,
            message: "by a test".to_owned(),
        };
        self.client.executions().cancel_execution(request).await?;
        Ok(())
    }

    /// Asks that it stops for a while.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn pause(&self) -> anyhow::Result<()> {
        let request = PauseExecutionRequest {
            name: self.name.clone(),
            request_id: Uuid::new_v4().to_string(),
            message: "by a test".to_owned(),
        };
        self.client.executions().pause_execution(request).await?;
        Ok(())
    }

    /// Asks that it goes on.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let request = ResumeExecutionRequest {
            name: self.name.clone(),
            request_id: Uuid::new_v4().to_string(),
        };
        self.client.executions().resume_execution(request).await?;
        Ok(())
    }

    /// Waits until it is in this state.
    ///
    /// # Errors
    ///
    /// When it ends without having been seen there.
    pub async fn becomes(&self, state: State) -> anyhow::Result<Execution> {
        let what = format!("it becomes {state:?}");
        wait::until(&what, async || {
            let now = self.now().await?;
            if now.state() != state && is_terminal(now.state()) {
                bail!("it has ended: {}", describe(&now));
            }
            Ok((now.state() == state).then_some(now))
        })
        .await
    }

    /// Waits until it has started so many children.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn children(&self, count: usize) -> anyhow::Result<Vec<Self>> {
        wait::until("it has children", async || {
            let children = self.now().await?.children;
            let all = children.iter();
            let all = all.map(|child| Self::of(&self.client, child.name.clone()));
            Ok((children.len() >= count).then(|| all.collect()))
        })
        .await
    }

    /// Reads its log to the end, and proves that it is whole.
    ///
    /// # Errors
    ///
    /// When a byte is missing.
    pub async fn whole_log(&self) -> anyhow::Result<Log> {
        let log = Log::read(&self.client, &self.name).await?;
        log.expect_whole()
            .with_context(|| format!("log:\n{}", log.text()))?;
        Ok(log)
    }

    /// Returns its tests, once all its reports are read; there must be some.
    ///
    /// # Errors
    ///
    /// When the server does not tell them in time.
    pub async fn test_cases(&self) -> anyhow::Result<Vec<TestCase>> {
        wait::until("reports to be read", async || {
            let request = ListTestCasesRequest {
                parent: self.name.clone(),
                page_size: 1000,
                ..ListTestCasesRequest::default()
            };
            let response = self.client.tests().list_test_cases(request).await?;
            let response = response.into_inner();
            ensure!(response.pending_reports == 0, "reports are pending");
            ensure!(!response.test_cases.is_empty(), "no tests");
            Ok(Some(response.test_cases))
        })
        .await
    }

    /// Returns its artifacts.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn artifacts(&self) -> anyhow::Result<Vec<Artifact>> {
        let request = ListArtifactsRequest {
            parent: self.name.clone(),
            page_size: 1000,
            page_token: String::new(),
            ..ListArtifactsRequest::default()
        };
        let response = self.client.artifacts().list_artifacts(request).await?;
        Ok(response.into_inner().artifacts)
    }

    /// Returns the files that are missing, by path.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn missing(&self) -> anyhow::Result<Vec<MissingArtifact>> {
        let request = ListArtifactsRequest {
            parent: self.name.clone(),
            page_size: 1000,
            ..ListArtifactsRequest::default()
        };
        let response = self.client.artifacts().list_artifacts(request).await?;
        Ok(response.into_inner().missing)
    }

    /// Downloads the artifact at `path` and checks its digest.
    ///
    /// # Errors
    ///
    /// When there is none, or its bytes are not those that were collected.
    pub async fn artifact(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let all = self.artifacts().await?;
        let Some(artifact) = all.iter().find(|artifact| artifact.path == path) else {
            let paths: Vec<_> = all.iter().map(|artifact| &artifact.path).collect();
            bail!("no artifact {path} in {paths:?}");
        };
        let request = DownloadArtifactRequest {
            name: artifact.name.clone(),
            offset: 0,
        };
        let mut client = self.client.artifacts();
        let mut stream = client.download_artifact(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(response) = stream.message().await? {
            bytes.extend_from_slice(&response.data);
        }
        let digest = sha256(&bytes);
        ensure!(digest == artifact.sha256, "{path} has changed on its way");
        Ok(bytes)
    }
}

/// Returns the step called `name`.
///
/// # Errors
///
/// When there is none.
pub fn step<'a>(execution: &'a Execution, name: &str) -> anyhow::Result<&'a StepResult> {
    let mut steps = execution.steps.iter();
    steps
        .find(|step| step.display_name == name)
        .with_context(|| format!("no step '{name}' in {}", describe(execution)))
}

/// Says what an execution looks like, for messages of tests.
#[must_use]
pub fn describe(execution: &Execution) -> String {
    let mut text = format!(
        "{} is {:?} {} {}",
        execution.display_name,
        execution.state(),
        execution.reason,
        execution.message
    );
    for step in &execution.steps {
        text.push_str(&format!(
            "\n  {} {:?} {:?} exit {:?} {} {}",
            step.reference,
            step.display_name,
            step.state(),
            step.exit_code,
            step.reason,
            step.message
        ));
    }
    for attempt in &execution.attempts {
        text.push_str(&format!(
            "\n  attempt {} on {}: {} {}",
            attempt.epoch, attempt.agent, attempt.reason, attempt.message
        ));
    }
    text
}

/// Whether a state is an end.
#[must_use]
pub const fn is_terminal(state: State) -> bool {
    matches!(
        state,
        State::Passed | State::Failed | State::Aborted | State::Canceled | State::TimedOut
    )
}
