//! The kinds of work: small workflows whose end and output are known before.

use anyhow::ensure;
use muster_proto::v1::{Execution, execution::State};
use muster_tests::{log::Log, run::step};
use rand::{RngExt as _, rngs::StdRng};

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One line.
    Quick,
    /// So many lines, half a second apart.
    Counting(u32),
    /// So many lines at once.
    Bulk(u32),
    /// A step that fails with 3, after one line.
    Failing,
    /// It would take for ever and is canceled after so many seconds.
    Canceled(u32),
    /// Counts, and is tried again when it is interrupted.
    Stubborn(u32),
}

impl Shape {
    /// Any of them.
    pub(crate) fn any(dice: &mut StdRng) -> Self {
        match dice.random_range(0..10) {
            0..=2 => Self::Quick,
            3..=4 => Self::Counting(dice.random_range(10..30)),
            5 => Self::Bulk(dice.random_range(20_000..200_000)),
            6 => Self::Failing,
            7 => Self::Canceled(dice.random_range(0..12)),
            _ => Self::Stubborn(dice.random_range(10..40)),
        }
    }

    /// Its workflow.
    pub(crate) fn manifest(self) -> String {
        let script = match self {
            Self::Quick => "echo quick".to_owned(),
            Self::Counting(lines) | Self::Stubborn(lines) => {
                format!("i=1; while [ $i -le {lines} ]; do echo $i; sleep 0.5; i=$((i+1)); done")
            }
            Self::Bulk(lines) => format!("seq 1 {lines}"),
            Self::Failing => "echo fails; exit 3".to_owned(),
            Self::Canceled(_) => "echo waits; sleep 3600".to_owned(),
        };
        let recovery = match self {
            Self::Stubborn(_) => {
                "  execution:\n    recovery: {interrupted: rerun, lostAgent: rerun, infrastructureRetries: 20}\n"
            }
            _ => "",
        };
        format!(
            "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\n\
             metadata: {{name: soak-{}}}\nspec:\n{recovery}  container: {{image: 'alpine:3.22.0'}}\n  \
             steps:\n  - name: work\n    shell: {script}\n",
            self.name()
        )
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Counting(_) => "counting",
            Self::Bulk(_) => "bulk",
            Self::Failing => "failing",
            Self::Canceled(_) => "canceled",
            Self::Stubborn(_) => "stubborn",
        }
    }

    /// The end that it has when nothing breaks.
    pub(crate) const fn end(self) -> State {
        match self {
            Self::Quick | Self::Counting(_) | Self::Bulk(_) | Self::Stubborn(_) => State::Passed,
            Self::Failing => State::Failed,
            Self::Canceled(_) => State::Canceled,
        }
    }

    /// Proves that the log of one that came to its own end holds all that it printed.
    pub(crate) fn expect_output(self, execution: &Execution, log: &Log) -> anyhow::Result<()> {
        let numbers = |lines| (1..=lines).map(|line: u32| format!("{line}\n")).collect();
        let wanted: String = match self {
            Self::Quick => "quick\n".to_owned(),
            Self::Counting(lines) | Self::Bulk(lines) | Self::Stubborn(lines) => numbers(lines),
            Self::Failing => "fails\n".to_owned(),
            // It may have ended before its first word.
            Self::Canceled(_) => return Ok(()),
        };
        let printed = log.of_step(&step(execution, "work")?.reference);
        ensure!(
            printed == wanted,
            "it printed {} bytes, and the log holds {} of the step",
            wanted.len(),
            printed.len()
        );
        Ok(())
    }
}
