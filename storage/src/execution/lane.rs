//! Lanes of the queue: executions that wait for the same have the same lane, so that the scheduler
//! looks at one of them for all.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::entity::execution as row;

/// The lane of an execution: a digest of all that decides for whom and for what it waits.
pub(crate) fn of(row: &row::Model) -> Uuid {
    let mut digest = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length, so that two parts are never taken for two others.
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    };
    add(row.project_id.as_bytes());
    add(row.target_json.as_bytes());
    add(row.avoid_json.as_bytes());
    add(row.concurrency_group.as_deref().unwrap_or("").as_bytes());
    add(&row.concurrency_most.unwrap_or(0).to_le_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(id)
}
