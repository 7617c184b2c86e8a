//! The command line of a conductor; what is secret comes in its environment.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{halt, spool};
use crate::{
    arguments::{Arguments, Error},
    volumes::Volumes,
};

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Variable in which the cluster tells the namespace of the pod.
const NAMESPACE: &str = "MUSTER_NAMESPACE";

#[derive(Debug)]
pub(super) struct Options {
    /// Directory of the attempt, when steps are children of this process.
    pub(super) sandbox: Option<PathBuf>,
    pub(super) die_with_parent: bool,
    pub(super) namespaces: bool,
    pub(super) spool: Option<PathBuf>,
    pub(super) spool_limit: u64,
    pub(super) grace: Duration,
    pub(super) after_grace: Duration,
    /// Address that a service of this machine has for itself.
    pub(super) address: Option<String>,
}

impl Options {
    pub(super) fn parse(mut arguments: Arguments) -> Result<Self, Error> {
        let mut options = Self {
            sandbox: None,
            die_with_parent: false,
            namespaces: true,
            spool: None,
            spool_limit: spool::LIMIT,
            grace: GRACE,
            after_grace: halt::AFTER_GRACE,
            address: None,
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--sandbox" => options.sandbox = Some(arguments.path(&name)?),
                "--die-with-parent" => options.die_with_parent = true,
                "--no-namespaces" => options.namespaces = false,
                "--spool" => options.spool = Some(arguments.path(&name)?),
                "--spool-limit" => options.spool_limit = arguments.number(&name)?,
                "--grace" => options.grace = arguments.duration(&name)?,
                "--after-grace" => options.after_grace = arguments.duration(&name)?,
                "--address" => options.address = Some(arguments.text(&name)?),
                _ => return Err(Error::Unknown(name)),
            }
        }
        Ok(options)
    }

    /// Namespace of the pod; empty on a machine.
    pub(super) fn namespace(&self) -> String {
        let told = std::env::var(NAMESPACE).ok();
        told.filter(|_| self.sandbox.is_none()).unwrap_or_default()
    }

    fn real(&self, path: &str) -> PathBuf {
        let volumes = self
            .sandbox
            .as_ref()
            .map_or_else(Volumes::in_place, Volumes::below);
        volumes.real(Path::new(path))
    }

    /// Where the log waits until it is durable.
    pub(super) fn spool_directory(&self) -> PathBuf {
        self.spool
            .clone()
            .unwrap_or_else(|| self.real("/.muster/spool"))
    }

    /// Where shims connect to.
    pub(super) fn socket(&self) -> PathBuf {
        self.real("/.muster/run/conductor.sock")
    }
}
