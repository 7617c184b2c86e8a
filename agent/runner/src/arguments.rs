//! The command line, read by hand: a parser library would be most of this program.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
    time::Duration,
};

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// An option that the mode does not have.
    #[error("unknown argument `{0}`; run `muster-runner` without arguments for the list")]
    Unknown(String),
    /// An option without its value.
    #[error("`{0}` needs a value after it")]
    NoValue(String),
    /// A value that does not fit.
    #[error("`{name}` can not be `{value}`: {reason}")]
    Value {
        /// The option.
        name: String,
        /// What was given.
        value: String,
        /// What is expected.
        reason: String,
    },
    /// An option that must be there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

/// Arguments that are left to read.
#[derive(Debug)]
pub(crate) struct Arguments(VecDeque<OsString>);

impl Arguments {
    pub(crate) fn new(arguments: Vec<OsString>) -> Self {
        Self(arguments.into())
    }

    /// The next argument, as text; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.0
            .pop_front()
            .map(|argument| argument.to_string_lossy().into_owned())
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> Vec<OsString> {
        self.0.drain(..).collect()
    }

    /// The value of the option that was just read.
    pub(crate) fn value(&mut self, name: &str) -> Result<OsString, Error> {
        self.0
            .pop_front()
            .ok_or_else(|| Error::NoValue(name.to_owned()))
    }

    /// The same as text.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Error> {
        Ok(self.value(name)?.to_string_lossy().into_owned())
    }

    /// The same as a path.
    pub(crate) fn path(&mut self, name: &str) -> Result<PathBuf, Error> {
        Ok(PathBuf::from(self.value(name)?))
    }

    /// The same as a duration such as `10s`.
    pub(crate) fn duration(&mut self, name: &str) -> Result<Duration, Error> {
        let value = self.text(name)?;
        muster_spec::duration::parse(&value).map_err(|error| Error::Value {
            name: name.to_owned(),
            value,
            reason: error.to_string(),
        })
    }

    /// The same as a number.
    pub(crate) fn number(&mut self, name: &str) -> Result<u64, Error> {
        let value = self.text(name)?;
        value
            .parse()
            .map_err(|error: std::num::ParseIntError| Error::Value {
                name: name.to_owned(),
                value,
                reason: error.to_string(),
            })
    }
}

/// How this program is started again.
#[derive(Debug, Clone)]
pub(crate) struct Itself {
    prefix: Vec<OsString>,
}

impl Itself {
    /// The words between the program's name and `arguments` on this process's command line.
    pub(crate) fn of_process(arguments: &[OsString]) -> Self {
        let all: Vec<OsString> = std::env::args_os().skip(1).collect();
        let prefix = all.strip_suffix(arguments).unwrap_or_default();
        Self {
            prefix: prefix.to_vec(),
        }
    }

    /// A command that runs this program in a mode.
    pub(crate) fn command(&self, mode: &str) -> Command {
        self.command_of(&[mode.into()])
    }

    /// A command that runs this program with a mode and its arguments.
    pub(crate) fn command_of(&self, arguments: &[OsString]) -> Command {
        self.command_of_at("/proc/self/exe", arguments)
    }

    /// The same by another path of this very program.
    pub(crate) fn command_of_at(
        &self,
        program: impl AsRef<OsStr>,
        arguments: &[OsString],
    ) -> Command {
        let mut command = Command::new(program);
        command.args(&self.prefix).args(arguments);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_names() {
        let mut arguments = Arguments::new(vec!["--grace".into(), "2s".into(), "--root".into()]);
        assert_eq!(arguments.next().as_deref(), Some("--grace"));
        assert_eq!(arguments.duration("--grace"), Ok(Duration::from_secs(2)));
        assert_eq!(arguments.next().as_deref(), Some("--root"));
        let error = arguments.path("--root").unwrap_err();
        assert_eq!(error.to_string(), "`--root` needs a value after it");
        assert_eq!(arguments.next(), None);
    }

    #[test]
    fn value_that_does_not_fit_is_named_with_its_option() {
        let mut arguments = Arguments::new(vec!["many".into()]);
        let error = arguments.number("--spool-limit").unwrap_err().to_string();
        assert!(
            error.starts_with("`--spool-limit` can not be `many`"),
            "{error}"
        );
    }
}
