//! The connection to a control plane: clients of all services with the token on every call.

use std::{sync::Arc, time::Duration};

use muster_proto::v1::{
    agent_service_client::AgentServiceClient, artifact_service_client::ArtifactServiceClient,
    audit_service_client::AuditServiceClient, credential_service_client::CredentialServiceClient,
    execution_service_client::ExecutionServiceClient, log_service_client::LogServiceClient,
    project_service_client::ProjectServiceClient, queue_service_client::QueueServiceClient,
    retention_service_client::RetentionServiceClient,
    template_service_client::TemplateServiceClient, test_service_client::TestServiceClient,
    workflow_service_client::WorkflowServiceClient,
};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    error::{self, Error},
    place::Remote,
};

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How often a call is tried while the server is not available.
const TRIES: u32 = 5;
/// Wait before the second try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Adds the token to every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection with a token.
pub(crate) type Service = InterceptedService<Channel, Bearer>;

/// Clients of all services. Clones share the connection, which is made again when it breaks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    service: Service,
    address: Arc<str>,
    project: Arc<str>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when address or token can not be used; [`Error::Unreachable`] when
    /// nobody answers there.
    pub(crate) async fn connect(remote: &Remote, project: &str) -> Result<Self, Error> {
        let endpoint = endpoint(remote)?;
        let bearer = bearer(remote.token.as_deref())?;
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| unreachable(&remote.url, &error::chain(&error)))?;
        Ok(Self {
            service: InterceptedService::new(channel, Bearer(bearer)),
            address: remote.url.as_str().into(),
            project: project.into(),
        })
    }

    /// `projects/{project}`.
    pub(crate) fn parent(&self) -> String {
        format!("projects/{}", self.project)
    }

    /// The resource name of an execution, by its id or short name or the whole name.
    pub(crate) fn execution_name(&self, id: &str) -> Result<String, Error> {
        self.resource_name("executions", id)
    }

    /// The resource name of something in the project.
    pub(crate) fn resource_name(&self, collection: &str, id: &str) -> Result<String, Error> {
        if id.starts_with("projects/") {
            return Ok(id.to_owned());
        }
        if id.is_empty() || id.contains('/') {
            return Err(Error::Usage(format!("'{id}' is not a name")));
        }
        Ok(format!("projects/{}/{collection}/{id}", self.project))
    }

    /// Makes a unary call, again while the server is not available: all calls are safe to
    /// repeat, since reads change nothing and changes carry a request id.
    pub(crate) async fn call<T>(
        &self,
        attempt: impl AsyncFn() -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut wait = FIRST_WAIT;
        for last in (0..TRIES).map(|number| number + 1 == TRIES) {
            match attempt().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if status.code() == Code::Unavailable && !last => {
                    tracing::info!(message = status.message(), "not available, trying again");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(status) => return Err(self.error(&status)),
            }
        }
        Err(unreachable(&self.address, "it does not answer"))
    }

    /// What a refusal of the server means for the user.
    pub(crate) fn error(&self, status: &Status) -> Error {
        match status.code() {
            Code::Unavailable => unreachable(&self.address, status.message()),
            Code::Unauthenticated => Error::Unauthenticated {
                address: self.address.to_string(),
                cause: status.message().to_owned(),
            },
            _ => error::status::refusal(status),
        }
    }

    /// Executions.
    pub(crate) fn executions(&self) -> ExecutionServiceClient<Service> {
        ExecutionServiceClient::new(self.service.clone())
    }

    /// Logs.
    pub(crate) fn logs(&self) -> LogServiceClient<Service> {
        LogServiceClient::new(self.service.clone())
    }

    /// Tests.
    pub(crate) fn tests(&self) -> TestServiceClient<Service> {
        TestServiceClient::new(self.service.clone())
    }

    /// Artifacts.
    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Service> {
        ArtifactServiceClient::new(self.service.clone())
    }

    /// Workflows.
    pub(crate) fn workflows(&self) -> WorkflowServiceClient<Service> {
        WorkflowServiceClient::new(self.service.clone())
    }

    /// Templates.
    pub(crate) fn templates(&self) -> TemplateServiceClient<Service> {
        TemplateServiceClient::new(self.service.clone())
    }

    /// Credentials.
    pub(crate) fn credentials(&self) -> CredentialServiceClient<Service> {
        CredentialServiceClient::new(self.service.clone())
    }

    /// Agents.
    pub(crate) fn agents(&self) -> AgentServiceClient<Service> {
        AgentServiceClient::new(self.service.clone())
    }

    /// Retention.
    pub(crate) fn retention(&self) -> RetentionServiceClient<Service> {
        RetentionServiceClient::new(self.service.clone())
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> AuditServiceClient<Service> {
        AuditServiceClient::new(self.service.clone())
    }

    /// The queue of all projects.
    pub(crate) fn queue(&self) -> QueueServiceClient<Service> {
        QueueServiceClient::new(self.service.clone())
    }

    /// Projects and tokens.
    pub(crate) fn projects(&self) -> ProjectServiceClient<Service> {
        ProjectServiceClient::new(self.service.clone())
    }
}

/// Most items in one page of a list.
pub(crate) const PAGE_SIZE: i32 = 1000;

/// Reads a list to its end. `page` gets the token of a page, empty for the first one, and gives
/// its items and the token of the next, empty behind the last.
pub(crate) async fn pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Error>,
) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (items, next) = page(token).await?;
        all.extend(items);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// A new request id.
pub(crate) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn endpoint(remote: &Remote) -> Result<Endpoint, Error> {
    let bad = |reason: &str| Error::Usage(format!("'{}' {reason}", remote.url));
    let secure = match remote.url.split_once("://") {
        Some(("https", _)) => true,
        Some(("http", _)) => false,
        _ => {
            return Err(bad(
                "is not the address of a server; write https://HOST:PORT",
            ));
        }
    };
    let endpoint = Endpoint::from_shared(remote.url.clone())
        .map_err(|_error| bad("is not an address; write https://HOST:PORT"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(false)
        .tcp_nodelay(true);
    if !secure {
        if remote.authority.is_some() {
            return Err(bad(
                "speaks plain text, so --ca-file proves nothing; write https://",
            ));
        }
        return Ok(endpoint);
    }
    let tls = match &remote.authority {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    endpoint
        .tls_config(tls)
        .map_err(|error| Error::Usage(format!("the certificates can not be used: {error}")))
}

fn bearer(token: Option<&str>) -> Result<Option<MetadataValue<Ascii>>, Error> {
    let Some(token) = token else {
        return Ok(None);
    };
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_error| Error::Usage("the token has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn unreachable(address: &str, cause: &str) -> Error {
    let lower = cause.to_ascii_lowercase();
    let cure = if lower.contains("certificate") || lower.contains("unknownissuer") {
        "give the certificate of its authority by --ca-file"
    } else if lower.contains("corrupt message") || lower.contains("invalidcontenttype") {
        "it does not speak TLS; check whether the address begins with http://"
    } else {
        "check that it runs and that --server is right"
    };
    Error::Unreachable {
        address: address.to_owned(),
        cause: cause.trim_start_matches("transport error: ").to_owned(),
        cure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str) -> Remote {
        Remote {
            url: url.to_owned(),
            token: None,
            authority: None,
        }
    }

    #[test]
    fn an_address_without_scheme_is_refused_with_the_cure() {
        let error = endpoint(&remote("localhost:8080")).unwrap_err();
        assert!(error.to_string().contains("https://HOST:PORT"), "{error}");
    }

    #[test]
    fn a_token_with_a_line_break_is_refused_and_not_shown() {
        let error = bearer(Some("abc\ndef")).unwrap_err();
        assert!(!error.to_string().contains("abc"), "{error}");
    }
}
