//! Brings the schema up to date at every start, or refuses a database that a newer program made.
//!
//! A migration that was released is frozen: it declares its own SQL and never uses entities.

mod m20261123_000001_create_tables;
mod m20261124_000002_add_children;
mod m20261126_000003_add_pauses;
mod m20261126_000004_add_outputs;
mod m20261126_000005_add_resolved;
mod m20261126_000006_add_credentials;
mod m20261127_000007_add_scheduling;
mod m20261127_000008_add_missing_artifacts;
mod m20261127_000009_lighten_executions;
mod m20261128_000010_seal_logs;
mod m20261128_000011_extend_artifacts;
mod m20261128_000012_limit_logs;
mod m20261128_000013_audit_and_search;
mod m20261128_000014_add_retention;
mod m20261128_000015_add_tests;
mod m20261128_000016_add_quarantine;
mod m20261128_000017_add_reruns;
mod m20261128_000019_add_direct_uploads;
mod m20261128_000020_quicken_tests;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{
    MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait, sea_orm::DbErr,
};

use crate::{Error, transaction::Failure};

/// One lock for all servers that migrate the same PostgreSQL database; the number is arbitrary.
const ADVISORY_LOCK: i64 = 0x006d_7573_7465_7201;

/// A migration that is nothing but statements. Words in capitals between @ are types that differ
/// between the databases; what stands behind `@POSTGRES@` or `@SQLITE@` in a line
/// is for that one alone.
struct Sql {
    /// Its file's name.
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

impl MigrationName for Sql {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Sql {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let sql = dialect(self.up, db.get_database_backend());
        db.execute_unprepared(&sql).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let sql = dialect(self.down, db.get_database_backend());
        db.execute_unprepared(&sql).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_create_tables::CreateTables),
            Box::new(m20261124_000002_add_children::MIGRATION),
            Box::new(m20261126_000003_add_pauses::MIGRATION),
            Box::new(m20261126_000004_add_outputs::MIGRATION),
            Box::new(m20261126_000005_add_resolved::MIGRATION),
            Box::new(m20261126_000006_add_credentials::MIGRATION),
            Box::new(m20261127_000007_add_scheduling::MIGRATION),
            Box::new(m20261127_000008_add_missing_artifacts::MIGRATION),
            Box::new(m20261127_000009_lighten_executions::MIGRATION),
            Box::new(m20261128_000010_seal_logs::MIGRATION),
            Box::new(m20261128_000011_extend_artifacts::MIGRATION),
            Box::new(m20261128_000012_limit_logs::MIGRATION),
            Box::new(m20261128_000013_audit_and_search::MIGRATION),
            Box::new(m20261128_000014_add_retention::MIGRATION),
            Box::new(m20261128_000015_add_tests::MIGRATION),
            Box::new(m20261128_000016_add_quarantine::MIGRATION),
            Box::new(m20261128_000017_add_reruns::MIGRATION),
            Box::new(m20261128_000019_add_direct_uploads::MIGRATION),
            Box::new(m20261128_000020_quicken_tests::MIGRATION),
        ]
    }
}

/// Migrates all the way up in one transaction, so that a failure changes nothing and servers
/// that start together wait for each other.
pub(crate) async fn run(db: &DatabaseConnection) -> Result<(), Failure> {
    let backend = db.get_database_backend();
    let tx = db
        .begin_with_options(TransactionOptions {
            sqlite_transaction_mode: (backend == DbBackend::Sqlite)
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        })
        .await?;
    if backend == DbBackend::Postgres {
        tx.execute_unprepared(&format!(
            "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
        ))
        .await?;
    }
    refuse_unknown(&tx).await?;
    Migrator::up(&tx, None).await?;
    tx.commit().await?;
    Ok(())
}

/// Refuses a database whose schema this program does not know: changed by a newer one.
async fn refuse_unknown(db: &DatabaseTransaction) -> Result<(), Failure> {
    let schema = SchemaManager::new(db);
    if !schema.has_table("seaql_migrations").await? {
        if schema.has_table("executions").await? {
            return Err(Error::UnknownSchema {
                migration: "(none, yet there are tables)".to_owned(),
            }
            .into());
        }
        return Ok(());
    }
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let applied = Migrator::get_migration_models(db).await?;
    match applied
        .into_iter()
        .find(|model| !known.contains(&model.version))
    {
        Some(model) => Err(Error::UnknownSchema {
            migration: model.version,
        }
        .into()),
        None => Ok(()),
    }
}

/// Fills in the types that differ between the databases.
fn dialect(sql: &str, backend: DbBackend) -> String {
    let postgres = backend == DbBackend::Postgres;
    let pick = |for_postgres: &'static str, for_sqlite: &'static str| {
        if postgres { for_postgres } else { for_sqlite }
    };
    sql.replace("@UUID@", pick("uuid", "blob"))
        .replace("@BYTES@", pick("bytea", "blob"))
        .replace("@LONG@", pick("bigint", "integer"))
        .replace("@BOOL@", pick("boolean", "integer"))
        // Ordered by bytes in both, whatever the locale of the database is.
        .replace("@NAME@", pick("text COLLATE \"C\"", "text"))
        .replace("@TABLE@", pick("", "STRICT"))
        // The rest of the line is a comment.
        .replace("@POSTGRES@", pick("", "--"))
        .replace("@SQLITE@", pick("--", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store};

    #[tokio::test]
    async fn every_migration_can_be_taken_back_and_done_again() {
        let folder = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}", folder.path().join("muster.db").display());
        let store = Store::connect(&url, &Options::default()).await;
        let store = store.expect("a database");
        Migrator::down(store.writer(), None).await.expect("down");
        let schema = SchemaManager::new(store.writer());
        assert!(!schema.has_table("projects").await.expect("a look"));
        run(store.writer()).await.expect("up again");
        assert_eq!(
            store
                .projects()
                .list(None, 9)
                .await
                .expect("a list")
                .items
                .len(),
            1
        );
    }
}
