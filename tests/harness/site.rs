//! What most tests of the cluster suite need: a server, a namespace, and an agent outside of the
//! cluster that runs Jobs in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;

use crate::{
    agent::Agent, cluster::Clusters, control_plane::ControlPlane, namespace::Namespace, run::Run,
};

/// A server with one agent and one namespace.
#[derive(Debug)]
pub struct Site {
    /// The agent; killed before the server is.
    pub agent: Agent,
    /// The server.
    pub server: ControlPlane,
    /// Where the agent makes Jobs.
    pub namespace: Namespace,
    /// All clusters.
    pub clusters: Clusters,
}

impl Site {
    /// Opens a site in the next cluster, with a namespace that enforces the Pod Security
    /// Standard `level`. Returns nothing when there are no clusters to test on.
    ///
    /// # Errors
    ///
    /// When server, agent or cluster do not come up.
    pub async fn open(level: &str) -> anyhow::Result<Option<Self>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let Some(clusters) = Clusters::from_environment()? else {
            return Ok(None);
        };
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % clusters.all.len();
        let namespace = Namespace::create(&clusters.all[turn], level).await?;
        let server = ControlPlane::start_at(clusters.host).await?;
        let agent = Agent::of_cluster(&server, "outside", &clusters, &namespace).await?;
        Ok(Some(Self {
            agent,
            server,
            namespace,
            clusters,
        }))
    }

    /// Starts a workflow.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub async fn start(&self, manifest: &str) -> anyhow::Result<Run> {
        let run = self.server.client.start(manifest, None).await;
        run.context("the server refused the workflow")
    }
}
