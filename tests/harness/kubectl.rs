//! `kubectl` and the manifests of `deploy/kubernetes`, as a person would use them.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::{cluster::Cluster, program};

/// Runs `kubectl`, or the program that `MUSTER_TEST_KUBECTL` names, with `input` as its standard
/// input, and returns its standard output.
///
/// # Errors
///
/// When it fails; the message holds its standard error.
pub fn kubectl(cluster: &Cluster, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let program = std::env::var_os("MUSTER_TEST_KUBECTL").unwrap_or_else(|| "kubectl".into());
    let mut child = Command::new(program)
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting kubectl")?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "kubectl {arguments:?}: {error}\n{text}"
    );
    Ok(text)
}

/// Reads a manifest of `deploy/kubernetes`.
///
/// # Errors
///
/// When it is not there.
pub fn manifest(file: &str) -> anyhow::Result<String> {
    let path = program::workspace_root()?
        .join("deploy/kubernetes")
        .join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
