//! Takes from executions what costs more than it is good for: an index that only quotas asked, and,
//! for PostgreSQL, lookups of the execution of each row that is written beside it, in the transaction
//! that holds it, by nobody else.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261127_000009_lighten_executions",
    up: UP,
    down: DOWN,
};

const UP: &str = "
DROP INDEX executions_by_create_time;
@POSTGRES@ ALTER TABLE execution_plans DROP CONSTRAINT execution_plans_execution_id_fkey;
@POSTGRES@ ALTER TABLE execution_steps DROP CONSTRAINT execution_steps_execution_id_fkey;
@POSTGRES@ ALTER TABLE execution_events DROP CONSTRAINT execution_events_execution_id_fkey;
";

const DOWN: &str = "
@POSTGRES@ ALTER TABLE execution_plans ADD FOREIGN KEY (execution_id) REFERENCES executions (id) ON DELETE CASCADE;
@POSTGRES@ ALTER TABLE execution_steps ADD FOREIGN KEY (execution_id) REFERENCES executions (id) ON DELETE CASCADE;
@POSTGRES@ ALTER TABLE execution_events ADD FOREIGN KEY (execution_id) REFERENCES executions (id) ON DELETE CASCADE;
CREATE INDEX executions_by_create_time ON executions (project_id, create_time);
";
