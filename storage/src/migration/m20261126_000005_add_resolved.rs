//! The workflow that an execution ran, for people.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261126_000005_add_resolved",
    up: UP,
    down: DOWN,
};

const UP: &str = "ALTER TABLE execution_plans ADD COLUMN resolved text";

const DOWN: &str = "ALTER TABLE execution_plans DROP COLUMN resolved";
