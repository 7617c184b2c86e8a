//! The limit beside which `lifecycle` is read: how many executions a second the bare database
//! takes, in the same run and on the same disk. Rows are those that Muster wrote, with ids of their
//! own, into a database with the same schema; each is inserted with its plan, steps and first event,
//! and then claimed: found by the queue's index, updated, with its attempt and event. Statements
//! carry [`BATCH`] rows, and nothing else is done: no gRPC, no compiler, no reports.

use std::time::Instant;

use anyhow::Context as _;
use muster_storage::{Options, Store};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Row as _, TypeInfo as _,
};
use tempfile::TempDir;
use uuid::Uuid;

/// Rows of one statement.
const BATCH: usize = 256;
/// Connections that write at a time; SQLite has one writer.
const POSTGRES_WRITERS: usize = 4;

/// A value as it was read.
#[derive(Debug, Clone)]
enum Cell {
    Null,
    Bool(bool),
    Integer(i32),
    Long(i64),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
}

/// A row that stands for all of its table.
#[derive(Debug, Clone)]
struct Sample {
    table: &'static str,
    columns: Vec<String>,
    cells: Vec<Cell>,
}

impl Sample {
    /// The same row with other values in some columns.
    fn with(&self, changes: &[(&str, Cell)]) -> Vec<Cell> {
        let mut cells = self.cells.clone();
        for (name, cell) in changes {
            if let Some(at) = self.columns.iter().position(|column| column == name) {
                cells[at] = cell.clone();
            }
        }
        cells
    }
}

/// Measures the bare database of the kind that a server has used, with a row of it.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn measure(
    database: Option<&str>,
    file: &str,
    count: usize,
) -> anyhow::Result<f64> {
    match database {
        None => {
            let folder = TempDir::with_prefix("muster-limit-")?;
            let url = format!("sqlite://{}", folder.path().join("limit.db").display());
            prepare(&url).await?;
            lite::measure(&format!("sqlite://{file}"), &url, count, 1).await
        }
        Some(url) => {
            let (server, _) = url.rsplit_once('/').context("a URL with a database")?;
            let name = format!("muster_limit_{}", Uuid::new_v4().simple());
            let own = format!("{server}/{name}");
            let mut admin = sqlx::PgConnection::connect(url).await?;
            let create = format!("CREATE DATABASE {name}");
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut admin)
                .await?;
            prepare(&own).await?;
            let measured = postgres::measure(url, &own, count, POSTGRES_WRITERS).await;
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            sqlx::raw_sql(AssertSqlSafe(drop))
                .execute(&mut admin)
                .await?;
            measured
        }
    }
}

/// Adds executions like one of a workflow that waits to the database of a server.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn fill(
    database: Option<&str>,
    file: &str,
    workflow: &str,
    count: usize,
) -> anyhow::Result<()> {
    match database {
        None => lite::fill(&format!("sqlite://{file}"), workflow, count).await,
        Some(url) => postgres::fill(url, workflow, count).await,
    }
}

/// The schema.
async fn prepare(url: &str) -> anyhow::Result<()> {
    Store::connect(url, &Options::default())
        .await?
        .close()
        .await;
    Ok(())
}

/// The rest is the same for both, but their drivers share no types.
macro_rules! measured {
    ($module:ident, $database:ty, $connection:ty, $options:ty, $lock:literal, $settings:expr) => {
        mod $module {
            use super::*;

            pub(super) async fn measure(
                from: &str,
                to: &str,
                count: usize,
                writers: usize,
            ) -> anyhow::Result<f64> {
                let mut from = <$connection>::connect(from).await?;
                let samples = samples(&mut from, "lifecycle", "passed").await?;
                let project = project(to).await?;
                let rounds = count.div_ceil(BATCH * writers);
                let begin = Instant::now();
                let all = (0..writers).map(async |writer| {
                    let mut to = open(to).await?;
                    for round in 0..rounds {
                        insert(
                            &mut to,
                            &samples,
                            project.clone(),
                            (round * writers + writer) * BATCH,
                        )
                        .await?;
                        claim(&mut to, &samples).await?;
                    }
                    // Beside others it may have found less than it inserted.
                    while claim(&mut to, &samples).await? > 0 {}
                    anyhow::Ok(())
                });
                futures::future::try_join_all(all).await?;
                #[expect(clippy::cast_precision_loss, reason = "a small number")]
                let done = (rounds * writers * BATCH) as f64;
                Ok(done / begin.elapsed().as_secs_f64())
            }

            pub(super) async fn fill(
                url: &str,
                workflow: &str,
                count: usize,
            ) -> anyhow::Result<()> {
                let mut connection = open(url).await?;
                let samples = samples(&mut connection, workflow, "queued").await?;
                let first = &samples[0];
                let at = first
                    .columns
                    .iter()
                    .position(|column| column == "project_id");
                let project = first.cells[at.context("no project")?].clone();
                for round in 0..count.div_ceil(BATCH) {
                    // Behind the number of the one that they are made after.
                    let number = round * BATCH + 2;
                    insert(&mut connection, &samples, project.clone(), number).await?;
                }
                Ok(())
            }

            async fn open(url: &str) -> anyhow::Result<$connection> {
                let options: $options = url.parse()?;
                let options = options.disable_statement_logging();
                let mut connection = <$connection>::connect_with(&options).await?;
                let settings: &[&'static str] = &$settings;
                for setting in settings {
                    sqlx::raw_sql(*setting).execute(&mut connection).await?;
                }
                Ok(connection)
            }

            async fn project(url: &str) -> anyhow::Result<Cell> {
                let row = sqlx::query("SELECT id FROM projects LIMIT 1")
                    .fetch_one(&mut open(url).await?)
                    .await?;
                cell(&row, 0)
            }

            /// A row of each table, of an execution in this state; no attempt where it has none.
            async fn samples(
                from: &mut $connection,
                workflow: &str,
                state: &str,
            ) -> anyhow::Result<[Sample; 5]> {
                let mut sql = sqlx::QueryBuilder::<$database>::new("SELECT id FROM executions ");
                sql.push("WHERE workflow = ").push_bind(workflow.to_owned());
                sql.push(" AND state = ").push_bind(state.to_owned());
                sql.push(" ORDER BY id LIMIT 1");
                let id = sql.build().fetch_one(&mut *from).await?;
                let id = cell(&id, 0)?;
                let mut all = Vec::new();
                for (table, key) in [
                    ("executions", "id"),
                    ("execution_plans", "execution_id"),
                    ("execution_steps", "execution_id"),
                    ("execution_events", "execution_id"),
                    ("attempts", "execution_id"),
                ] {
                    let mut sql = sqlx::QueryBuilder::<$database>::new("");
                    sql.push(format!("SELECT * FROM {table} WHERE {key} = "));
                    bind(&mut sql, id.clone());
                    let Some(row) = sql.build().fetch_optional(&mut *from).await? else {
                        all.push(Sample {
                            table,
                            columns: Vec::new(),
                            cells: Vec::new(),
                        });
                        continue;
                    };
                    let columns = row.columns().iter();
                    all.push(Sample {
                        table,
                        columns: columns.map(|column| column.name().to_owned()).collect(),
                        cells: (0..row.len())
                            .map(|at| cell(&row, at))
                            .collect::<Result<_, _>>()?,
                    });
                }
                all.try_into()
                    .map_err(|_all| anyhow::anyhow!("not all tables"))
            }

            fn bind(sql: &mut sqlx::QueryBuilder<$database>, cell: Cell) {
                match cell {
                    Cell::Null => sql.push("NULL"),
                    Cell::Bool(it) => sql.push_bind(it),
                    Cell::Integer(it) => sql.push_bind(it),
                    Cell::Long(it) => sql.push_bind(it),
                    Cell::Text(it) => sql.push_bind(it),
                    Cell::Bytes(it) => sql.push_bind(it),
                    Cell::Id(it) => sql.push_bind(it),
                };
            }

            async fn insert_all(
                to: &mut $connection,
                sample: &Sample,
                rows: Vec<Vec<Cell>>,
            ) -> anyhow::Result<()> {
                let mut sql = sqlx::QueryBuilder::<$database>::new("INSERT INTO ");
                sql.push(format!(
                    "{} ({}) VALUES ",
                    sample.table,
                    sample.columns.join(", ")
                ));
                values(&mut sql, rows);
                sql.build().execute(to).await?;
                Ok(())
            }

            fn values(sql: &mut sqlx::QueryBuilder<$database>, rows: Vec<Vec<Cell>>) {
                for (number, row) in rows.into_iter().enumerate() {
                    sql.push(if number == 0 { "(" } else { ", (" });
                    for (at, cell) in row.into_iter().enumerate() {
                        if at > 0 {
                            sql.push(", ");
                        }
                        bind(sql, cell);
                    }
                    sql.push(")");
                }
            }

            async fn insert(
                to: &mut $connection,
                [executions, plans, steps, events, _]: &[Sample; 5],
                project: Cell,
                first: usize,
            ) -> anyhow::Result<()> {
                let ids: Vec<Cell> = (0..BATCH).map(|_| id()).collect();
                let mut tx = to.begin().await?;
                let rows = ids.iter().zip(first..).map(|(id, number)| {
                    executions.with(&[
                        ("id", id.clone()),
                        ("project_id", project.clone()),
                        ("number", Cell::Long(i64::try_from(number).unwrap_or(0))),
                        ("display_name", Cell::Text(format!("limit-{number}"))),
                        ("state", Cell::Text("queued".to_owned())),
                        ("lease_attempt_id", Cell::Null),
                        ("lease_epoch", Cell::Null),
                        ("finish_time", Cell::Null),
                        ("stage_deadline", Cell::Null),
                    ])
                });
                insert_all(&mut tx, executions, rows.collect()).await?;
                for sample in [plans, steps, events] {
                    let rows = ids.iter().map(|id| {
                        sample.with(&[("execution_id", id.clone()), ("sequence", Cell::Long(1))])
                    });
                    insert_all(&mut tx, sample, rows.collect()).await?;
                }
                tx.commit().await?;
                Ok(())
            }

            async fn claim(
                to: &mut $connection,
                [_, _, _, events, attempts]: &[Sample; 5],
            ) -> anyhow::Result<usize> {
                let mut tx = to.begin().await?;
                let sql = concat!(
                    "SELECT id, project_id FROM executions WHERE state = 'queued' \
                     ORDER BY project_id, lane, queue_rank, id LIMIT 256 ",
                    $lock
                );
                let rows = sqlx::query(sql).fetch_all(&mut *tx).await?;
                if rows.is_empty() {
                    return Ok(0);
                }
                let claimed = rows
                    .iter()
                    .map(|row| Ok((cell(row, 0)?, cell(row, 1)?, id())));
                let claimed: Vec<(Cell, Cell, Cell)> = claimed.collect::<anyhow::Result<_>>()?;
                let mut sql = sqlx::QueryBuilder::<$database>::new(
                    "UPDATE executions SET state = 'assigned', revision = 2, event_count = 2, \
                     lease_epoch = 1, lease_attempt_id = new.column2 FROM (VALUES ",
                );
                let pairs = claimed
                    .iter()
                    .map(|(id, _, attempt)| vec![id.clone(), attempt.clone()]);
                values(&mut sql, pairs.collect());
                sql.push(") AS new WHERE executions.id = new.column1");
                sql.build().execute(&mut *tx).await?;
                let rows = claimed.iter().map(|(execution, project, attempt)| {
                    attempts.with(&[
                        ("id", attempt.clone()),
                        ("execution_id", execution.clone()),
                        ("project_id", project.clone()),
                        ("status", Cell::Text("live".to_owned())),
                    ])
                });
                insert_all(&mut tx, attempts, rows.collect()).await?;
                let rows = claimed.iter().map(|(execution, ..)| {
                    events.with(&[
                        ("execution_id", execution.clone()),
                        ("sequence", Cell::Long(2)),
                    ])
                });
                insert_all(&mut tx, events, rows.collect()).await?;
                tx.commit().await?;
                Ok(claimed.len())
            }

            fn cell(row: &<$database as sqlx::Database>::Row, at: usize) -> anyhow::Result<Cell> {
                use sqlx::ValueRef as _;
                let value = row.try_get_raw(at)?;
                if value.is_null() {
                    return Ok(Cell::Null);
                }
                let name = value.type_info().name().to_owned();
                Ok(match name.as_str() {
                    "BOOL" | "BOOLEAN" => Cell::Bool(row.try_get(at)?),
                    "INT4" => Cell::Integer(row.try_get(at)?),
                    "INT8" | "INTEGER" => Cell::Long(row.try_get_unchecked(at)?),
                    "UUID" => Cell::Id(row.try_get(at)?),
                    "BYTEA" | "BLOB" => Cell::Bytes(row.try_get(at)?),
                    _ => Cell::Text(row.try_get(at)?),
                })
            }

            fn id() -> Cell {
                let id = Uuid::now_v7();
                match stringify!($module) {
                    "lite" => Cell::Bytes(id.as_bytes().to_vec()),
                    _ => Cell::Id(id),
                }
            }
        }
    };
}

measured!(
    lite,
    sqlx::Sqlite,
    sqlx::SqliteConnection,
    sqlx::sqlite::SqliteConnectOptions,
    "",
    [
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA cache_size = -16384",
        "PRAGMA wal_autocheckpoint = 16384"
    ]
);
measured!(
    postgres,
    sqlx::Postgres,
    sqlx::PgConnection,
    sqlx::postgres::PgConnectOptions,
    "FOR UPDATE SKIP LOCKED",
    []
);
