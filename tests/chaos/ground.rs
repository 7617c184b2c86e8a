//! A cluster of its own for each test, because a fault hits all that runs there; with a server on
//! this machine and an agent in the cluster.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use muster_proto::v1::{ExecutionEvent, ListExecutionEventsRequest};
use muster_tests::{
    chaos::Chaos,
    cluster::{Cluster, Clusters},
    control_plane::{ControlPlane, Options},
    installation::Installation,
    run::Run,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::dice::Dice;

/// Set to 1 to make a missing program for faults a failure.
const REQUIRE_VARIABLE: &str = "MUSTER_TEST_REQUIRE_CHAOS";
/// A lease that is over soon.
pub(crate) const SHORT_LEASE: [&str; 4] = ["--lease-duration", "9s", "--renew-interval", "3s"];
/// Most clusters that are used.
const MOST: usize = 4;

static CLUSTERS: [Mutex<()>; MOST] = [const { Mutex::const_new(()) }; MOST];

/// What a test stands on. What stands first is dropped first.
pub(crate) struct Ground {
    /// The agent in the cluster.
    pub(crate) agent: Installation,
    /// The server.
    pub(crate) server: ControlPlane,
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// By which faults are injected.
    pub(crate) chaos: Chaos,
    /// When, and for how long.
    pub(crate) dice: Dice,
    _alone: MutexGuard<'static, ()>,
}

impl Ground {
    /// Waits for a cluster that no other test has and installs all of it. Returns nothing where
    /// there is no cluster, or no program for faults.
    pub(crate) async fn open(arguments: &[&str]) -> anyhow::Result<Option<Self>> {
        Self::open_with(Options::of(arguments)).await
    }

    /// The same with all options of the server.
    pub(crate) async fn open_with(options: Options) -> anyhow::Result<Option<Self>> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let Some(clusters) = Clusters::from_environment()? else {
            return Ok(None);
        };
        let Some(chaos) = Chaos::from_environment() else {
            if std::env::var(REQUIRE_VARIABLE).is_ok_and(|value| value == "1") {
                bail!("{REQUIRE_VARIABLE} is 1 but there is no program for faults");
            }
            eprintln!("skipped: there is no program for faults");
            return Ok(None);
        };
        let most = clusters.all.len().min(MOST);
        let free = (0..most).find_map(|turn| Some((turn, CLUSTERS[turn].try_lock().ok()?)));
        let (turn, alone) = match free {
            Some(free) => free,
            None => {
                let turn = NEXT.fetch_add(1, Ordering::Relaxed) % most;
                (turn, CLUSTERS[turn].lock().await)
            }
        };
        let cluster = clusters.all[turn].clone();
        let server = ControlPlane::start_as(clusters.host, options).await?;
        let agent = Installation::apply(&server, "inside", &cluster).await?;
        agent.ready().await?;
        Ok(Some(Self {
            agent,
            server,
            cluster,
            chaos,
            dice: Dice::of_this_test()?,
            _alone: alone,
        }))
    }

    /// Starts a workflow.
    pub(crate) async fn start(&self, manifest: &str) -> anyhow::Result<Run> {
        let run = self.server.client.start(manifest, None).await;
        run.context("the server refused the workflow")
    }

    /// The name of the only pod of a test, and where it is.
    pub(crate) async fn only_pod(&self) -> anyhow::Result<(Api<Pod>, String)> {
        let pods = self.agent.tests.api::<Pod>();
        let list = pods.list(&ListParams::default()).await?;
        let name = list.items.first().context("no pod")?.name_any();
        Ok((pods, name))
    }

    /// The history of an execution.
    pub(crate) async fn history(&self, run: &Run) -> anyhow::Result<Vec<ExecutionEvent>> {
        let request = ListExecutionEventsRequest {
            parent: run.name.clone(),
            page_size: 1000,
            page_token: String::new(),
        };
        let mut client = self.server.client.executions();
        let response = client.list_execution_events(request).await?;
        Ok(response.into_inner().events)
    }
}

/// Proves that an execution had but one attempt.
pub(crate) async fn expect_one_attempt(run: &Run) -> anyhow::Result<()> {
    let attempts = run.now().await?.attempts;
    ensure!(attempts.len() == 1, "{attempts:?}");
    Ok(())
}
