//! The faults: which there are, when the next one comes, and how it is injected. Only its own
//! randomness decides, so the same seed brings the same faults in the same order.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use muster_tests::container;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{fleet::Fleet, options::Options, report::Report};

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of a server, which is started again later.
    Server,
    /// The pod of an agent is deleted without any grace.
    AgentPod,
    /// SIGKILL of an agent's process in its pod.
    AgentProcess,
    /// The pod of a test is deleted without any grace.
    TestPod,
    /// SIGKILL of all processes in a conductor's container.
    Conductor,
    /// The link of a cluster is cut for a while.
    Link,
    /// SIGKILL of a component of a cluster, which is started again later.
    Component(&'static str),
}

const BY_KUBERNETES: [Fault; 5] = [
    Fault::Server,
    Fault::AgentPod,
    Fault::AgentProcess,
    Fault::TestPod,
    Fault::Conductor,
];
const BELOW_KUBERNETES: [Fault; 5] = [
    Fault::Link,
    Fault::Component("kubelet"),
    Fault::Component("apiserver"),
    Fault::Component("controllers"),
    Fault::Component("scheduler"),
];

/// Longest time that a fault lasts: less than a lease, so that nothing is lost for it.
const LONGEST: Duration = Duration::from_secs(12);

impl Fault {
    /// Its name in the report.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Server => "server killed".to_owned(),
            Self::AgentPod => "agent's pod deleted".to_owned(),
            Self::AgentProcess => "agent's process killed".to_owned(),
            Self::TestPod => "test's pod deleted".to_owned(),
            Self::Conductor => "conductor killed".to_owned(),
            Self::Link => "link cut".to_owned(),
            Self::Component(name) => format!("{name} killed"),
        }
    }

    /// How many attempts it may end, of so many that are under way.
    fn hits(self, width: u64) -> u64 {
        match self {
            Self::TestPod | Self::Conductor => 1,
            // Containers that are just being started are given up with it.
            Self::Component("kubelet") => width,
            Self::Server
            | Self::AgentPod
            | Self::AgentProcess
            | Self::Link
            | Self::Component(_) => 0,
        }
    }

    /// Injects it and waits until it is over. Whether there was something to hit.
    async fn inject(self, fleet: &Fleet, dice: &mut StdRng) -> anyhow::Result<bool> {
        let target: usize = dice.random_range(0..1000);
        let lasts = Duration::from_millis(dice.random_range(500..as_millis(LONGEST)));
        let site = &fleet.agents[target % fleet.agents.len()];
        match self {
            Self::Server => {
                let server = &fleet.servers[target % fleet.servers.len()];
                let mut server = server.lock().await;
                server.kill()?;
                sleep(lasts).await;
                server.restart().await?;
            }
            Self::AgentPod => site.agent.kill_pod().await?,
            Self::AgentProcess => site.agent.kill_process(&site.helpers).await?,
            Self::TestPod => return delete_a_pod(fleet, target).await,
            Self::Conductor => {
                let running = container::all_running(&site.agent.tests, "conductor").await?;
                let Some(one) = running.get(target % running.len().max(1)) else {
                    return Ok(false);
                };
                // It may end by itself before its turn; the helper finds no process then.
                return Ok(container::kill_all_processes(one, &site.helpers)
                    .await
                    .is_ok());
            }
            Self::Link | Self::Component(_) => {
                let Some(chaos) = &fleet.chaos else {
                    return Ok(false);
                };
                let fault = match self {
                    Self::Component(name) => chaos.kill(&site.cluster, name)?,
                    _ => chaos.partition(&site.cluster)?,
                };
                sleep(lasts).await;
                fault.end()?;
            }
        }
        Ok(true)
    }
}

/// Injects faults until `end`.
pub(crate) async fn inject(fleet: &Fleet, options: Options, end: Instant, report: &Report) {
    let mut dice = StdRng::seed_from_u64(options.seed);
    let mut kinds = BY_KUBERNETES.to_vec();
    if fleet.chaos.is_some() {
        kinds.extend(BELOW_KUBERNETES);
    }
    let mut order = Vec::new();
    loop {
        let wait =
            Duration::from_millis(dice.random_range(1000..=as_millis(options.pause).max(1001)));
        if Instant::now() + wait + LONGEST >= end {
            sleep_until(end).await;
            return;
        }
        sleep(wait).await;
        // Each kind has its turn before one comes again.
        if order.is_empty() {
            order.clone_from(&kinds);
        }
        let fault: Fault = order.swap_remove(dice.random_range(0..order.len()));
        // An API server that is just coming back refuses for a moment.
        let hit = match fault.inject(fleet, &mut dice).await {
            Ok(hit) => hit,
            Err(error) => {
                report.note(&format!("could not inject '{}': {error:#}", fault.name()));
                continue;
            }
        };
        if hit {
            report.fault(&fault.name(), fault.hits(options.width));
        }
    }
}

/// Deletes the pod of any test without any grace.
async fn delete_a_pod(fleet: &Fleet, target: usize) -> anyhow::Result<bool> {
    let site = &fleet.agents[target % fleet.agents.len()];
    let pods = site.agent.tests.api::<Pod>();
    let list = pods.list(&ListParams::default()).await?;
    let Some(pod) = list.items.get(target % list.items.len().max(1)) else {
        return Ok(false);
    };
    let at_once = DeleteParams::default().grace_period(0);
    match pods.delete(&pod.name_any(), &at_once).await {
        Ok(_) => Ok(true),
        // It was done.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn as_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
