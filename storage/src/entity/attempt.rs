//! The table `attempts`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub execution_id: Uuid,
    pub project_id: Uuid,
    pub agent_id: Uuid,
    pub agent_name: String,
    pub epoch: i64,
    pub status: String,
    pub phase: Option<String>,
    pub sequence: i64,
    pub lease_expire_time: i64,
    pub create_time: i64,
    pub start_time: Option<i64>,
    pub finish_time: Option<i64>,
    pub reason: String,
    pub message: String,
    pub log_offset: i64,
    pub log_size: Option<i64>,
    pub log_sha256: Option<String>,
    pub log_ended: bool,
    pub log_complete: bool,
    pub address: Option<String>,
    pub ready: Option<bool>,
    pub steps_json: Option<String>,
    pub lost_after: i64,
    pub lose_time: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
