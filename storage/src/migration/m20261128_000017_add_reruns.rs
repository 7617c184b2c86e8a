//! Reruns of what failed: which execution one is a rerun of, what it has taken over of that one, and
//! executions found by their tests.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000017_add_reruns",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE executions ADD COLUMN rerun_json text;
-- A digest of what a child was given, by which a rerun knows it again.
ALTER TABLE executions ADD COLUMN child_inputs text;
-- Children that an attempt did not start, as they have passed in an earlier execution.
CREATE TABLE taken_over (
  attempt_id @UUID@ NOT NULL,
  child_group text NOT NULL,
  child_index @LONG@ NOT NULL,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  child_step text NOT NULL,
  role text NOT NULL,
  description text NOT NULL,
  former_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  PRIMARY KEY (attempt_id, child_group, child_index)
) @TABLE@;
CREATE INDEX taken_over_by_execution ON taken_over (execution_id, child_step);
CREATE INDEX taken_over_by_former ON taken_over (former_id);
-- Executions of others whose tests count for an execution at the top: what it has taken over, and all
-- below that.
CREATE TABLE counted_executions (
  root_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  PRIMARY KEY (root_id, execution_id)
) @TABLE@;
CREATE INDEX counted_executions_by_execution ON counted_executions (execution_id);
-- Executions by a test, newest first: those at the top, and those that another one has started.
CREATE INDEX test_results_top ON test_results (project_id, identity, root_id);
CREATE INDEX test_results_below ON test_results (project_id, identity, execution_id)
  WHERE execution_id <> root_id;
CREATE INDEX test_results_bad_top ON test_results (project_id, identity, root_id) WHERE rank = 0;
CREATE INDEX test_results_bad_below ON test_results (project_id, identity, execution_id)
  WHERE rank = 0 AND execution_id <> root_id;
";

const DOWN: &str = "
DROP INDEX test_results_bad_below;
DROP INDEX test_results_bad_top;
DROP INDEX test_results_below;
DROP INDEX test_results_top;
DROP TABLE counted_executions;
DROP TABLE taken_over;
ALTER TABLE executions DROP COLUMN child_inputs;
ALTER TABLE executions DROP COLUMN rerun_json;
";
