//! The table `doomed_blobs`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "doomed_blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub project_id: Uuid,
    pub create_time: i64,
    pub next_time: i64,
    pub attempt_id: Option<Uuid>,
    pub size: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
