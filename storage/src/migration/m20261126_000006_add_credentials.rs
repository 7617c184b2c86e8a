//! Credentials of projects; their values are sealed before they come here.

use sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::{ConnectionTrait, DbErr},
};

use crate::migration;

pub(super) struct AddCredentials;

const UP: &str = "
CREATE TABLE credentials (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name @NAME@ NOT NULL,
  description text NOT NULL,
  revision @LONG@ NOT NULL,
  -- Which key the value is sealed with; the key itself is not in the database.
  key_id @NAME@ NOT NULL,
  sealed @BYTES@ NOT NULL,
  create_time @LONG@ NOT NULL,
  update_time @LONG@ NOT NULL,
  UNIQUE (project_id, name)
) @TABLE@;
CREATE INDEX credentials_by_key ON credentials (key_id);
";

const DOWN: &str = "DROP TABLE credentials";

impl MigrationName for AddCredentials {
    fn name(&self) -> &'static str {
        "m20261126_000006_add_credentials"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddCredentials {
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
