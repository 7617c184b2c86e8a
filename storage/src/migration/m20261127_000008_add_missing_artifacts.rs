//! Artifacts whose uploads did not come to their end.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261127_000008_add_missing_artifacts",
    up: UP,
    down: DOWN,
};

const UP: &str = "
CREATE TABLE missing_artifacts (
  attempt_id @UUID@ NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
  path @NAME@ NOT NULL,
  project_id @UUID@ NOT NULL,
  execution_id @UUID@ NOT NULL,
  step text NOT NULL,
  reason text NOT NULL,
  message text NOT NULL,
  create_time @LONG@ NOT NULL,
  PRIMARY KEY (attempt_id, path)
) @TABLE@;
CREATE INDEX missing_artifacts_by_execution ON missing_artifacts (execution_id, path);
";

const DOWN: &str = "DROP TABLE missing_artifacts";
