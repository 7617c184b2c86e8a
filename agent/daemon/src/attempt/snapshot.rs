//! What the server is told of an attempt: a snapshot made from its state.

use muster_proto::{
    runner::v1::{Phase as Told, Progress},
    v1::{AttemptReport, attempt_report::Phase},
};

use super::{Attempt, Stage, State};
use crate::convert;

/// Keeps the steps of a conductor's snapshot.
pub(super) fn take_steps(state: &mut State, progress: &Progress) {
    state.steps = progress.steps.iter().cloned().map(convert::step).collect();
    state.start_time_ms = progress.start_time_ms;
}

/// Whether the next report is the last one. A completion record waits for the log: the server
/// takes no log after it.
pub(super) fn is_terminal(state: &State) -> bool {
    match &state.stage {
        Stage::Preparing | Stage::Progress(_) => false,
        Stage::Completed(record) => state.log_is_over || state.durable >= record.log_size,
        Stage::Lost => true,
    }
}

fn phase(state: &State) -> Phase {
    match &state.stage {
        Stage::Preparing => Phase::Preparing,
        Stage::Progress(progress) => match progress.phase() {
            Told::Unspecified | Told::Running => Phase::Running,
            Told::Paused => Phase::Paused,
            Told::Finishing => Phase::Finishing,
        },
        Stage::Completed(_) if is_terminal(state) => Phase::Completed,
        Stage::Completed(_) => Phase::Finishing,
        Stage::Lost => Phase::Lost,
    }
}

/// The report of the state as it is.
pub(super) fn report(attempt: &Attempt, state: &State) -> AttemptReport {
    let phase = phase(state);
    let completion = match (&state.stage, phase) {
        (Stage::Completed(record), Phase::Completed) => Some(convert::completion(record)),
        _ => None,
    };
    AttemptReport {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
        sequence: state.sequence,
        phase: phase.into(),
        reason: state.reason.clone(),
        message: state.message.clone(),
        steps: state.steps.clone(),
        completion,
        start_time: convert::timestamp(state.start_time_ms),
        warnings: state.warnings.clone(),
    }
}
