//! What every part of a running agent needs.

use std::{future::Future, sync::Arc};

use muster_core::id::SessionId;
use muster_proto::v1::agent_link_service_client::AgentLinkServiceClient;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    attempts::Attempts, backend::Backend, config::Config, journal::Journal, lease::Leases,
};

/// A client of the server for log and artifacts; apart from the connection of the link, so that
/// neither waits for the other.
pub(crate) type Uplink = AgentLinkServiceClient<InterceptedService<Channel, Bearer>>;

/// Adds the agent's token to a call.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// What every part of a running agent needs.
pub(crate) struct Context {
    /// The settings.
    pub(crate) config: Config,
    /// Id of this process.
    pub(crate) session: SessionId,
    /// All attempts.
    pub(crate) attempts: Arc<Attempts>,
    /// What of them is on disk.
    pub(crate) journal: Arc<Journal>,
    /// How long their leases live.
    pub(crate) leases: Leases,
    /// What runs them.
    pub(crate) backend: Backend,
    /// The way to the server, once there was one.
    pub(crate) uplink: watch::Sender<Option<Uplink>>,
    /// Every task.
    pub(crate) tasks: TaskTracker,
    /// The agent stops.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// Runs a task until it is done or the agent stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}
