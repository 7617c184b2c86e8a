//! All that runs: two servers over one database and one blob store, and an agent in each cluster.

use std::{net::IpAddr, time::Duration};

use anyhow::Context as _;
use muster_tests::{
    chaos::Chaos,
    cluster::{Cluster, Clusters},
    control_plane::{ControlPlane, Options},
    database::{Database, POSTGRES_VARIABLE},
    installation::Installation,
    namespace::Namespace,
    run::Client,
};
use tempfile::TempDir;
use tokio::sync::Mutex;
use uuid::Uuid;

/// How soon a server that was killed is missed, at least.
const LEASE: Duration = Duration::from_secs(30);

/// The whole installation. What stands first is stopped first.
pub(crate) struct Fleet {
    /// An agent in each cluster.
    pub(crate) agents: Vec<Site>,
    /// Servers, each killed and started by whoever holds it.
    pub(crate) servers: Vec<Mutex<ControlPlane>>,
    /// A client of each server.
    pub(crate) clients: Vec<Client>,
    /// What both servers store in.
    pub(crate) database: Database,
    /// Faults below Kubernetes, where a program for them is given.
    pub(crate) chaos: Option<Chaos>,
    /// Blobs, where there is no S3 store.
    _blobs: TempDir,
}

/// One cluster and its agent.
pub(crate) struct Site {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// The agent.
    pub(crate) agent: Installation,
    /// Where pods may do everything, to kill processes.
    pub(crate) helpers: Namespace,
}

impl Fleet {
    /// Starts all of it.
    pub(crate) async fn start(clusters: &Clusters) -> anyhow::Result<Self> {
        let database = Database::from_environment().await?;
        let database = database.with_context(|| format!("{POSTGRES_VARIABLE} is not set"))?;
        let blobs = TempDir::with_prefix("muster-soak-")?;
        let servers = servers(clusters.host, &database, &blobs).await?;
        let mut agents = Vec::new();
        for (number, cluster) in clusters.all.iter().enumerate() {
            let server = &servers[number % servers.len()];
            let name = format!("soak-{number}");
            let agent = Installation::apply(server, &name, cluster).await?;
            let helpers = Namespace::create(cluster, "privileged").await?;
            let cluster = cluster.clone();
            agents.push(Site {
                cluster,
                agent,
                helpers,
            });
        }
        Ok(Self {
            agents,
            clients: servers.iter().map(|server| server.client.clone()).collect(),
            servers: servers.into_iter().map(Mutex::new).collect(),
            database,
            chaos: Chaos::from_environment(),
            _blobs: blobs,
        })
    }

    /// A client; a later turn gets that of another server.
    pub(crate) fn client(&self, turn: usize) -> &Client {
        &self.clients[turn % self.clients.len()]
    }
}

async fn servers(
    host: IpAddr,
    database: &Database,
    blobs: &TempDir,
) -> anyhow::Result<Vec<ControlPlane>> {
    let url = match std::env::var("MUSTER_TEST_S3") {
        Ok(url) if !url.is_empty() => below(&url),
        _ => format!("file://{}", blobs.path().display()),
    };
    let lease = format!("{}s", LEASE.as_secs());
    let arguments = ["--database", &database.url, "--lease-duration", &lease];
    let options = Options::of(&arguments).with_blobs(&url);
    let first = ControlPlane::start_as(host, options).await?;
    let second = first.beside(host).await?;
    Ok(vec![first, second])
}

/// A folder of its own in the bucket of a URL.
fn below(url: &str) -> String {
    let (bucket, query) = url.split_once('?').unwrap_or((url, ""));
    let folder = Uuid::new_v4().simple();
    format!("{}/soak-{folder}?{query}", bucket.trim_end_matches('/'))
}
