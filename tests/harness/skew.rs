//! Programs whose wall clock is wrong: a small library that is loaded before others. It can only be
//! loaded into programs that are linked dynamically, such as [`crate::program::own`].

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/skew.c");

/// Compiles the library into a folder, and returns the variables under which a program's wall clock is
/// `seconds` ahead.
///
/// # Errors
///
/// When there is no C compiler, or it refuses.
pub fn variables(folder: &Path, seconds: i64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let library: PathBuf = folder.join("skew.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, Path::new(SOURCE)]);
    let output = compiler.output().context("starting cc")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{SOURCE}: {said}");
    Ok(vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("MUSTER_TEST_SKEW", seconds.to_string()),
    ])
}
