//! How an artifact can be shown, which those from before tell by their media type; and how many bytes an
//! execution's artifacts have, counted from here on.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000011_extend_artifacts",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE artifacts ADD COLUMN preview text NOT NULL DEFAULT '';
ALTER TABLE executions ADD COLUMN artifact_bytes @LONG@ NOT NULL DEFAULT 0;
";

const DOWN: &str = "
ALTER TABLE executions DROP COLUMN artifact_bytes;
ALTER TABLE artifacts DROP COLUMN preview;
";
