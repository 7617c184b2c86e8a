//! Bounded waiting for a condition of another process.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Longest wait for something that takes seconds when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks `probe` again and again until it returns a value.
///
/// # Errors
///
/// The last error of `probe`, or that `what` did not happen, when [`PATIENCE`] is over.
pub async fn until<T>(
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = probe().await;
        match answer {
            Ok(Some(value)) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(error.context(what.to_owned())),
            Ok(None) if Instant::now() > deadline => bail!("waited in vain: {what}"),
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
