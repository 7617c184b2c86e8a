//! The handle on the database, and the doors to everything in it.
//!
//! How a connection is made is in `store/connect.rs`.

mod checkpoint;
mod connect;
mod disk;
mod suspicion;

use std::sync::{Arc, OnceLock};

use muster_core::{
    clock::Clock,
    id::{AgentId, ProjectId},
};

use sea_orm::{DatabaseConnection, DbBackend};
use uuid::Uuid;

use crate::{
    Error, Unwritable,
    agent::{Agents, Arrival, ByToken, PlaceOf},
    artifact::Artifacts,
    audit::NewAuditEvent,
    credential::{self, Credentials},
    execution::{Executions, KnownLabels, Numbered, Recent, Wanted},
    gather::Gather,
    log::Logs,
    manifest::{self, Manifests},
    migration,
    project::{self, Projects},
    quarantine::Quarantine,
    queue::{self, Giver, Queue},
    report::Reports,
    retention::{Keeper, Retained},
    shared::Read,
    test::Tests,
    token::{self, Tokens},
    work::{LiveOf, Renewal, Told, Work},
};

/// How to connect.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where times come from.
    pub clock: Clock,
    /// Most connections: of the pool for PostgreSQL, which has a quarter as many beside it for searches, at least
    /// two; of the read pool for SQLite, which always has exactly one connection that writes.
    pub max_connections: u32,
    /// How long a call may wait for a connection.
    pub acquire_timeout: std::time::Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            max_connections: 16,
            acquire_timeout: std::time::Duration::from_secs(10),
        }
    }
}

/// The database. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    connections: Arc<connect::Connections>,
    clock: Clock,
    turns: Arc<queue::Turns>,
    gathers: Arc<Gathers>,
    recent: Arc<Recent>,
    labels: Arc<KnownLabels>,
    giver: Arc<OnceLock<Arc<dyn Giver>>>,
    /// Who this server is among those of the database.
    speaker: Uuid,
}

/// Calls that wait for their turn, by kind.
#[derive(Debug, Default)]
pub(crate) struct Gathers {
    pub(crate) numbers: Gather<Numbered>,
    pub(crate) creates: Gather<Wanted>,
    pub(crate) reports: Gather<Told>,
    pub(crate) renewals: Gather<Renewal>,
    pub(crate) live: Gather<LiveOf>,
    pub(crate) arrivals: Gather<Arrival>,
    pub(crate) agents: Gather<ByToken>,
    pub(crate) places: Gather<PlaceOf>,
    pub(crate) tokens: Gather<Read<token::ByHash>>,
    pub(crate) projects: Gather<Read<project::Named>>,
    pub(crate) manifests: Gather<Read<manifest::Named>>,
    pub(crate) audit: Gather<NewAuditEvent>,
}

impl Store {
    /// Connects and brings the schema up to date.
    ///
    /// `sqlite:///absolute/path` makes the file when it is not there, readable by its owner alone;
    /// `postgres://user@host/database` needs a database that exists.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`] for a URL that can not be used, [`Error::UnknownSchema`] when a
    /// newer program has migrated the database; then nothing is changed.
    pub async fn connect(url: &str, options: &Options) -> Result<Self, Error> {
        let recent = Arc::<Recent>::default();
        let connections = connect::connect(url, options, &recent).await?;
        migration::run(&connections.writer)
            .await
            .map_err(|failure| failure.name("migrate the database"))?;
        Ok(Self {
            connections: Arc::new(connections),
            clock: options.clock.clone(),
            turns: Arc::default(),
            gathers: Arc::default(),
            recent,
            labels: Arc::default(),
            giver: Arc::default(),
            speaker: Uuid::new_v4(),
        })
    }

    /// Whether the database answers; for health checks.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<(), Error> {
        self.read("ping the database", || async {
            Ok(self.reader().ping().await?)
        })
        .await
    }

    /// Whether no connection is in use: nothing is read or written through this handle and its
    /// clones now. For simulations, which take their next step when everything has come to rest;
    /// other handles on the same database do not count.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.connections.all().all(connect::is_at_rest)
    }

    /// Ends all connections, after what they do now.
    pub async fn close(self) {
        if let Some(checkpoints) = &self.connections.checkpoints {
            checkpoints.close().await;
        }
        for connection in self.connections.all() {
            if let Err(error) = connection.close_by_ref().await {
                tracing::warn!(%error, "closing the database failed");
            }
        }
    }

    /// Something was committed.
    pub(crate) fn committed(&self) {
        if let Some(checkpoints) = &self.connections.checkpoints {
            checkpoints.want();
        }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.connections.writer.get_database_backend()
    }

    pub(crate) fn suspicion(&self) -> &suspicion::Suspicion {
        &self.connections.suspicion
    }

    /// Why no changes are taken, when SQLite could not use a file and does not say why.
    pub(crate) async fn unwritable(&self) -> Option<Unwritable> {
        disk::unwritable(self.connections.file.as_deref()?).await
    }

    pub(crate) const fn speaker(&self) -> Uuid {
        self.speaker
    }

    pub(crate) fn turns(&self) -> &queue::Turns {
        &self.turns
    }

    /// Sets who may give new executions to agents as they are accepted, for this handle and its
    /// clones. The first one stays.
    pub fn set_giver(&self, giver: Arc<dyn Giver>) {
        if self.giver.set(giver).is_err() {
            tracing::warn!("there is somebody who gives new executions out already");
        }
    }

    pub(crate) fn giver(&self) -> Option<&dyn Giver> {
        self.giver.get().map(|giver| &**giver)
    }

    pub(crate) fn known_labels(&self) -> &KnownLabels {
        &self.labels
    }

    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(crate) fn gathers(&self) -> &Gathers {
        &self.gathers
    }

    pub(crate) fn writer(&self) -> &DatabaseConnection {
        &self.connections.writer
    }

    pub(crate) fn reader(&self) -> &DatabaseConnection {
        &self.connections.reader
    }

    /// The connections for questions that have values in them of which some are rare and some are not: each is
    /// planned for its values.
    pub(crate) fn searcher(&self) -> &DatabaseConnection {
        &self.connections.searcher
    }

    /// The clock that all stored times come from.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// All projects of the instance.
    #[must_use]
    pub const fn projects(&self) -> Projects<'_> {
        Projects { store: self }
    }

    /// All tokens of the instance.
    #[must_use]
    pub const fn tokens(&self) -> Tokens<'_> {
        Tokens { store: self }
    }

    /// All agents of the instance.
    #[must_use]
    pub const fn agents(&self) -> Agents<'_> {
        Agents { store: self }
    }

    /// Sweeps over all projects; for the server itself.
    #[must_use]
    pub const fn queue(&self) -> Queue<'_> {
        Queue { store: self }
    }

    /// What one agent may do.
    #[must_use]
    pub const fn agent(&self, agent: AgentId) -> Work<'_> {
        Work { store: self, agent }
    }

    /// The workflows of a project.
    #[must_use]
    pub const fn workflows(&self, project: ProjectId) -> Manifests<'_> {
        Manifests {
            store: self,
            project,
            kind: manifest::Kind::Workflow,
        }
    }

    /// The templates of a project.
    #[must_use]
    pub const fn templates(&self, project: ProjectId) -> Manifests<'_> {
        Manifests {
            store: self,
            project,
            kind: manifest::Kind::Template,
        }
    }

    /// The executions of a project.
    #[must_use]
    pub const fn executions(&self, project: ProjectId) -> Executions<'_> {
        Executions {
            store: self,
            project,
        }
    }

    /// The artifacts of a project.
    #[must_use]
    pub const fn artifacts(&self, project: ProjectId) -> Artifacts<'_> {
        Artifacts {
            store: self,
            project,
        }
    }

    /// The credentials of a project.
    #[must_use]
    pub const fn credentials(&self, project: ProjectId) -> Credentials<'_> {
        Credentials {
            store: self,
            project,
        }
    }

    /// How many credentials of all projects are sealed with other keys than this one; for the
    /// server itself.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn credentials_under_other_keys(&self, key: &str) -> Result<u64, Error> {
        credential::under_other_keys(self, key).await
    }

    /// The tests of a project that are in quarantine.
    #[must_use]
    pub const fn quarantine(&self, project: ProjectId) -> Quarantine<'_> {
        Quarantine {
            store: self,
            project,
        }
    }

    /// The reports of test tools of a project.
    #[must_use]
    pub const fn reports(&self, project: ProjectId) -> Reports<'_> {
        Reports {
            store: self,
            project,
        }
    }

    /// What is kept of a project, and what goes.
    #[must_use]
    pub const fn retained(&self, project: ProjectId) -> Retained<'_> {
        Retained {
            store: self,
            project,
        }
    }

    /// The tests of a project.
    #[must_use]
    pub const fn tests(&self, project: ProjectId) -> Tests<'_> {
        Tests {
            store: self,
            project,
        }
    }

    /// Whose turn it is to delete, and blobs that are to go, of all projects; for the server itself.
    #[must_use]
    pub const fn keeper(&self) -> Keeper<'_> {
        Keeper { store: self }
    }

    /// The logs of a project.
    #[must_use]
    pub const fn logs(&self, project: ProjectId) -> Logs<'_> {
        Logs {
            store: self,
            project,
        }
    }
}
