//! The audit log, which takes rows and gives none back until they are old, and what executions are
//! searched by.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000013_audit_and_search",
    up: UP,
    down: DOWN,
};

// Rows that are older than `audit_kept_from` in `instance` may be deleted; nobody else's, and none
// changed. A body of a trigger or a function has to stand in one line, so that one database can leave
// out what is the other's.
const UP: &str = "
CREATE TABLE audit_events (
  id @UUID@ PRIMARY KEY,
  time @LONG@ NOT NULL,
  -- No reference: what happened stays known when its project is gone.
  project_id @UUID@,
  actor_kind @NAME@ NOT NULL,
  actor_id @UUID@,
  actor @NAME@ NOT NULL,
  role text NOT NULL,
  action @NAME@ NOT NULL,
  resource @NAME@ NOT NULL,
  peer text NOT NULL,
  inputs_json text NOT NULL,
  before_json text,
  after_json text,
  outcome @NAME@ NOT NULL,
  reason text NOT NULL,
  request_id @UUID@
) @TABLE@;
CREATE INDEX audit_events_by_project ON audit_events (project_id, id);
CREATE INDEX audit_events_by_actor ON audit_events (actor, id);
CREATE INDEX audit_events_by_resource ON audit_events (resource, id);
CREATE INDEX audit_events_by_age ON audit_events (time);
@SQLITE@ CREATE TRIGGER audit_events_stay BEFORE UPDATE ON audit_events BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
@SQLITE@ CREATE TRIGGER audit_events_last BEFORE DELETE ON audit_events WHEN OLD.time >= COALESCE((SELECT CAST(value AS integer) FROM instance WHERE key = 'audit_kept_from'), 0) BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
@POSTGRES@ CREATE OR REPLACE FUNCTION audit_events_stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF TG_OP = 'DELETE' THEN IF OLD.time < COALESCE((SELECT CAST(value AS bigint) FROM instance WHERE key = 'audit_kept_from'), 0) THEN RETURN OLD; END IF; END IF; RAISE EXCEPTION 'the audit log is append-only'; END $$;
@POSTGRES@ CREATE TRIGGER audit_events_stay BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_events_stay();
@POSTGRES@ CREATE TRIGGER audit_events_whole BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION audit_events_stay();
-- An entry is made when an execution ends, and none before.
CREATE INDEX executions_ended_by_state ON executions (project_id, state, id)
  WHERE finish_time IS NOT NULL;
CREATE INDEX executions_with_reason ON executions (project_id, id)
  WHERE message <> '' OR reason <> '';
CREATE INDEX executions_by_group ON executions (project_id, concurrency_group, id)
  WHERE concurrency_group IS NOT NULL;
CREATE INDEX attempts_ended_by_agent ON attempts (project_id, agent_name, execution_id)
  WHERE status <> 'live';
-- Which workflows have had executions with a label.
CREATE TABLE workflow_labels (
  project_id @UUID@ NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  key @NAME@ NOT NULL,
  value @NAME@ NOT NULL,
  workflow @NAME@ NOT NULL,
  PRIMARY KEY (project_id, key, value, workflow)
) @TABLE@;
@SQLITE@ INSERT INTO workflow_labels SELECT DISTINCT e.project_id, l.key, l.value, e.workflow FROM executions e, json_each(e.labels_json) l;
@POSTGRES@ INSERT INTO workflow_labels SELECT DISTINCT e.project_id, l.key, l.value, e.workflow FROM executions e, jsonb_each_text(CAST(e.labels_json AS jsonb)) l;
";

const DOWN: &str = "
DROP TABLE workflow_labels;
DROP INDEX attempts_ended_by_agent;
DROP INDEX executions_by_group;
DROP INDEX executions_with_reason;
DROP INDEX executions_ended_by_state;
DROP TABLE audit_events;
@POSTGRES@ DROP FUNCTION audit_events_stay();
DELETE FROM instance WHERE key = 'audit_kept_from';
";
