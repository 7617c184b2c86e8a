//! The table `agents`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub token_hash: Vec<u8>,
    pub labels_json: String,
    pub projects_json: String,
    pub session_id: Option<Uuid>,
    pub told_labels_json: String,
    pub version: String,
    pub backend: String,
    pub capacity: i32,
    pub capabilities_json: String,
    pub create_time: i64,
    pub last_seen_time: Option<i64>,
    pub cordoned: bool,
    pub cordon_message: String,
    pub superseded_json: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
