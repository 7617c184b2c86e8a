//! The table `executions`.

#![expect(unreachable_pub, reason = "sea-orm derive")]

use sea_orm::entity::prelude::*;

#[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "executions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub project_id: Uuid,
    pub workflow: String,
    pub workflow_revision: i64,
    pub number: i64,
    pub display_name: String,
    pub revision: i64,
    pub state: String,
    pub lease_attempt_id: Option<Uuid>,
    pub lease_epoch: Option<i64>,
    pub stop: Option<String>,
    pub last_epoch: i64,
    pub reason: String,
    pub message: String,
    pub tags_json: String,
    pub labels_json: String,
    pub config_json: String,
    pub target_json: String,
    pub warnings_json: String,
    pub queue_rank: i64,
    pub creator: String,
    pub create_time: i64,
    pub assign_time: Option<i64>,
    pub start_time: Option<i64>,
    pub finish_time: Option<i64>,
    pub queue_deadline: Option<i64>,
    pub log_size: i64,
    pub log_sha256: Option<String>,
    pub log_complete: bool,
    pub artifact_count: i32,
    pub artifact_bytes: i64,
    pub event_count: i64,
    pub parent_id: Option<Uuid>,
    pub parent_attempt_id: Option<Uuid>,
    pub child_group: Option<String>,
    pub child_index: Option<i64>,
    pub child_step: Option<String>,
    pub role: Option<String>,
    pub description: Option<String>,
    pub pause_sequence: i64,
    pub pause_wanted: bool,
    pub lane: Option<Uuid>,
    pub avoid_json: String,
    pub concurrency_group: Option<String>,
    pub concurrency_most: Option<i32>,
    pub policy_json: String,
    pub infrastructure_retries: i32,
    pub test_retries: i32,
    pub lost_agents: i32,
    pub stop_cause: Option<String>,
    pub stage_deadline: Option<i64>,
    pub run_left: Option<i64>,
    pub pinned: bool,
    pub pin_json: Option<String>,
    pub logs_delete_time: Option<i64>,
    pub artifacts_delete_time: Option<i64>,
    pub rerun_json: Option<String>,
    pub child_inputs: Option<String>,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
