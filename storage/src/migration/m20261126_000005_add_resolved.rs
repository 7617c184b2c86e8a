//! The workflow that an execution ran, for people.

use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbErr},
};

pub(super) struct AddResolved;

const UP: &str = "ALTER TABLE execution_plans ADD COLUMN resolved text";

const DOWN: &str = "ALTER TABLE execution_plans DROP COLUMN resolved";

impl MigrationName for AddResolved {
    fn name(&self) -> &'static str {
        "m20261126_000005_add_resolved"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddResolved {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
