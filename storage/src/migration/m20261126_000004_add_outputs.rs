//! Outputs of executions: what their steps gave out, beside the results of the steps.

use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbErr},
};

pub(super) struct AddOutputs;

const UP: &str = "ALTER TABLE execution_steps ADD COLUMN outputs_json text NOT NULL DEFAULT '[]'";

const DOWN: &str = "ALTER TABLE execution_steps DROP COLUMN outputs_json";

impl MigrationName for AddOutputs {
    fn name(&self) -> &'static str {
        "m20261126_000004_add_outputs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddOutputs {
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
