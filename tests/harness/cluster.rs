//! The Kubernetes clusters under test.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::program;

/// Kubeconfig files, one per cluster, separated by colons.
pub const KUBECONFIGS_VARIABLE: &str = "MUSTER_TEST_KUBECONFIGS";
/// An address of this machine that pods reach.
pub const HOST_VARIABLE: &str = "MUSTER_TEST_SERVER_HOST";
/// Set to 1 to make a missing cluster a failure.
pub const REQUIRE_VARIABLE: &str = "MUSTER_TEST_REQUIRE_CLUSTER";

/// The clusters, and how pods reach this machine.
#[derive(Debug, Clone)]
pub struct Clusters {
    /// In the order of `MUSTER_TEST_KUBECONFIGS`; at least one.
    pub all: Vec<Cluster>,
    /// Address of this machine that pods of all of them reach.
    pub host: IpAddr,
}

/// One cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its kubeconfig file.
    pub kubeconfig: PathBuf,
    /// Name of the kubeconfig's current context.
    pub name: String,
}

impl Clusters {
    /// Returns the clusters of the environment. Without any, says so on standard error and
    /// returns nothing, so that the test can return.
    ///
    /// # Errors
    ///
    /// When there are none but `MUSTER_TEST_REQUIRE_CLUSTER` asks for them, or the variables
    /// can not be read.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        let Some(list) = std::env::var_os(KUBECONFIGS_VARIABLE).filter(|list| !list.is_empty())
        else {
            if std::env::var(REQUIRE_VARIABLE).is_ok_and(|value| value == "1") {
                bail!("{REQUIRE_VARIABLE} is 1 but {KUBECONFIGS_VARIABLE} is not set");
            }
            eprintln!("skipped: {KUBECONFIGS_VARIABLE} is not set");
            return Ok(None);
        };
        program::install_tls_provider();
        let mut all = Vec::new();
        for kubeconfig in std::env::split_paths(&list) {
            let parsed = Kubeconfig::read_from(&kubeconfig)
                .with_context(|| format!("reading {}", kubeconfig.display()))?;
            let name = parsed.current_context.context("no current context")?;
            all.push(Cluster { kubeconfig, name });
        }
        let host = std::env::var(HOST_VARIABLE)
            .with_context(|| format!("set {HOST_VARIABLE} to an address that pods reach"))?
            .parse()
            .with_context(|| format!("{HOST_VARIABLE} is not an IP address"))?;
        Ok(Some(Self { all, host }))
    }
}

impl Cluster {
    /// Connects to its API server.
    ///
    /// # Errors
    ///
    /// When the kubeconfig can not be used.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        let parsed = Kubeconfig::read_from(&self.kubeconfig)?;
        let config =
            kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}
