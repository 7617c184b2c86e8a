//! The table `test_results`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "test_results")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub execution_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub identity: Vec<u8>,
    pub project_id: Uuid,
    pub root_id: Uuid,
    pub artifact_id: Uuid,
    pub epoch: i64,
    pub position: i32,
    pub rank: i32,
    pub state: String,
    pub flaky: bool,
    pub tries: i32,
    pub duration: Option<i64>,
    pub run_time: i64,
    pub revision: Option<String>,
    pub message: Option<String>,
    pub kind: Option<String>,
    pub stack: Option<String>,
    pub detail_json: Option<String>,
    pub quarantine_reason: Option<String>,
    pub quarantine_until: Option<i64>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
