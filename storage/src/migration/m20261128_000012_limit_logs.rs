//! How long logs of a project may be, and how fast they may come.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000012_limit_logs",
    up: UP,
    down: DOWN,
};

const UP: &str = "
ALTER TABLE projects ADD COLUMN max_log @LONG@;
ALTER TABLE projects ADD COLUMN max_log_rate @LONG@;
ALTER TABLE projects ADD COLUMN max_log_rate_each @LONG@;
";

const DOWN: &str = "
ALTER TABLE projects DROP COLUMN max_log_rate_each;
ALTER TABLE projects DROP COLUMN max_log_rate;
ALTER TABLE projects DROP COLUMN max_log;
";
