//! Results of steps, as the conductor tells them and as they are stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_core::execution::State;
use serde::{Deserialize, Serialize};

/// Where a step is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not reached yet.
    Queued,
    /// Runs now.
    Running,
    /// Stopped until resumed.
    Paused,
    /// Ended well.
    Passed,
    /// Ended badly.
    Failed,
    /// Ended by its own timeout.
    TimedOut,
    /// Its condition was false.
    Skipped,
    /// Ended by the infrastructure.
    Aborted,
    /// Ended by a cancel.
    Canceled,
}

impl StepState {
    /// Whether it never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Paused => false,
            Self::Passed
            | Self::Failed
            | Self::TimedOut
            | Self::Skipped
            | Self::Aborted
            | Self::Canceled => true,
        }
    }
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Reference, unique in the execution.
    pub reference: String,
    /// Reference of the step that holds this one; empty at the top.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Id of the manifest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Where it is in its life.
    pub state: StepState,
    /// Exit code of the last process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Reason, `UPPER_SNAKE_CASE`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The reason for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// How often it was tried.
    #[serde(default)]
    pub tries: i32,
    /// It does not count for the outcome.
    #[serde(default)]
    pub optional: bool,
    /// The outcome is inverted.
    #[serde(default)]
    pub negative: bool,
    /// How long it was paused, in milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub paused_ms: u64,
    /// What it left as files, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A value that a step gave out by an instruction on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOutput {
    /// Reference of the step.
    pub step: String,
    /// Its name.
    pub name: String,
    /// Its value as JSON.
    pub json: String,
}

/// Ends what has not ended, for an execution that ended in `state` without a completion record:
/// what ran shares its fate, what was not reached is skipped.
pub(crate) fn end(steps: &mut [StepResult], state: State) {
    for step in steps.iter_mut().filter(|step| !step.state.is_terminal()) {
        step.state = match (step.state, state) {
            (StepState::Queued, _) => StepState::Skipped,
            (_, State::Canceled) => StepState::Canceled,
            (_, State::TimedOut) => StepState::TimedOut,
            (_, _) => StepState::Aborted,
        };
    }
}

/// Takes all results back, for the next attempt.
pub(crate) fn reset(steps: &mut [StepResult]) {
    for step in steps {
        step.state = StepState::Queued;
        step.exit_code = None;
        step.reason.clear();
        step.message.clear();
        step.start_time = None;
        step.finish_time = None;
        step.tries = 0;
        step.paused_ms = 0;
        step.outputs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(reference: &str, state: StepState) -> StepResult {
        StepResult {
            reference: reference.to_owned(),
            parent: String::new(),
            id: String::new(),
            display_name: "name".to_owned(),
            state,
            exit_code: Some(3),
            reason: "EXIT_CODE".to_owned(),
            message: String::new(),
            start_time: None,
            finish_time: None,
            tries: 1,
            optional: true,
            negative: false,
            paused_ms: 0,
            outputs: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    #[test]
    fn only_steps_that_have_not_ended_are_ended() {
        let mut steps = [
            step("s1", StepState::Passed),
            step("s2", StepState::Running),
            step("s3", StepState::Queued),
        ];
        end(&mut steps, State::Aborted);
        let states = steps.map(|step| step.state);
        assert_eq!(
            states,
            [StepState::Passed, StepState::Aborted, StepState::Skipped]
        );
    }

    #[test]
    fn a_reset_keeps_what_describes_the_step() {
        let mut steps = [step("s1", StepState::Failed)];
        reset(&mut steps);
        assert_eq!(steps[0].state, StepState::Queued);
        assert_eq!(steps[0].exit_code, None);
        assert!(steps[0].outputs.is_empty());
        assert_eq!(steps[0].display_name, "name");
        assert!(steps[0].optional);
    }
}
