//! Reports of test tools, and the tests in them with their results over all runs.
//!
//! What a test is called stands once; its results are narrow rows, of which failures have more to say.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000015_add_tests",
    up: UP,
    down: DOWN,
};

const UP: &str = "
CREATE TABLE reports (
  artifact_id @UUID@ PRIMARY KEY REFERENCES artifacts (id) ON DELETE CASCADE,
  project_id @UUID@ NOT NULL,
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  root_id @UUID@ NOT NULL,
  epoch @LONG@ NOT NULL,
  path @NAME@ NOT NULL,
  format text NOT NULL,
  state text NOT NULL,
  message text NOT NULL,
  passed @LONG@ NOT NULL,
  failed @LONG@ NOT NULL,
  errors @LONG@ NOT NULL,
  skipped @LONG@ NOT NULL,
  flaky @LONG@ NOT NULL,
  duration @LONG@,
  summary_json text NOT NULL,
  create_time @LONG@ NOT NULL
) @TABLE@;
CREATE INDEX reports_by_execution ON reports (execution_id);
CREATE INDEX reports_by_root ON reports (root_id, path, artifact_id);
CREATE INDEX reports_pending ON reports (artifact_id) WHERE state = 'pending';
CREATE TABLE tests (
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  identity @BYTES@ NOT NULL,
  suite text NOT NULL,
  class @NAME@ NOT NULL,
  name @NAME@ NOT NULL,
  parameters text,
  variants text NOT NULL,
  file text,
  line integer,
  create_time @LONG@ NOT NULL,
  PRIMARY KEY (project_id, identity)
) @TABLE@;
CREATE TABLE test_results (
  execution_id @UUID@ NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  identity @BYTES@ NOT NULL,
  project_id @UUID@ NOT NULL,
  root_id @UUID@ NOT NULL,
  artifact_id @UUID@ NOT NULL,
  epoch @LONG@ NOT NULL,
  position integer NOT NULL,
  rank integer NOT NULL,
  state text NOT NULL,
  flaky @BOOL@ NOT NULL,
  tries integer NOT NULL,
  duration @LONG@,
  run_time @LONG@ NOT NULL,
  revision text,
  message text,
  kind text,
  stack text,
  detail_json text,
  PRIMARY KEY (execution_id, identity)
) @TABLE@;
CREATE INDEX test_results_by_test ON test_results (project_id, identity, run_time);
CREATE INDEX test_results_by_root ON test_results (root_id, rank, execution_id, artifact_id, position);
CREATE INDEX test_results_bad ON test_results (project_id, run_time) WHERE rank = 0;
CREATE INDEX test_results_flaky ON test_results (project_id, run_time) WHERE flaky;
";

const DOWN: &str = "
DROP TABLE test_results;
DROP TABLE tests;
DROP TABLE reports;
";
