//! Names and meanings of all metrics of the server. Those of the store begin with
//! `muster_store_` and are described there.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Calls by method and code.
pub const CALLS: &str = "muster_grpc_calls_total";
/// How long calls take until their first answer.
pub const CALL_SECONDS: &str = "muster_grpc_call_seconds";
/// Agents with a stream to this server.
pub const AGENTS: &str = "muster_agents_connected";
/// Attempts that were given to agents.
pub const ASSIGNMENTS: &str = "muster_assignments_total";
/// Executions that became terminal, by state.
pub const FINISHED: &str = "muster_executions_finished_total";
/// Messages of agents that were refused, by reason.
pub const REFUSALS: &str = "muster_link_refusals_total";
/// Streams that were closed because their agent went on with what makes no sense.
pub const OFFENDERS: &str = "muster_link_offenders_total";
/// Log bytes that became durable.
pub const LOG_BYTES: &str = "muster_log_bytes_total";
/// Bytes of complete artifacts, by the way they came: through an agent and this server, or directly.
pub const ARTIFACT_BYTES: &str = "muster_artifact_bytes_total";

/// Executions that were deleted, or their files, by part.
pub const DELETED: &str = "muster_deleted_executions_total";
/// Blobs that were deleted after their rows.
pub const DELETED_BLOBS: &str = "muster_deleted_blobs_total";
/// Blobs that no row named and that were deleted.
pub const ORPHANS: &str = "muster_deleted_orphans_total";
/// Refusals that are not in the audit log, since there were too many.
pub const AUDIT_LEFT_OUT: &str = "muster_audit_left_out_total";
/// Events that should be in the audit log and could not be written.
pub const AUDIT_FAILED: &str = "muster_audit_failed_total";

/// Describes all of them; without effect when there is no recorder.
pub fn describe() {
    describe_counter!(CALLS, "gRPC calls by method and code");
    describe_histogram!(CALL_SECONDS, Unit::Seconds, "time until the first answer");
    describe_gauge!(AGENTS, "agents with a stream to this server");
    describe_counter!(ASSIGNMENTS, "attempts given to agents");
    describe_counter!(FINISHED, "executions that became terminal, by state");
    describe_counter!(REFUSALS, "messages of agents that were refused, by reason");
    describe_counter!(
        OFFENDERS,
        "streams closed because their agent went on with what makes no sense"
    );
    describe_counter!(
        AUDIT_LEFT_OUT,
        "refusals that are not in the audit log, since there were too many"
    );
    describe_counter!(
        AUDIT_FAILED,
        "events that should be in the audit log and could not be written"
    );
    describe_counter!(LOG_BYTES, Unit::Bytes, "log bytes that became durable");
    describe_counter!(
        DELETED,
        "executions that were deleted, or their files, by part"
    );
    describe_counter!(DELETED_BLOBS, "blobs that were deleted after their rows");
    describe_counter!(ORPHANS, "blobs that no row named and that were deleted");
    describe_counter!(
        ARTIFACT_BYTES,
        Unit::Bytes,
        "bytes of complete artifacts, by the way they came"
    );
}
