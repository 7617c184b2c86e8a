//! Outputs of executions: what their steps gave out, beside the results of the steps.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261126_000004_add_outputs",
    up: UP,
    down: DOWN,
};

const UP: &str = "ALTER TABLE execution_steps ADD COLUMN outputs_json text NOT NULL DEFAULT '[]'";

const DOWN: &str = "ALTER TABLE execution_steps DROP COLUMN outputs_json";
