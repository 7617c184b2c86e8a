//! The `muster` binary under test.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, bail};

/// Names a binary to test in place of the one in this workspace.
pub const PROGRAM_VARIABLE: &str = "MUSTER_TEST_PROGRAM";

/// Returns the path of the `muster` binary: that of `MUSTER_TEST_PROGRAM`, or the workspace's
/// own, which cargo brings up to date first.
///
/// # Errors
///
/// When the workspace's binary does not build.
pub fn path() -> anyhow::Result<PathBuf> {
    match std::env::var_os(PROGRAM_VARIABLE) {
        Some(path) => Ok(PathBuf::from(path)),
        None => own(),
    }
}

/// Returns the path of the workspace's own binary, which cargo brings up to date first. It is linked
/// dynamically, as libraries that are loaded before others want it.
///
/// # Errors
///
/// When it does not build.
pub fn own() -> anyhow::Result<PathBuf> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PATH.get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PathBuf> {
    let root = workspace_root()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace and a test are named so that features are unified as they were for the
    // tests, with those that only tests ask for: nothing is compiled a second time. That test is small.
    command
        .args(["build", "--quiet", "--workspace", "--bin", "muster"])
        .args(["--test", "json_schema"])
        .args(["--message-format", "json"])
        .current_dir(&root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().context("starting cargo")?;
    if !output.status.success() {
        bail!("the muster binary does not build: {}", output.status);
    }
    for line in output.stdout.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else {
            continue;
        };
        if message["target"]["name"] == "muster"
            && let Some(executable) = message["executable"].as_str()
        {
            return Ok(PathBuf::from(executable));
        }
    }
    bail!("cargo built no executable named muster")
}

/// Returns the root of the workspace that these tests were built from.
///
/// # Errors
///
/// When the source folder is gone.
pub fn workspace_root() -> anyhow::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .context("the tests' folder has no parent")
}

/// Installs the TLS provider of this process; further calls do nothing.
pub fn install_tls_provider() {
    // An error means that one is there already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
