//! The first schema, and the default project.

use muster_core::{clock::Clock, id::ProjectId};
use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbErr, Statement},
};

use crate::{migration, project, time};

pub(super) struct CreateTables;

const SQL: &str = include_str!("m20261123_000001_create_tables.sql");

/// Children before their parents.
const TABLES: [&str; 16] = [
    "artifacts",
    "log_segments",
    "attempts",
    "execution_events",
    "execution_tags",
    "execution_steps",
    "execution_plans",
    "executions",
    "counters",
    "manifest_revisions",
    "manifests",
    "requests",
    "agents",
    "tokens",
    "projects",
    "instance",
];

impl MigrationName for CreateTables {
    fn name(&self) -> &'static str {
        "m20261123_000001_create_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateTables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let backend = db.get_database_backend();
        db.execute_unprepared(&migration::dialect(SQL, backend))
            .await?;
        db.execute_raw(Statement::from_sql_and_values(
            backend,
            "INSERT INTO projects (id, name, display_name, create_time) VALUES ($1, $2, $3, $4)",
            [
                ProjectId::generate().as_uuid().into(),
                project::DEFAULT.into(),
                "Default".into(),
                time::millis(Clock::system().now()).into(),
            ],
        ))
        .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in TABLES {
            db.execute_unprepared(&format!("DROP TABLE {table}"))
                .await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
