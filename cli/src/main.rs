//! The `muster` command: parses the command line, runs one command, and ends with its exit code.

mod arguments;
mod client;
mod command;
mod context;
mod embedded;
mod error;
mod exit;
mod files;
mod follow;
mod json;
mod manifest;
mod memory;
mod place;
mod report;
mod signal;
mod terminal;
mod trace;
mod view;

use std::process::ExitCode;

/// A server makes and drops many small values on every thread; the allocator of the C library costs
/// it a tenth of its processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The runner's own command line is parsed by the runner: it stands in pods and sandboxes.
    if let Some(arguments) = command::runner::arguments() {
        return command::runner::run(arguments);
    }
    let pages = memory::SmallPages::begin();
    let cli = arguments::parse();
    // An error means that one is installed already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    command::execute(cli, pages)
}
