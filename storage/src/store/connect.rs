//! Opening the database: URLs, connection settings, and errors that name the cure.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{DatabaseConnection, DbBackend, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::{
    ConnectOptions, Executor as _, PgConnection, Postgres, Row as _, Sqlite,
    pool::PoolOptions,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous},
};

use super::{Options, checkpoint::Checkpoints, suspicion::Suspicion};
use crate::{Error, error::Source, execution::Recent};

/// How long SQLite waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to open a file that another process makes.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How long PostgreSQL may work on one statement.
const STATEMENT_TIMEOUT: &str = "30s";
/// How many statements a connection remembers.
const STATEMENTS: usize = 400;
/// The same of the connection that writes to SQLite, which has one for each number of rows.
const WRITES: usize = 1500;
/// How much of the file the connection that writes to SQLite keeps, in KiB; negative says that it is no number of
/// pages.
const CACHE: &str = "-16384";
/// How many pages of 4 KiB SQLite's log has before a commit writes them to their places, which is done
/// beside the commits before that.
const CHECKPOINT: &str = "16384";
/// How many rows SQLite reads ahead of who takes them: what a transaction for many reads at most.
const ROWS: usize = 512;
/// For so many connections PostgreSQL has one more for searches, so that those never hold up leases.
const SEARCHERS: u32 = 4;
/// A connection that was idle for longer is tried before it is used.
const PING_AFTER: Duration = Duration::from_secs(2);
/// How long a transaction of a client that hangs may hold its locks.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "60s";

/// Connections for writing and for reading; the same pool for PostgreSQL.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) writer: DatabaseConnection,
    pub(super) reader: DatabaseConnection,
    /// For what is searched; the same as for reading for SQLite.
    pub(super) searcher: DatabaseConnection,
    pub(super) suspicion: Suspicion,
    /// For SQLite.
    pub(super) checkpoints: Option<Checkpoints>,
    /// The file of a SQLite database.
    pub(super) file: Option<PathBuf>,
}

impl Connections {
    /// All pools; one may be there twice.
    pub(super) fn all(&self) -> impl Iterator<Item = &DatabaseConnection> {
        [&self.reader, &self.searcher, &self.writer].into_iter()
    }
}

/// Connects. `recent` is cleared with each new connection: an older copy of the database may be
/// behind it.
pub(super) async fn connect(
    url: &str,
    options: &Options,
    recent: &Arc<Recent>,
) -> Result<Connections, Error> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        return sqlite(Path::new(path), options, recent).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(url, options, recent).await;
    }
    Err(refuse(
        place(url),
        "not a database URL; use sqlite:///absolute/path or postgres://user@host/database",
        None,
    ))
}

async fn sqlite(
    path: &Path,
    options: &Options,
    recent: &Arc<Recent>,
) -> Result<Connections, Error> {
    let place = format!("sqlite://{}", path.display());
    if !path.is_absolute() {
        let reason = "the path is not absolute; write sqlite:/// and the whole path";
        return Err(refuse(place, reason, None));
    }
    make_private_file(path).map_err(|error| {
        let reason = "the database file can not be made; create its directory and make it writable";
        refuse(place.clone(), reason, Some(error.into()))
    })?;
    let settings = SqliteConnectOptions::new()
        .filename(path)
        // What was acknowledged survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("temp_store", "memory")
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS)
        .disable_statement_logging();
    let failed = |error: sqlx::Error| {
        let reason = "the file can not be opened as a SQLite database; name another file, or check its permissions and its disk";
        refuse(place.clone(), reason, Some(error.into()))
    };
    let suspicion = Suspicion::new();
    let doubts = suspicion.clone();
    // One connection writes: with several, writers wait in sleeps for each other.
    let writer = open_sqlite(
        &pool(options, 1, recent).before_acquire(move |_, _| {
            let good = doubts.is_writer_good();
            Box::pin(async move { Ok(good) })
        }),
        &settings
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            .statement_cache_capacity(WRITES)
            .pragma("cache_size", CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT),
    )
    .await
    .map_err(failed)?;
    let reader = open_sqlite(
        &pool(options, options.max_connections.max(1), recent),
        &settings.clone().pragma("query_only", "on"),
    )
    .await
    .map_err(failed)?;
    let keeper = pool(options, 1, recent).connect_lazy_with(settings.clone());
    let reader = SqlxSqliteConnector::from_sqlx_sqlite_pool(reader);
    Ok(Connections {
        checkpoints: Some(Checkpoints::start(keeper)),
        writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        searcher: reader.clone(),
        reader,
        suspicion,
        file: Some(path.to_owned()),
    })
}

/// Opens the file, and again while another process makes it: SQLite does not wait by itself for the
/// lock that changing to the write-ahead log needs.
async fn open_sqlite(
    pool: &PoolOptions<Sqlite>,
    settings: &SqliteConnectOptions,
) -> Result<SqlitePool, sqlx::Error> {
    let give_up = Instant::now() + BUSY_TIMEOUT;
    loop {
        match pool.clone().connect_with(settings.clone()).await {
            Err(error) if is_busy(&error) && Instant::now() < give_up => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok());
    // An extended code has the plain one in its low byte; 5 is SQLITE_BUSY, 6 SQLITE_LOCKED.
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// SQLite gives its own files beside the database the same permissions.
fn make_private_file(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
}

async fn postgres(
    url: &str,
    options: &Options,
    recent: &Arc<Recent>,
) -> Result<Connections, Error> {
    let place = place(url);
    let settings: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        let reason = "not a URL of PostgreSQL; use postgres://user:password@host:5432/database";
        refuse(place.clone(), reason, Some(error.into()))
    })?;
    let settings = settings
        .application_name("muster")
        .statement_cache_capacity(STATEMENTS)
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            // No statement is so long that compiling it pays.
            ("jit", "off"),
            (
                "idle_in_transaction_session_timeout",
                IDLE_IN_TRANSACTION_TIMEOUT,
            ),
        ])
        .disable_statement_logging();
    let suspicion = Suspicion::new();
    let tried = |pool: PoolOptions<Postgres>| {
        let doubts = suspicion.clone();
        pool.before_acquire(move |connection, about| {
            let try_it = about.idle_for > PING_AFTER || doubts.holds();
            Box::pin(async move { Ok(!try_it || is_outside_of_transactions(connection).await?) })
        })
    };
    // What is searched for says which index is good: a plan for any value would read a table of millions
    // for one that is rare. All else is found by keys, and one plan does.
    let searching = settings
        .clone()
        .options([("plan_cache_mode", "force_custom_plan")]);
    let searchers = (options.max_connections / SEARCHERS).max(2);
    let searcher = tried(plain_pool(options, searchers)).connect_lazy_with(searching);
    let pool = tried(pool(options, options.max_connections.max(2), recent))
        .connect_with(settings)
        .await
        .map_err(|error| {
            let reason = postgres_cure(&error);
            refuse(place, reason, Some(error.into()))
        })?;
    let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
    Ok(Connections {
        checkpoints: None,
        writer: connection.clone(),
        reader: connection,
        searcher: SqlxPostgresConnector::from_sqlx_postgres_pool(searcher),
        suspicion,
        file: None,
    })
}

/// Whether a connection answers, and is in no transaction: one whose `BEGIN` nobody waited for is.
async fn is_outside_of_transactions(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In one message: a statement alone begins with its transaction.
    let alone = sqlx::raw_sql("SELECT now() = statement_timestamp()");
    connection.fetch_one(alone).await?.try_get(0)
}

/// Whether all connections of a pool are idle.
pub(super) fn is_at_rest(connection: &DatabaseConnection) -> bool {
    let (all, idle) = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            let pool = connection.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle())
        }
        _ => {
            let pool = connection.get_postgres_connection_pool();
            (pool.size(), pool.num_idle())
        }
    };
    usize::try_from(all).is_ok_and(|all| all == idle)
}

fn postgres_cure(error: &sqlx::Error) -> &'static str {
    let code = error
        .as_database_error()
        .and_then(|error| error.code())
        .unwrap_or_default();
    match &*code {
        "3D000" => "the database is not there; make it with createdb",
        "28P01" | "28000" => "PostgreSQL refuses the user or the password; correct them in the URL",
        "53300" => "PostgreSQL has no connection left; raise its max_connections or use fewer here",
        _ => {
            "PostgreSQL can not be reached; check host, port and TLS mode (sslmode) in the URL, and that it runs"
        }
    }
}

fn pool<DB: sqlx::Database>(options: &Options, size: u32, recent: &Arc<Recent>) -> PoolOptions<DB> {
    let recent = Arc::clone(recent);
    plain_pool(options, size).after_connect(move |_, _| {
        recent.clear();
        Box::pin(async { Ok(()) })
    })
}

/// A pool that nothing is remembered from.
fn plain_pool<DB: sqlx::Database>(options: &Options, size: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(size)
        .acquire_timeout(options.acquire_timeout)
        // A ping before each use would double the round trips.
        .test_before_acquire(false)
}

fn refuse(place: String, reason: &str, source: Option<Source>) -> Error {
    Error::Configuration {
        place,
        reason: reason.to_owned(),
        source,
    }
}

/// The URL without user, password and parameters, fit for a message.
fn place(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => "database".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_shows_no_credentials() {
        assert_eq!(
            place("postgres://me:secret@host:5432/db?password=x"),
            "postgres://host:5432/db"
        );
        assert_eq!(place("me:secret"), "database");
    }
}
