//! The table `artifacts`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "artifacts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub execution_id: Uuid,
    pub attempt_id: Uuid,
    pub path: String,
    pub size: i64,
    pub sha256: String,
    pub content_type: String,
    pub mode: i32,
    pub step: String,
    pub blob: String,
    pub create_time: i64,
    pub preview: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
