//! The report of an attempt: a snapshot of all that is known of it.

use muster_core::execution::State;
use muster_proto::v1::{
    AttemptReport, Completion, StepResult, attempt_report::Phase, execution, step_result,
};
use muster_tests::digest::sha256;

use super::{Known, is_last};
use crate::{
    op::End,
    pod::{Pod, Stage},
};

/// The outcome of a pod that is completed.
pub(super) fn outcome(pod: &Pod) -> State {
    match pod.stage {
        Stage::Completed(state) => state,
        Stage::Preparing | Stage::Running | Stage::Paused | Stage::Finishing => State::Aborted,
    }
}

/// The report of what is known now.
pub(super) fn snapshot(attempt: &str, known: &Known, pod: Option<&Pod>, now: i64) -> AttemptReport {
    let mut report = AttemptReport {
        attempt: attempt.to_owned(),
        epoch: known.epoch,
        sequence: known.sequence,
        ..AttemptReport::default()
    };
    let time = prost_types::Timestamp {
        seconds: now / 1000,
        nanos: 0,
    };
    match (known.lost, pod) {
        (Some(reason), _) => {
            report.phase = Phase::Lost.into();
            reason.clone_into(&mut report.reason);
        }
        (None, None) => report.phase = Phase::Preparing.into(),
        (None, Some(pod)) => {
            let last = is_last(known, Some(pod));
            let phase = match pod.stage {
                Stage::Preparing => Phase::Preparing,
                Stage::Running => Phase::Running,
                Stage::Paused => Phase::Paused,
                Stage::Completed(_) if last => Phase::Completed,
                Stage::Finishing | Stage::Completed(_) => Phase::Finishing,
            };
            report.phase = phase.into();
            if pod.stage > Stage::Preparing {
                report.start_time = Some(time);
                report.steps = vec![step(pod)];
            }
            if phase == Phase::Completed {
                report.completion = Some(completion(pod, time));
            }
        }
    }
    report
}

fn step(pod: &Pod) -> StepResult {
    let state = match pod.stage {
        Stage::Preparing | Stage::Running => step_result::State::Running,
        Stage::Paused => step_result::State::Paused,
        Stage::Finishing | Stage::Completed(_) => step_result::State::Passed,
    };
    StepResult {
        reference: "s1".to_owned(),
        display_name: "Greet".to_owned(),
        state: state.into(),
        tries: 1,
        ..StepResult::default()
    }
}

fn completion(pod: &Pod, time: prost_types::Timestamp) -> Completion {
    let told = match outcome(pod) {
        State::Passed => execution::State::Passed,
        State::Failed => execution::State::Failed,
        State::Canceled => execution::State::Canceled,
        State::TimedOut => execution::State::TimedOut,
        State::Aborted
        | State::Queued
        | State::Assigned
        | State::Preparing
        | State::Running
        | State::Paused
        | State::Finishing => execution::State::Aborted,
    };
    let mut log = pod.log.clone();
    match pod.end {
        End::WrongDigest => log.iter_mut().for_each(|byte| *byte = !*byte),
        End::ShortLog => log.extend_from_slice(b"never sent"),
        End::Passed | End::Failed | End::TimedOut => {}
    }
    if pod.end == End::WrongDigest && log.is_empty() {
        log.extend_from_slice(b"?");
    }
    Completion {
        outcome: told.into(),
        log_size_bytes: i64::try_from(log.len()).unwrap_or(i64::MAX),
        log_sha256: sha256(&log),
        finish_time: Some(time),
        ..Completion::default()
    }
}
