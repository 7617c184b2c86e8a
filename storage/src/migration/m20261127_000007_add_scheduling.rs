//! What scheduling needs: lanes of the queue, shares and quotas of projects, cordoned agents,
//! policies with what is spent of them, and deadlines of every stage.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261127_000007_add_scheduling",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE projects ADD COLUMN weight integer NOT NULL DEFAULT 1;
ALTER TABLE projects ADD COLUMN max_running integer;
ALTER TABLE projects ADD COLUMN max_queued integer;
ALTER TABLE projects ADD COLUMN max_per_minute integer;
ALTER TABLE projects ADD COLUMN paused @BOOL@ NOT NULL DEFAULT FALSE;
ALTER TABLE projects ADD COLUMN pause_message text NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN policy_json text NOT NULL DEFAULT '{}';
ALTER TABLE agents ADD COLUMN cordoned @BOOL@ NOT NULL DEFAULT FALSE;
ALTER TABLE agents ADD COLUMN cordon_message text NOT NULL DEFAULT '';
-- Processes of it whose place a later one has taken: they do not come back.
ALTER TABLE agents ADD COLUMN superseded_json text NOT NULL DEFAULT '[]';
-- Those with the same lane wait for the same; the id of a lane is a digest of what that is.
ALTER TABLE executions ADD COLUMN lane @UUID@;
UPDATE executions SET lane = id WHERE state = 'queued';
ALTER TABLE executions ADD COLUMN avoid_json text NOT NULL DEFAULT '[]';
ALTER TABLE executions ADD COLUMN concurrency_group @NAME@;
ALTER TABLE executions ADD COLUMN concurrency_most integer;
ALTER TABLE executions ADD COLUMN policy_json text NOT NULL DEFAULT '{}';
ALTER TABLE executions ADD COLUMN infrastructure_retries integer NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN test_retries integer NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN lost_agents integer NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN stop_cause text;
-- When what it does now has taken too long: to start, to run, to end.
ALTER TABLE executions ADD COLUMN stage_deadline @LONG@;
-- What is left of its time to run while it is paused, in milliseconds.
ALTER TABLE executions ADD COLUMN run_left @LONG@;
CREATE INDEX executions_by_create_time ON executions (project_id, create_time);
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (project_id, lane, queue_rank, id)
  WHERE state = 'queued';
CREATE INDEX executions_stage_deadline ON executions (stage_deadline)
  WHERE stage_deadline IS NOT NULL;
CREATE INDEX executions_leased_by_group ON executions (project_id, concurrency_group)
  WHERE concurrency_group IS NOT NULL AND lease_epoch IS NOT NULL;
CREATE INDEX executions_open_by_group ON executions (project_id, concurrency_group, id)
  WHERE concurrency_group IS NOT NULL AND finish_time IS NULL;
-- The results of its steps, when another attempt has taken its place.
ALTER TABLE attempts ADD COLUMN steps_json text;
-- How long after the end of its lease it counts as lost, in milliseconds, and when that is.
ALTER TABLE attempts ADD COLUMN lost_after @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN lose_time @LONG@ NOT NULL DEFAULT 0;
UPDATE attempts SET lose_time = lease_expire_time WHERE status = 'live';
DROP INDEX attempts_live_by_expiry;
CREATE INDEX attempts_live_by_lose_time ON attempts (lose_time) WHERE status = 'live';
CREATE INDEX attempts_live_by_project ON attempts (project_id) WHERE status = 'live';
";

const DOWN: &str = "
DROP INDEX attempts_live_by_project;
DROP INDEX attempts_live_by_lose_time;
CREATE INDEX attempts_live_by_expiry ON attempts (lease_expire_time) WHERE status = 'live';
ALTER TABLE attempts DROP COLUMN steps_json;
ALTER TABLE attempts DROP COLUMN lose_time;
ALTER TABLE attempts DROP COLUMN lost_after;
DROP INDEX executions_open_by_group;
DROP INDEX executions_leased_by_group;
DROP INDEX executions_stage_deadline;
DROP INDEX executions_by_create_time;
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (queue_rank, id) WHERE state = 'queued';
ALTER TABLE executions DROP COLUMN run_left;
ALTER TABLE executions DROP COLUMN stage_deadline;
ALTER TABLE executions DROP COLUMN stop_cause;
ALTER TABLE executions DROP COLUMN lost_agents;
ALTER TABLE executions DROP COLUMN test_retries;
ALTER TABLE executions DROP COLUMN infrastructure_retries;
ALTER TABLE executions DROP COLUMN policy_json;
ALTER TABLE executions DROP COLUMN concurrency_most;
ALTER TABLE executions DROP COLUMN concurrency_group;
ALTER TABLE executions DROP COLUMN avoid_json;
ALTER TABLE executions DROP COLUMN lane;
ALTER TABLE agents DROP COLUMN superseded_json;
ALTER TABLE agents DROP COLUMN cordon_message;
ALTER TABLE agents DROP COLUMN cordoned;
ALTER TABLE projects DROP COLUMN policy_json;
ALTER TABLE projects DROP COLUMN pause_message;
ALTER TABLE projects DROP COLUMN paused;
ALTER TABLE projects DROP COLUMN max_per_minute;
ALTER TABLE projects DROP COLUMN max_queued;
ALTER TABLE projects DROP COLUMN max_running;
ALTER TABLE projects DROP COLUMN weight;
";
