//! The table `projects`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "projects")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub display_name: String,
    pub create_time: i64,
    pub weight: i32,
    pub max_running: Option<i32>,
    pub max_queued: Option<i32>,
    pub max_per_minute: Option<i32>,
    pub paused: bool,
    pub pause_message: String,
    pub policy_json: String,
    pub max_log: Option<i64>,
    pub max_log_rate: Option<i64>,
    pub max_log_rate_each: Option<i64>,
    pub retention_json: String,
    pub hold_until: Option<i64>,
    pub hold_message: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
