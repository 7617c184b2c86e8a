//! `muster version`.

use clap::Args;
use serde::Serialize;

use crate::{arguments::Global, error::Error, exit::Exit, json};

/// Print the version
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  muster version\n  muster version --output json")]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// Runs it.
pub(crate) fn execute(global: &Global) -> Result<Exit, Error> {
    let version = env!("CARGO_PKG_VERSION");
    if global.json() {
        json::print(&Version { version })?;
    } else {
        super::print(&format!("muster {version}\n"))?;
    }
    Ok(Exit::Success)
}
