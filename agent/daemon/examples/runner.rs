//! The runner as a program of its own, for the tests of this crate, which start a real conductor.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_runner::main_from(std::env::args_os().skip(1))
}
