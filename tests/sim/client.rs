//! A caller of the public interface.

use muster_proto::v1::{
    execution_service_client::ExecutionServiceClient, log_service_client::LogServiceClient,
};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Puts a token on every call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(pub(crate) String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.0))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// A channel with a token.
pub(crate) type Authed = InterceptedService<Channel, Bearer>;

/// The clients of a caller.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    /// Which server they speak to.
    pub(crate) server: usize,
    pub(crate) executions: ExecutionServiceClient<Authed>,
    pub(crate) logs: LogServiceClient<Authed>,
}

impl Clients {
    /// Clients on one connection to a server.
    pub(crate) fn new(server: usize, channel: Channel, token: &str) -> Self {
        let bearer = Bearer(token.to_owned());
        Self {
            server,
            executions: ExecutionServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            logs: LogServiceClient::with_interceptor(channel, bearer),
        }
    }
}
