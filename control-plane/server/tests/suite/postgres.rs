//! Databases of PostgreSQL for tests. They run where `MUSTER_TEST_POSTGRES` is the URL of a server;
//! with `MUSTER_TEST_REQUIRE_SERVERS=1` they fail where that is not set.

use muster_tests::given;
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
    let done = muster_tests::postgres::execute(server, statement).await;
    done.expect("it is done");
}

/// Lets a database take no changes, or take them again.
pub(crate) async fn make_read_only(url: &str, read_only: bool) {
    let server = server().expect("it is set");
    let made = muster_tests::postgres::make_read_only(&server, name(url), read_only).await;
    made.expect("it is done");
}

/// Waits until a database takes no changes from those who connect now.
pub(crate) async fn refuses_writes(url: &str) {
    let mut db = sqlx::PgConnection::connect(url).await.expect("PostgreSQL");
    let show = sqlx::AssertSqlSafe("CREATE TABLE refused (id int)".to_owned());
    db.execute(show).await.expect_err("it takes no changes");
}
