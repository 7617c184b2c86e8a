//! Lets indexes of results answer by themselves what is asked of many tests at once, and notes since when
//! nobody has needed a label of a workflow.

use super::Sql;

pub(super) const MIGRATION: Sql = Sql {
    name: "m20261128_000020_quicken_tests",
    up: UP,
    down: DOWN,
};

const UP: &str = "
DROP INDEX test_results_by_test;
CREATE INDEX test_results_by_test ON test_results (project_id, identity, run_time, state, flaky, duration, revision);
DROP INDEX test_results_by_root;
CREATE INDEX test_results_by_root ON test_results (root_id, rank, execution_id, artifact_id, position, state, flaky);
DROP INDEX test_results_bad;
CREATE INDEX test_results_bad ON test_results (project_id, run_time, identity, revision) WHERE rank = 0;
DROP INDEX test_results_flaky;
CREATE INDEX test_results_flaky ON test_results (project_id, run_time, identity) WHERE flaky;
ALTER TABLE workflow_labels ADD COLUMN unused_time @LONG@;
";

const DOWN: &str = "
ALTER TABLE workflow_labels DROP COLUMN unused_time;
DROP INDEX test_results_flaky;
CREATE INDEX test_results_flaky ON test_results (project_id, run_time) WHERE flaky;
DROP INDEX test_results_bad;
CREATE INDEX test_results_bad ON test_results (project_id, run_time) WHERE rank = 0;
DROP INDEX test_results_by_root;
CREATE INDEX test_results_by_root ON test_results (root_id, rank, execution_id, artifact_id, position);
DROP INDEX test_results_by_test;
CREATE INDEX test_results_by_test ON test_results (project_id, identity, run_time);
";
