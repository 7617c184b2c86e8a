//! How an artifact can be shown. Those from before tell it by their media type.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000011_add_previews",
    up: UP,
    down: DOWN,
};

const UP: &str = "ALTER TABLE artifacts ADD COLUMN preview text NOT NULL DEFAULT ''";

const DOWN: &str = "ALTER TABLE artifacts DROP COLUMN preview";
