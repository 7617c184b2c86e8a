//! The program `muster-runner`; all of it is in the library, so that `muster` can embed it.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_runner::main_from(std::env::args_os().skip(1))
}
