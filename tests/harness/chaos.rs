//! Faults below Kubernetes: the cable of a cluster, and the programs that it is made of. Only the
//! machine that the clusters run on can inject them, so a program of that machine does.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::cluster::Cluster;

/// Names a program with the commands `partition NAME`, `heal NAME` and
/// `component NAME COMPONENT kill|stop|start`; NAME is the current context of a kubeconfig.
pub const CHAOS_VARIABLE: &str = "MUSTER_TEST_CHAOS";

/// The program that injects such faults.
#[derive(Debug, Clone)]
pub struct Chaos {
    program: PathBuf,
}

/// A fault that lasts. It is over at the latest when this is dropped.
#[derive(Debug)]
#[must_use = "the fault is over when this is dropped"]
pub struct Fault {
    chaos: Chaos,
    cure: Option<Vec<String>>,
}

impl Chaos {
    /// The program of `MUSTER_TEST_CHAOS`, if there is one.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let program = std::env::var_os(CHAOS_VARIABLE).filter(|path| !path.is_empty())?;
        Some(Self {
            program: program.into(),
        })
    }

    /// Cuts the link of a cluster: nothing gets in or out.
    ///
    /// # Errors
    ///
    /// When the program fails.
    pub fn partition(&self, cluster: &Cluster) -> anyhow::Result<Fault> {
        self.inject(&["partition", &cluster.name], &["heal", &cluster.name])
    }

    /// Kills a component of a cluster with SIGKILL; it stays away until the fault is over.
    ///
    /// # Errors
    ///
    /// When the program fails.
    pub fn kill(&self, cluster: &Cluster, component: &str) -> anyhow::Result<Fault> {
        let name = &cluster.name;
        self.inject(
            &["component", name, component, "kill"],
            &["component", name, component, "start"],
        )
    }

    fn inject(&self, words: &[&str], cure: &[&str]) -> anyhow::Result<Fault> {
        // Made before: a program that fails half-way leaves a fault, too.
        let fault = Fault {
            chaos: self.clone(),
            cure: Some(cure.iter().map(|&word| word.to_owned()).collect()),
        };
        self.run(words)?;
        Ok(fault)
    }

    fn run<W: AsRef<str>>(&self, words: &[W]) -> anyhow::Result<()> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        // What it starts may live on with its output, so nobody waits for the end of that.
        let status = Command::new(&self.program)
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("starting {}", self.program.display()))?;
        ensure!(
            status.success(),
            "{} {}: {status}",
            self.program.display(),
            words.join(" ")
        );
        Ok(())
    }
}

impl Fault {
    /// Ends it.
    ///
    /// # Errors
    ///
    /// When the program fails.
    pub fn end(mut self) -> anyhow::Result<()> {
        match self.cure.take() {
            Some(cure) => self.chaos.run(&cure),
            None => Ok(()),
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Some(cure) = self.cure.take()
            && let Err(error) = self.chaos.run(&cure)
        {
            eprintln!("a fault is left: {error:#}");
        }
    }
}
