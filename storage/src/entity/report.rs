//! The table `reports`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub artifact_id: Uuid,
    pub project_id: Uuid,
    pub execution_id: Uuid,
    pub root_id: Uuid,
    pub epoch: i64,
    pub path: String,
    pub format: String,
    pub state: String,
    pub message: String,
    pub passed: i64,
    pub failed: i64,
    pub errors: i64,
    pub skipped: i64,
    pub flaky: i64,
    pub duration: Option<i64>,
    pub summary_json: String,
    pub create_time: i64,
    pub quarantined: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
