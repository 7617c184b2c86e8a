//! A database and a data directory for each case, copied from one that a server has set up.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;
use muster_core::clock::Clock;
use muster_proto::v1::{CreateAgentRequest, agent_service_client::AgentServiceClient};
use muster_server::Config;

use crate::{
    agent::{AGENTS, LEASE, RENEW},
    client::Bearer,
    crash::Crashed,
    servers::{Outcome, Servers},
};

/// The variable that names a PostgreSQL server, as for the suite of the storage.
const POSTGRES: &str = "MUSTER_TEST_POSTGRES";

/// Where databases of cases come from.
#[derive(Debug)]
pub(crate) struct Template {
    dir: tempfile::TempDir,
    postgres: Option<Postgres>,
    cases: AtomicU32,
    /// How many servers a case has.
    pub(crate) servers: usize,
    pub(crate) admin: String,
    /// Tokens of the agents, in the order of [`AGENTS`].
    pub(crate) agents: Vec<String>,
}

/// A database to copy on a PostgreSQL server.
#[derive(Debug)]
struct Postgres {
    server: String,
    name: String,
}

/// The database of one case, dropped with it.
#[derive(Debug)]
pub(crate) struct Database {
    dir: tempfile::TempDir,
    postgres: Option<Postgres>,
}

/// When every case begins.
pub(crate) fn clock() -> Clock {
    let start = "2026-11-23T12:00:00Z".parse();
    Clock::manual(start.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

impl Template {
    /// Sets up a database on SQLite.
    pub(crate) fn sqlite() -> anyhow::Result<Self> {
        Self::make(None, 1)
    }

    /// Sets up a database on PostgreSQL, where one is given, for so many servers.
    pub(crate) fn postgres(servers: usize) -> anyhow::Result<Option<Self>> {
        let Some(server) = muster_tests::given::server(POSTGRES)? else {
            return Ok(None);
        };
        let name = format!("muster_sim_{}", uuid::Uuid::now_v7().simple());
        execute(&server, &format!("CREATE DATABASE {name}"))?;
        Self::make(Some(Postgres { server, name }), servers).map(Some)
    }

    fn make(postgres: Option<Postgres>, servers: usize) -> anyhow::Result<Self> {
        let dir = directory()?;
        let mut only = Servers::new(1, None);
        only.start(0, config(dir.path(), postgres.as_ref(), 0), clock())?;
        let channel = only.channel(0).ok_or_else(no_crash)?;
        let admin = fs::read_to_string(dir.path().join("admin-token"))?;
        let admin = admin.trim().to_owned();
        let mut client = AgentServiceClient::with_interceptor(channel, Bearer(admin.clone()));
        let mut agents = Vec::new();
        for (name, _) in AGENTS {
            let new = CreateAgentRequest {
                agent_id: name.to_owned(),
                ..CreateAgentRequest::default()
            };
            match only.run(0, None, client.create_agent(new))? {
                Ok(Outcome::Done(made)) => agents.push(made?.into_inner().token),
                Ok(Outcome::Left) | Err(Crashed) => return Err(no_crash()),
            }
        }
        only.stop(0)?;
        Ok(Self {
            dir,
            postgres,
            cases: AtomicU32::new(0),
            servers,
            admin,
            agents,
        })
    }

    /// A fresh copy.
    pub(crate) fn copy(&self) -> anyhow::Result<Database> {
        let dir = directory()?;
        copy(self.dir.path(), dir.path()).context("copy the data directory")?;
        let postgres = match &self.postgres {
            None => None,
            Some(Postgres { server, name }) => {
                let number = self.cases.fetch_add(1, Ordering::SeqCst);
                let copy = format!("{name}_{number}");
                execute(server, &format!("CREATE DATABASE {copy} TEMPLATE {name}"))?;
                Some(Postgres {
                    server: server.clone(),
                    name: copy,
                })
            }
        };
        Ok(Database { dir, postgres })
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        drop_database(self.postgres.as_ref());
    }
}

impl Database {
    /// The set-up of a server on it.
    pub(crate) fn config(&self, server: usize) -> Config {
        config(self.dir.path(), self.postgres.as_ref(), server)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop_database(self.postgres.as_ref());
    }
}

fn no_crash() -> anyhow::Error {
    anyhow::anyhow!("the server died, which nobody wanted")
}

/// Each server has a directory of its own, and one place for blobs with the others.
fn config(dir: &Path, postgres: Option<&Postgres>, server: usize) -> Config {
    let data_dir = match server {
        0 => dir.to_owned(),
        _ => dir.join(format!("server-{server}")),
    };
    let mut config = Config::new(data_dir);
    config.blobs = Some(format!("file://{}", dir.join("blobs").display()));
    config.credential_key_file = (server > 0).then(|| dir.join("credential-key"));
    config.listen.set_port(0);
    config.lease_duration = LEASE;
    config.renew_interval = RENEW;
    config.database_connections = 4;
    config.database = postgres.map(|Postgres { server, name }| with_database(server, name));
    config
}

/// In memory where the machine has a place for that: files are synced all the time.
fn directory() -> io::Result<tempfile::TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let builder = tempfile::Builder::new().prefix("muster-sim-").to_owned();
    match memory.is_dir() {
        true => builder.tempdir_in(memory),
        false => builder.tempdir(),
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn execute(server: &str, statement: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(muster_tests::postgres::execute(server, statement))
}

fn drop_database(postgres: Option<&Postgres>) {
    if let Some(Postgres { server, name }) = postgres
        && let Err(error) = execute(server, &format!("DROP DATABASE {name} WITH (FORCE)"))
    {
        eprintln!("{name} stays: {error}");
    }
}

/// The URL of another database on the same server.
fn with_database(server: &str, name: &str) -> String {
    let (address, query) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = address.split_once("://").unwrap_or(("postgres", address));
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}/{name}?{query}")
}
