//! Conductor and shim: the small static program inside a test pod, and behind the process
//! backend.
//!
//! The conductor walks the plan; a shim stands in each step container and runs what it is told.
//! [`main_from`] is the whole program: `muster-runner MODE …`, and `muster runner MODE …` which
//! embeds it. [`frame`] is the wire between agent, conductor and shim, for the agent's use too.
//!
//! Both ends stay small: one thread, no gRPC, nothing kept in memory that grows with the test.

pub mod frame;
pub mod jq;

mod arguments;
mod beneath;
mod clock;
mod collect;
mod conductor;
mod credit;
mod fail;
mod install;
mod lineage;
mod reaper;
mod reference;
mod sandbox;
mod shim;
mod signal;
mod socket;
mod unpack;
mod volumes;

use std::{ffi::OsString, io::Write as _, process::ExitCode};

use crate::fail::fail;

const USAGE: &str = "\
usage: muster-runner MODE

  install DIR                    copy this program and BusyBox to DIR/bin, make DIR/run
  shim --container NAME          stand in a step container and run what the conductor says
       [--socket PATH] [--prefer-bash] [--folder PATH]...
  conductor                      walk the plan of the attempt in MUSTER_ATTEMPT
       [--sandbox DIR]           start the shims as children; files of the run live in DIR
       [--die-with-parent]       end everything when the parent process ends
       [--no-namespaces]         do not isolate the children
       [--address IP]            of a service of this machine, told to its processes
       [--spool DIR] [--spool-limit BYTES] [--grace DURATION] [--after-grace DURATION]
  unpack ARCHIVE DIR             unpack a tar archive into a folder, as the user of a container
  sandbox --root DIR [--report FILE] [--no-namespaces] [--user ID] [--group ID]
          [--folder PATH]... -- MODE ARGUMENTS
                                 run another mode of this program in namespaces of its own;
                                 folders of the plan are DIR/folders/0 and so on
";

/// Runs the program with the arguments after its name (or after the words that lead to it in a
/// program that embeds it), and gives its exit code.
///
/// It starts itself again for shims and sandboxes: the words before `arguments` on the command
/// line of this process are put before the arguments of those.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let itself = arguments::Itself::of_process(&arguments);
    if arguments.is_empty() {
        return fail("", USAGE);
    }
    let mode = arguments.remove(0);
    let arguments = arguments::Arguments::new(arguments);
    match mode.to_str() {
        Some("install") => install::main(arguments),
        Some("shim") => shim::main(arguments),
        Some("conductor") => conductor::main(arguments, itself),
        Some("sandbox") => sandbox::main(arguments, itself),
        Some(sandbox::INIT) => sandbox::init_main(arguments, itself),
        Some(jq::MODE) => jq::main(),
        Some("unpack") => unpack::main(arguments),
        Some("--version" | "-V") => {
            print(concat!("muster-runner ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Some("--help" | "-h") => print(USAGE),
        _ => fail("unknown mode", USAGE),
    }
}

/// Writes what was asked for to standard output.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}
