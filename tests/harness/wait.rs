//! Bounded waiting for a condition of another process.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest wait for something that takes seconds when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long the last answer of a probe may take after all patience.
const GRACE: Duration = Duration::from_secs(10);

/// Waits for `work`, but not longer than `limit`.
///
/// # Errors
///
/// That of `work`, or that `what` did not end within `limit`.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done.with_context(|| what.to_owned()),
        Err(_elapsed) => bail!("{what}: not over after {limit:?}"),
    }
}

/// Asks `probe` again and again until it returns a value.
///
/// # Errors
///
/// The last error of `probe`, or that `what` did not happen, when [`PATIENCE`] is over.
pub async fn until<T>(
    what: &str,
    probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    until_within(PATIENCE, what, probe).await
}

/// As [`until`], with a patience of its own for what takes long when all is well.
///
/// # Errors
///
/// The last error of `probe`, or that `what` did not happen, when `patience` is over.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let Ok(answer) = timeout_at(deadline + GRACE, probe()).await else {
            bail!("waited in vain, and was not answered: {what}");
        };
        match answer {
            Ok(Some(value)) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.context(what.to_owned())),
            Ok(None) if Instant::now() > deadline => bail!("waited in vain: {what}"),
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
