//! Programs whose wall clock is wrong: a small library that is loaded before others. It can only be
//! loaded into programs that are linked dynamically, such as [`crate::program::own`].

use std::{path::Path, process::Command};

use crate::command::run;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/harness/skew.c");

/// Compiles the library into a folder, and returns the variables under which a program's wall clock is
/// `seconds` ahead.
///
/// # Errors
///
/// When there is no C compiler, or it refuses.
pub fn variables(folder: &Path, seconds: i64) -> anyhow::Result<Vec<(&'static str, String)>> {
    let library = folder.join("skew.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library.as_path(), Path::new(SOURCE)]))?;
    Ok(vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("MUSTER_TEST_SKEW", seconds.to_string()),
    ])
}
