//! What can go wrong in a command: one message for a person, with cause and cure, and an exit
//! code. How the server describes its refusals is in [`status`].

pub(crate) mod status;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{exit::Exit, manifest::Finding, terminal::escape};

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line or a setting is wrong.
    #[error("{0}")]
    Usage(String),
    /// A manifest is refused.
    #[error("{subject} is refused{}", lines(.problems))]
    Manifest {
        /// The file, or what else is refused.
        subject: String,
        /// What is wrong with it.
        problems: Vec<Finding>,
    },
    /// A local file can not be used.
    #[error("can not {action} {}: {source}", .path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody answers.
    #[error("can not reach the server at {address}: {cause}; {cure}")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        cause: String,
        /// What to do.
        cure: &'static str,
    },
    /// The server does not know the token.
    #[error(
        "the server at {address} refuses the token: {cause}; give a valid one by --token-file, MUSTER_TOKEN or `muster context set`"
    )]
    Unauthenticated {
        /// Its address.
        address: String,
        /// Its words.
        cause: String,
    },
    /// The server refuses the call.
    #[error("{message}{}", status::lines(.violations))]
    Refused {
        /// Its words.
        message: String,
        /// The request itself was wrong.
        usage: bool,
        /// What it names is not there.
        missing: bool,
        /// Which fields were wrong.
        violations: Vec<status::Violation>,
    },
    /// What came over the wire is not what was promised.
    #[error("{0}")]
    Corrupt(String),
    /// The control plane of this process does not work.
    #[error("{0}")]
    Local(String),
    /// What was waited for did not end in time.
    #[error(
        "not finished after {}; it goes on, and `muster get` shows how far it is",
        crate::terminal::measure::duration(*.0)
    )]
    Waiting(std::time::Duration),
    /// The user interrupted before there was anything to cancel.
    #[error("interrupted")]
    Interrupted,
    /// Standard output is closed; nobody is there to read a message.
    #[error("standard output is closed")]
    OutputClosed,
}

/// An error as JSON: an interface for programs, so fields are only added.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    error: Told<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    message: String,
    exit_code: u8,
    problems: &'a [Finding],
}

impl Error {
    /// Whether the server says that something is not there.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { missing: true, .. })
    }

    /// How the process ends.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Manifest { .. } | Self::Refused { usage: true, .. } => {
                Exit::Usage
            }
            Self::Unreachable { .. } | Self::Unauthenticated { .. } => Exit::Unreachable,
            Self::Waiting(_) => Exit::Waiting,
            Self::Interrupted => Exit::Interrupted,
            Self::File { .. }
            | Self::Refused { usage: false, .. }
            | Self::Corrupt(_)
            | Self::Local(_)
            | Self::OutputClosed => Exit::Failed,
        }
    }

    /// What a program reads with `--output json`, when there is nothing else to print.
    pub(crate) fn document(&self) -> Document<'_> {
        let problems = match self {
            Self::Manifest { problems, .. } => problems.as_slice(),
            _ => &[],
        };
        Document {
            error: Told {
                message: escape::visible_lines(&self.to_string()),
                exit_code: self.exit().code(),
                problems,
            },
        }
    }

    /// For `map_err` of file operations.
    pub(crate) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// For writing to standard output: a closed pipe is not a failure of ours.
    pub(crate) fn output(source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::File {
                action: "write",
                path: PathBuf::from("standard output"),
                source,
            },
        }
    }
}

/// One indented line for each problem.
fn lines(problems: &[Finding]) -> String {
    let lines = problems.iter().map(|problem| format!("\n  {problem}"));
    lines.collect()
}

/// The texts of an error and all its sources, outermost first, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !texts.iter().any(|seen| seen.contains(&text)) {
            texts.push(text);
        }
        next = source.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_a_usage_error_and_a_refused_state_is_not() {
        let refused = |usage| Error::Refused {
            missing: false,
            message: String::new(),
            usage,
            violations: Vec::new(),
        };
        assert_eq!(refused(true).exit(), Exit::Usage);
        assert_eq!(refused(false).exit(), Exit::Failed);
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("connect: refused")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("refused"));
        assert_eq!(chain(&error), "connect: refused");
    }
}
