//! What a reader wants to know of a stretch of log before it fetches it, logs in one object, and whether
//! the log of an attempt is proven complete.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000010_seal_logs",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE log_segments ADD COLUMN lines @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE log_segments ADD COLUMN first_time @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE log_segments ADD COLUMN last_time @LONG@ NOT NULL DEFAULT 0;
CREATE INDEX log_segments_later ON log_segments (attempt_id) WHERE start_offset > 0;
ALTER TABLE attempts ADD COLUMN log_complete @BOOL@ NOT NULL DEFAULT FALSE;
CREATE TABLE sealed_logs (
  attempt_id @UUID@ PRIMARY KEY REFERENCES attempts (id) ON DELETE CASCADE,
  project_id @UUID@ NOT NULL,
  size @LONG@ NOT NULL,
  lines @LONG@ NOT NULL,
  sha256 text NOT NULL,
  blob text NOT NULL,
  blob_size @LONG@ NOT NULL,
  segments @BYTES@ NOT NULL,
  create_time @LONG@ NOT NULL
) @TABLE@;
";

const DOWN: &str = "
DROP TABLE sealed_logs;
ALTER TABLE attempts DROP COLUMN log_complete;
DROP INDEX log_segments_later;
ALTER TABLE log_segments DROP COLUMN last_time;
ALTER TABLE log_segments DROP COLUMN first_time;
ALTER TABLE log_segments DROP COLUMN lines;
";
