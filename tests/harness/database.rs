//! A database on a PostgreSQL server, made for one test and dropped with it.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::postgres::execute;

/// A role of a PostgreSQL server that may make databases, as a URL.
pub const POSTGRES_VARIABLE: &str = "MUSTER_TEST_POSTGRES";

/// A database.
#[derive(Debug)]
pub struct Database {
    /// By which a server finds it.
    pub url: String,
    server: String,
    name: String,
}

impl Database {
    /// Makes a database on the server of `MUSTER_TEST_POSTGRES`; nothing when none is named.
    ///
    /// # Errors
    ///
    /// When the server does not make it.
    pub async fn from_environment() -> anyhow::Result<Option<Self>> {
        let Ok(server) = std::env::var(POSTGRES_VARIABLE) else {
            return Ok(None);
        };
        if server.is_empty() {
            return Ok(None);
        }
        Self::create(&server).await.map(Some)
    }

    /// Makes a database on the server that `server`, a URL with any database, names.
    ///
    /// # Errors
    ///
    /// When the server does not make it.
    pub async fn create(server: &str) -> anyhow::Result<Self> {
        let (host, _) = server.rsplit_once('/').context("a URL with a database")?;
        let name = format!("muster_whole_{}", Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await?;
        Ok(Self {
            url: format!("{host}/{name}"),
            server: server.to_owned(),
            name,
        })
    }

    /// Asks it for one number.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn count(&self, query: &'static str) -> anyhow::Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let count = sqlx::query_scalar(query).fetch_one(&mut connection).await;
        connection.close().await?;
        Ok(count?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.clone();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The runtime of the test may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(execute(&server, &statement))
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("database {} may be left: {dropped:?}", self.name);
        }
    }
}
