//! The agent as a whole, against a scripted server: real gRPC, real sockets, real processes.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod conductor;
mod half_open;
mod journal;
mod lease;
mod link;
mod process;
mod server;

use std::time::Duration;

use server::PATIENCE;

/// A token of the form that the server gives out.
pub(crate) const TOKEN: &str = "msa_0198c0de00007000800000000000000a_test";

/// Waits for something that no message tells.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
