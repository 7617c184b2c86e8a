//! The newest wish to pause an execution or to let it go on.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261126_000003_add_pauses",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE executions ADD COLUMN pause_sequence @LONG@ NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN pause_wanted @BOOL@ NOT NULL DEFAULT FALSE;
";

const DOWN: &str = "
ALTER TABLE executions DROP COLUMN pause_wanted;
ALTER TABLE executions DROP COLUMN pause_sequence;
";
