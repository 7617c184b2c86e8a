//! Databases of PostgreSQL for tests. They run where `MUSTER_TEST_POSTGRES` is the URL of a server;
//! with `MUSTER_TEST_REQUIRE_SERVERS=1` they fail where that is not set.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::disk::Disk;
use sqlx::{Connection as _, Executor as _};

/// The server, where one is given.
pub(crate) fn server() -> Option<String> {
    given("MUSTER_TEST_POSTGRES")
}

/// The value of a variable that names a server.
pub(crate) fn given(variable: &str) -> Option<String> {
    let server = std::env::var(variable).ok().filter(|url| !url.is_empty());
    let required = std::env::var("MUSTER_TEST_REQUIRE_SERVERS").is_ok_and(|on| on == "1");
    assert!(
        server.is_some() || !required,
        "{variable} is not set, but servers are required"
    );
    server
}

/// A database of its own for a test, dropped by the next one's name never meeting it.
pub(crate) async fn database() -> Option<String> {
    database_with("").await
}

/// The same, made with more words.
pub(crate) async fn database_with(words: &str) -> Option<String> {
    let server = server()?;
    let name = format!("muster_test_{}", uuid::Uuid::now_v7().simple());
    execute(&server, &format!("CREATE DATABASE {name} {words}")).await;
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
        &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", name(url)),
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

/// A place for databases on a small disk of its own.
pub(crate) struct Tablespace {
    pub(crate) name: String,
    pub(crate) disk: Disk,
    _folder: tempfile::TempDir,
}

impl Tablespace {
    /// Makes one, where the server is on this machine and this user can mount.
    pub(crate) async fn mount(bytes: u64) -> Option<Self> {
        let server = server()?;
        let folder = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("its owner is here");
        let disk = Disk::mount(&folder.path().join("disk"), bytes).expect("a disk")?;
        // Whoever the server runs as: it makes a directory of its own there.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(disk.path(), open).expect("its owner is here");
        let location = disk.path().join("space");
        let name = format!("muster_space_{}", uuid::Uuid::now_v7().simple());
        let make = format!("COPY (SELECT 1) TO PROGRAM 'mkdir {}'", location.display());
        execute(&server, &make).await;
        let make = format!("CREATE TABLESPACE {name} LOCATION '{}'", location.display());
        execute(&server, &make).await;
        Some(Self {
            name,
            disk,
            _folder: folder,
        })
    }

    pub(crate) async fn drop(self) {
        let server = server().expect("it is set");
        execute(&server, &format!("DROP TABLESPACE {}", self.name)).await;
    }
}

/// Waits until a database takes no changes from those who connect now.
pub(crate) async fn refuses_writes(url: &str) {
    let mut db = sqlx::PgConnection::connect(url).await.expect("PostgreSQL");
    let show = sqlx::AssertSqlSafe("CREATE TABLE refused (id int)".to_owned());
    db.execute(show).await.expect_err("it takes no changes");
}
