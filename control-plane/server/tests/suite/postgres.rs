//! Databases of PostgreSQL for tests. They run where `MUSTER_TEST_POSTGRES` is the URL of a server;
//! with `MUSTER_TEST_REQUIRE_SERVERS=1` they fail where that is not set.

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use muster_tests::{disk::Disk, given};
use sqlx::{Connection as _, Executor as _};

/// The server, where one is given.
pub(crate) fn server() -> Option<String> {
    given::server("MUSTER_TEST_POSTGRES").expect("it is given where it is required")
}

/// A database of its own for a test, dropped by the next one's name never meeting it.
pub(crate) async fn database() -> Option<String> {
    let server = server()?;
    let name = format!("muster_test_{}", uuid::Uuid::now_v7().simple());
    execute(&server, &format!("CREATE DATABASE {name}")).await;
    let (address, query) = server.split_once('?').unwrap_or((&server, ""));
    let (scheme, rest) = address.split_once("://").expect("a URL");
    let host = rest.split('/').next().expect("a host");
    Some(format!("{scheme}://{host}/{name}?{query}"))
}

/// The name of the database in its URL.
pub(crate) fn name(url: &str) -> &str {
    let name = url.rsplit_once('/').expect("a URL").1;
    name.split('?').next().expect("a name")
}

pub(crate) async fn drop_database(url: &str) {
    let server = server().expect("it is set");
    execute(
        &server,
        &format!("DROP DATABASE {} WITH (FORCE)", name(url)),
    )
    .await;
}

/// Does one thing as the administrator.
pub(crate) async fn execute(server: &str, statement: &str) {
    let mut admin = sqlx::PgConnection::connect(server)
        .await
        .expect("PostgreSQL");
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    admin.execute(statement).await.expect("it is done");
}

/// Lets a database take no changes, or take them again, for connections that are there too: they
/// are ended, as by a server that became a standby.
pub(crate) async fn make_read_only(url: &str, read_only: bool) {
    let (server, name) = (server().expect("it is set"), name(url));
    let value = if read_only { "on" } else { "off" };
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    execute(&server, &set).await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    execute(&server, &end).await;
}

/// A PostgreSQL server of one test alone, with a place for databases on a small disk. Not on the
/// server that others use: a full disk keeps all its databases from being made and dropped.
pub(crate) struct SmallServer {
    server: Child,
    /// A database on that disk.
    pub(crate) url: String,
    pub(crate) disk: Disk,
    _folder: tempfile::TempDir,
}

impl SmallServer {
    /// Starts one, where PostgreSQL is installed and this user can mount.
    pub(crate) async fn start(bytes: u64) -> Option<Self> {
        server()?;
        let Some(programs) = programs() else {
            assert!(
                !given::is_required(),
                "PostgreSQL is not installed, but servers are required"
            );
            return None;
        };
        let folder = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("its owner is here");
        let (disk, data) = (folder.path().join("disk"), folder.path().join("data"));
        let disk = Disk::mount(&disk, bytes).expect("a disk")?;
        let space = disk.path().join("space");
        for owned in [&data, &space] {
            let made = Command::new("install")
                .args(["-d", "-o", "postgres", "-g", "postgres", "-m", "0700"])
                .arg(owned)
                .status();
            assert!(made.expect("it runs").success(), "{owned:?} is made");
        }
        let made = as_postgres(&programs.join("initdb"), &data)
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"])
            .stdout(Stdio::null())
            .status();
        assert!(made.expect("it runs").success(), "a cluster is made");
        let port = muster_tests::port::free(Ipv4Addr::LOCALHOST.into()).expect("a port");
        let sockets = format!("unix_socket_directories={}", data.display());
        let server = as_postgres(&programs.join("postgres"), &data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", &format!("port={port}"), "-c", &sockets])
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut small = Self {
            server,
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            disk,
            _folder: folder,
        };
        muster_tests::wait::until("PostgreSQL answers", async || {
            Ok(sqlx::PgConnection::connect(&small.url).await.ok())
        })
        .await
        .expect("it starts");
        let make = format!("CREATE TABLESPACE small LOCATION '{}'", space.display());
        execute(&small.url, &make).await;
        execute(&small.url, "CREATE DATABASE muster TABLESPACE small").await;
        small.url = format!("postgres://postgres@127.0.0.1:{port}/muster");
        Some(small)
    }
}

impl Drop for SmallServer {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// Where the newest PostgreSQL of this machine has its programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.filter(|bin| bin.join("initdb").exists()).max()
}

/// A program of PostgreSQL, which does not run as root.
fn as_postgres(program: &Path, data: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--clear-groups",
        ])
        .arg(program)
        .arg("-D")
        .arg(data)
        .current_dir(data);
    command
}

/// Waits until a database takes no changes from those who connect now.
pub(crate) async fn refuses_writes(url: &str) {
    let mut db = sqlx::PgConnection::connect(url).await.expect("PostgreSQL");
    let show = sqlx::AssertSqlSafe("CREATE TABLE refused (id int)".to_owned());
    db.execute(show).await.expect_err("it takes no changes");
}
