//! Credentials of projects; their values are sealed before they come here.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261126_000006_add_credentials",
    up: UP,
    down: DOWN,
};

const UP: &str = "
CREATE TABLE credentials (
  id @UUID@ PRIMARY KEY,
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name @NAME@ NOT NULL,
  description text NOT NULL,
  revision @LONG@ NOT NULL,
  -- Which key the value is sealed with; the key itself is not in the database.
  key_id @NAME@ NOT NULL,
  sealed @BYTES@ NOT NULL,
  create_time @LONG@ NOT NULL,
  update_time @LONG@ NOT NULL,
  UNIQUE (project_id, name)
) @TABLE@;
CREATE INDEX credentials_by_key ON credentials (key_id);
";

const DOWN: &str = "DROP TABLE credentials";
