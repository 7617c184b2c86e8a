//! Tests in quarantine, and of each result whether it was when it came.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000016_add_quarantine",
    up: UP,
    down: DOWN,
};

const UP: &str = "
CREATE TABLE quarantined_tests (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL,
  identity @BYTES@ NOT NULL,
  -- Empty for all.
  workflow @NAME@ NOT NULL,
  reason text NOT NULL,
  creator text NOT NULL,
  revision @LONG@ NOT NULL,
  create_time @LONG@ NOT NULL,
  expire_time @LONG@ NOT NULL,
  FOREIGN KEY (project_id, identity) REFERENCES tests (project_id, identity) ON DELETE CASCADE
) @TABLE@;
CREATE UNIQUE INDEX quarantined_tests_by_test ON quarantined_tests (project_id, identity, workflow);
CREATE INDEX quarantined_tests_by_end ON quarantined_tests (project_id, expire_time, id);
ALTER TABLE reports ADD COLUMN quarantined @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE test_results ADD COLUMN quarantine_reason text;
ALTER TABLE test_results ADD COLUMN quarantine_until @LONG@;
";

const DOWN: &str = "
ALTER TABLE test_results DROP COLUMN quarantine_until;
ALTER TABLE test_results DROP COLUMN quarantine_reason;
ALTER TABLE reports DROP COLUMN quarantined;
DROP TABLE quarantined_tests;
";
