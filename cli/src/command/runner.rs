//! `muster runner`: hands over to conductor and shim, which parse their own command line.

use std::{ffi::OsString, process::ExitCode};

/// The runner's arguments, when this process was started as one.
pub(crate) fn arguments() -> Option<Vec<OsString>> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == "runner").then(|| arguments.collect())
}

/// Runs it.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    muster_runner::main_from(arguments)
}
