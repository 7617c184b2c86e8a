//! What the server is told of an attempt: a snapshot made from its state.

use muster_proto::{
    runner::v1::{Completed, Outcome, Phase as Told, Progress, StepState},
    v1::{AttemptReport, CancelAttempt, Completion, attempt_report::Phase, execution},
};

use super::{Attempt, Stage, State};
use crate::convert;

/// Keeps the steps of a conductor's snapshot.
pub(super) fn take_steps(state: &mut State, progress: &Progress) {
    state.steps = progress.steps.iter().cloned().map(convert::step).collect();
    state.outputs = progress.outputs.iter().map(convert::output).collect();
    state.start_time_ms = progress.start_time_ms;
}

/// Says of a service that is started again and again why it is: its owner waits for it.
pub(super) fn tell_trouble(state: &mut State, progress: &Progress) {
    let steps = progress.steps.iter();
    let mut running = steps.filter(|step| step.state() == StepState::Running);
    if let Some(step) = running.find(|step| !step.message.is_empty()) {
        state.reason.clone_from(&step.reason);
        state.message.clone_from(&step.message);
    }
}

/// Whether a service is ready: its conductor says so, and where it has a probe the cluster does.
fn is_ready(state: &State) -> bool {
    let Stage::Progress(progress) = &state.stage else {
        return false;
    };
    progress.ready || state.ready
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

/// The wish to end it that the conductor is told. When the cluster ends the pod, the conductor
/// should hear of it before the signals that its steps get, and take them for what they are.
pub(super) fn cancel(state: &State) -> Option<CancelAttempt> {
    if let Some((order, _)) = &state.cancel {
        let mut order = order.clone();
        // A service that never was ready has not done what it was for.
        if order.outcome() == execution::State::Passed && !state.was_ready {
            order.set_outcome(execution::State::Failed);
        }
        return Some(order);
    }
    let (_, message) = state.stopped.as_ref()?;
    Some(CancelAttempt {
        outcome: execution::State::Aborted.into(),
        message: message.clone(),
        ..CancelAttempt::default()
    })
}

/// The record, with the cluster's own words where the cluster ended it.
fn completion(state: &State, record: &Completed) -> Completion {
    let mut completion = convert::completion(record);
    if record.outcome() == Outcome::Aborted
        && let Some((reason, message)) = &state.stopped
    {
        completion.reason.clone_from(reason);
        completion.message.clone_from(message);
    }
    completion
}

/// The report of the state as it is.
pub(super) fn report(attempt: &Attempt, state: &State) -> AttemptReport {
    let phase = phase(state);
    let completion = match (&state.stage, phase) {
        (Stage::Completed(record), Phase::Completed) => Some(completion(state, record)),
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
        outputs: state.outputs.clone(),
        completion,
        start_time: convert::timestamp(state.start_time_ms),
        warnings: state.warnings.clone(),
        address: state.address.clone(),
        ready: is_ready(state),
    }
}
