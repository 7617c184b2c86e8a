//! The newest wish to pause an execution or to let it go on.

use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbErr},
};

use crate::migration;

pub(super) struct AddPauses;

const UP: &str = "
ALTER TABLE executions ADD COLUMN pause_sequence @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN pause_wanted @BOOL@ NOT NULL DEFAULT FALSE;
";

const DOWN: &str = "
ALTER TABLE executions DROP COLUMN pause_wanted;
ALTER TABLE executions DROP COLUMN pause_sequence;
";

impl MigrationName for AddPauses {
    fn name(&self) -> &'static str {
        "m20261126_000003_add_pauses"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddPauses {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let sql = migration::dialect(UP, db.get_database_backend());
        db.execute_unprepared(&sql).await?;
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
