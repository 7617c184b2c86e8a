//! The last words of a mode that can not go on.

use std::{fmt::Display, io::Write as _, process::ExitCode};

/// Exit code for a wrong command line.
const USAGE: u8 = 2;

/// Says on standard error what is wrong with the command line.
pub(crate) fn fail(what: impl Display, cure: impl Display) -> ExitCode {
    say(format_args!("{what}\n{cure}"));
    ExitCode::from(USAGE)
}

/// Says on standard error why the mode ends, and gives exit code 1.
pub(crate) fn end(why: impl Display) -> ExitCode {
    say(why);
    ExitCode::FAILURE
}

/// Writes a line to standard error; nobody can be told when even that fails.
pub(crate) fn say(text: impl Display) {
    drop(writeln!(std::io::stderr(), "muster-runner: {text}"));
}
