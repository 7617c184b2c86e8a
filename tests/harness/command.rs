//! Programs of this machine that are run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Runs a command without input.
///
/// # Errors
///
/// When it can not be started or fails, with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let ended = command.stdin(Stdio::null()).output();
    let ended = ended.with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
