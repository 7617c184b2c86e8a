//! What is kept, and what goes: choices of projects and workflows, pins, holds, what of an execution was
//! deleted, and blobs whose rows are gone.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000014_add_retention",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE projects ADD COLUMN retention_json text NOT NULL DEFAULT '{}';
ALTER TABLE projects ADD COLUMN hold_until @LONG@;
ALTER TABLE projects ADD COLUMN hold_message text NOT NULL DEFAULT '';
ALTER TABLE manifests ADD COLUMN retention_json text NOT NULL DEFAULT '{}';
ALTER TABLE executions ADD COLUMN pinned @BOOL@ NOT NULL DEFAULT FALSE;
ALTER TABLE executions ADD COLUMN pin_json text;
ALTER TABLE executions ADD COLUMN logs_delete_time @LONG@;
ALTER TABLE executions ADD COLUMN artifacts_delete_time @LONG@;
-- All that retention and sums of space ask of executions that have ended, so that they read nothing else.
CREATE INDEX executions_over ON executions (project_id, workflow, id, parent_id, state, finish_time,
  log_size, artifact_bytes, pinned, logs_delete_time, artifacts_delete_time)
  WHERE finish_time IS NOT NULL;
-- Blobs that no row names any more and that are still there.
CREATE TABLE doomed_blobs (
  key @NAME@ PRIMARY KEY,
  project_id @UUID@ NOT NULL,
  create_time @LONG@ NOT NULL,
  -- Not to be tried before.
  next_time @LONG@ NOT NULL
) @TABLE@;
CREATE INDEX doomed_blobs_due ON doomed_blobs (next_time, key);
";

const DOWN: &str = "
DROP TABLE doomed_blobs;
DROP INDEX executions_over;
ALTER TABLE executions DROP COLUMN artifacts_delete_time;
ALTER TABLE executions DROP COLUMN logs_delete_time;
ALTER TABLE executions DROP COLUMN pin_json;
ALTER TABLE executions DROP COLUMN pinned;
ALTER TABLE manifests DROP COLUMN retention_json;
ALTER TABLE projects DROP COLUMN hold_message;
ALTER TABLE projects DROP COLUMN hold_until;
ALTER TABLE projects DROP COLUMN retention_json;
";
