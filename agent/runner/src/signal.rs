//! Names of signals, for people.

/// The name of a signal by its number on Linux: `SIGKILL`, `signal 50`.
pub(crate) fn name(number: i32) -> String {
    let index = usize::try_from(number).unwrap_or(0);
    match NAMES.get(index) {
        Some(name) if index > 0 => format!("SIG{name}"),
        _ => format!("signal {number}"),
    }
}

/// Numbers as on x86-64 and arm64.
const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_names() {
        for (number, expected) in [
            (9, "SIGKILL"),
            (11, "SIGSEGV"),
            (15, "SIGTERM"),
            (31, "SIGSYS"),
            (0, "signal 0"),
            (34, "signal 34"),
            (-1, "signal -1"),
        ] {
            assert_eq!(name(number), expected);
        }
    }
}
