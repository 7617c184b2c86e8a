//! Reading an agent's report: from the wire to the store's words.

use std::time::Duration;

use jiff::Timestamp;
use muster_core::execution::{Outcome, Phase};
use muster_proto::v1::{self, attempt_report, execution, step_result};
use muster_storage::{
    execution::{StepOutput, StepResult, StepState},
    work::{Completion, Progress, Report},
};

use super::lease;

/// Most steps of one report: those of the largest plan.
const MAX_STEPS: usize = 2000;
/// Most outputs of one report, and of one step in it.
const MAX_OUTPUTS: usize = 1000;
/// Most bytes of all outputs of a report together: conductors tell at most half of it.
const MAX_OUTPUTS_SIZE: usize = 256 << 10;
/// Most warnings of one report.
const MAX_WARNINGS: usize = 100;
/// Reads a report; the error is for the agent's log.
pub(super) fn read(told: v1::AttemptReport) -> Result<Report, String> {
    let Some(lease) = lease(&told.attempt, told.epoch) else {
        return Err("the attempt's id is not a UUID".to_owned());
    };
    if told.steps.len() > MAX_STEPS {
        return Err(format!(
            "{} steps, at most {MAX_STEPS} are allowed",
            told.steps.len()
        ));
    }
    use attempt_report::Phase as P;
    let progress = match told.phase() {
        P::Preparing => Progress::At(Phase::Preparing),
        P::Running => Progress::At(Phase::Running),
        P::Paused => Progress::At(Phase::Paused),
        P::Finishing => Progress::At(Phase::Finishing),
        P::Lost => Progress::Lost,
        P::Completed => {
            let completion = told
                .completion
                .ok_or("a completed report has no completion")?;
            Progress::Completed(read_completion(completion)?)
        }
        P::Unspecified => return Err("the phase is missing or not known".to_owned()),
    };
    let outputs = told.outputs.into_iter();
    let mut left = MAX_OUTPUTS_SIZE;
    let outputs = outputs.take(MAX_OUTPUTS).map_while(|output| {
        left = left.checked_sub(output.step.len() + output.name.len() + output.json.len())?;
        Some(StepOutput {
            step: output.step,
            name: output.name,
            json: output.json,
        })
    });
    Ok(Report {
        lease,
        outputs: outputs.collect(),
        sequence: told.sequence,
        progress,
        reason: told.reason,
        message: told.message,
        steps: told.steps.into_iter().map(read_step).collect(),
        start_time: told.start_time.and_then(timestamp),
        warnings: told.warnings.into_iter().take(MAX_WARNINGS).collect(),
        address: told.address,
        ready: told.ready,
        log: None,
    })
}

fn read_completion(told: v1::Completion) -> Result<Completion, String> {
    use execution::State as S;
    let outcome = match told.outcome() {
        S::Passed => Outcome::Passed,
        S::Failed => Outcome::Failed,
        S::Aborted => Outcome::Aborted,
        S::Canceled => Outcome::Canceled,
        S::TimedOut => Outcome::TimedOut,
        S::Unspecified
        | S::Queued
        | S::Assigned
        | S::Preparing
        | S::Running
        | S::Paused
        | S::Finishing => return Err("the outcome is not a terminal state".to_owned()),
    };
    Ok(Completion {
        outcome,
        reason: told.reason,
        message: told.message,
        log_size: told.log_size_bytes,
        log_sha256: told.log_sha256,
        finish_time: told.finish_time.and_then(timestamp),
    })
}

fn read_step(told: v1::StepResult) -> StepResult {
    use step_result::State as S;
    let state = match told.state() {
        S::Unspecified | S::Queued => StepState::Queued,
        S::Running => StepState::Running,
        S::Paused => StepState::Paused,
        S::Passed => StepState::Passed,
        S::Failed => StepState::Failed,
        S::TimedOut => StepState::TimedOut,
        S::Skipped => StepState::Skipped,
        S::Aborted => StepState::Aborted,
        S::Canceled => StepState::Canceled,
    };
    StepResult {
        reference: told.reference,
        parent: told.parent,
        id: told.id,
        display_name: told.display_name,
        state,
        exit_code: told.exit_code,
        reason: told.reason,
        message: told.message,
        start_time: told.start_time.and_then(timestamp),
        finish_time: told.finish_time.and_then(timestamp),
        tries: told.tries,
        optional: told.optional,
        negative: told.negative,
        paused_ms: told
            .paused_duration
            .and_then(|paused| Duration::try_from(paused).ok())
            .map_or(0, |paused| {
                u64::try_from(paused.as_millis()).unwrap_or(u64::MAX)
            }),
        outputs: told.outputs.into_iter().take(MAX_OUTPUTS).collect(),
    }
}

/// A time as the wire has it; one that can not be is dropped.
pub(crate) fn timestamp(time: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}
