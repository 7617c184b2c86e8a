//! Children of executions: workers, services and members of a suite.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261124_000002_add_children",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE executions ADD COLUMN parent_id @UUID@ REFERENCES executions (id) ON DELETE CASCADE;
ALTER TABLE executions ADD COLUMN parent_attempt_id @UUID@;
ALTER TABLE executions ADD COLUMN child_group @NAME@;
ALTER TABLE executions ADD COLUMN child_index @LONG@;
ALTER TABLE executions ADD COLUMN child_step text;
ALTER TABLE executions ADD COLUMN role @NAME@;
ALTER TABLE executions ADD COLUMN description text;
CREATE UNIQUE INDEX executions_by_parent_attempt
  ON executions (parent_attempt_id, child_group, child_index) WHERE parent_attempt_id IS NOT NULL;
CREATE INDEX executions_by_parent ON executions (parent_id, id) WHERE parent_id IS NOT NULL;
-- Those that a sweep may have to end when their parent is gone.
CREATE INDEX executions_live_children ON executions (parent_attempt_id)
  WHERE parent_attempt_id IS NOT NULL AND finish_time IS NULL;
ALTER TABLE attempts ADD COLUMN address text;
ALTER TABLE attempts ADD COLUMN ready @BOOL@;
-- Documents that came with a request and hold more than one workflow.
CREATE TABLE execution_sources (
  execution_id @UUID@ PRIMARY KEY REFERENCES executions (id) ON DELETE CASCADE,
  text text NOT NULL
) @TABLE@;
";

const DOWN: &str = "
DROP TABLE execution_sources;
DROP INDEX executions_live_children;
DROP INDEX executions_by_parent;
DROP INDEX executions_by_parent_attempt;
ALTER TABLE attempts DROP COLUMN ready;
ALTER TABLE attempts DROP COLUMN address;
ALTER TABLE executions DROP COLUMN description;
ALTER TABLE executions DROP COLUMN role;
ALTER TABLE executions DROP COLUMN child_step;
ALTER TABLE executions DROP COLUMN child_index;
ALTER TABLE executions DROP COLUMN child_group;
ALTER TABLE executions DROP COLUMN parent_attempt_id;
ALTER TABLE executions DROP COLUMN parent_id;
";
