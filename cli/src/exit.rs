//! Exit codes of the command line. They are an interface: a code never changes its meaning.

use muster_proto::v1::execution::State;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well; a run passed.
    Success,
    /// The run failed, or the command did.
    Failed,
    /// The command line, a manifest or a config value is refused; nothing was started.
    Usage,
    /// The infrastructure ended the run, not the test.
    Aborted,
    /// The run was canceled.
    Canceled,
    /// A deadline of the whole run passed.
    TimedOut,
    /// The server can not be reached, or refused the credential.
    Unreachable,
    /// The time of `--timeout` passed while something was still running.
    Waiting,
    /// The user interrupted twice.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Aborted => 3,
            Self::Canceled => 4,
            Self::TimedOut => 5,
            Self::Unreachable => 6,
            Self::Waiting => 124,
            Self::Interrupted => 130,
        }
    }

    /// The code for the final state of a run; a state that is not final counts as aborted.
    pub(crate) const fn of_state(state: State) -> Self {
        match state {
            State::Passed => Self::Success,
            State::Failed => Self::Failed,
            State::Canceled => Self::Canceled,
            State::TimedOut => Self::TimedOut,
            State::Aborted
            | State::Unspecified
            | State::Queued
            | State::Assigned
            | State::Preparing
            | State::Running
            | State::Paused
            | State::Finishing => Self::Aborted,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table for `--help`.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  passed
    1  failed: a step that counts failed or timed out, or the command itself failed
    2  the command line, a manifest or a config value is refused; nothing was started
    3  aborted: the infrastructure ended the run, not the test
    4  canceled
    5  timed out: kept for a deadline of the whole run; no run ends so yet
    6  the server can not be reached, or refused the credential
  124  the time of `muster wait --timeout` passed; what was waited for goes on
  130  interrupted twice";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table_and_distinct() {
        let all = [
            Exit::Success,
            Exit::Failed,
            Exit::Usage,
            Exit::Aborted,
            Exit::Canceled,
            Exit::TimedOut,
            Exit::Unreachable,
            Exit::Waiting,
            Exit::Interrupted,
        ];
        let in_table: Vec<u8> = TABLE
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(in_table, all.map(Exit::code));
    }

    #[test]
    fn only_a_passed_run_is_a_success() {
        let states = (0..=11).filter_map(|number| State::try_from(number).ok());
        let green: Vec<_> = states
            .filter(|state| Exit::of_state(*state) == Exit::Success)
            .collect();
        assert_eq!(green, [State::Passed]);
    }
}
