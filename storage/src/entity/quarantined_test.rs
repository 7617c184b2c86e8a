//! The table `quarantined_tests`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantined_tests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub identity: Vec<u8>,
    pub workflow: String,
    pub reason: String,
    pub creator: String,
    pub revision: i64,
    pub create_time: i64,
    pub expire_time: i64,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
