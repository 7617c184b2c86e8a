//! From the conductor's messages to the server's, value by value.

use muster_proto::{runner::v1 as runner, v1};
use prost_types::Timestamp;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// The bytes that hexadecimal tells; none for anything else.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// A time in milliseconds since the epoch; 0 is none.
pub(crate) fn timestamp(milliseconds: i64) -> Option<Timestamp> {
    (milliseconds != 0).then(|| Timestamp {
        seconds: milliseconds.div_euclid(1000),
        nanos: i32::try_from(milliseconds.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    })
}

/// A size on the server's wire.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A size from the server's wire; below zero is zero.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A step.
pub(crate) fn step(status: runner::StepStatus) -> v1::StepResult {
    use runner::StepState as From;
    use v1::step_result::State as To;
    let state = match status.state() {
        From::Unspecified => To::Unspecified,
        From::Queued => To::Queued,
        From::Running => To::Running,
        From::Paused => To::Paused,
        From::Passed => To::Passed,
        From::Failed => To::Failed,
        From::TimedOut => To::TimedOut,
        From::Skipped => To::Skipped,
        From::Aborted => To::Aborted,
        From::Canceled => To::Canceled,
    };
    v1::StepResult {
        reference: status.reference,
        parent: status.parent,
        id: status.id,
        display_name: status.display_name,
        state: state.into(),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        start_time: timestamp(status.start_time_ms),
        finish_time: timestamp(status.finish_time_ms),
        tries: i32::try_from(status.tries).unwrap_or(i32::MAX),
        optional: status.optional,
        negative: status.negative,
        paused_duration: (status.paused_ms > 0)
            .then(|| std::time::Duration::from_millis(status.paused_ms))
            .and_then(|paused| paused.try_into().ok()),
        outputs: status.outputs,
    }
}

/// A value that a step gave out.
pub(crate) fn output(output: &runner::StepOutput) -> v1::StepOutput {
    v1::StepOutput {
        step: output.step.clone(),
        name: output.name.clone(),
        json: output.json.clone(),
    }
}

/// A completion record.
pub(crate) fn completion(record: &runner::Completed) -> v1::Completion {
    use runner::Outcome as From;
    use v1::execution::State as To;
    let outcome = match record.outcome() {
        From::Unspecified => To::Unspecified,
        From::Passed => To::Passed,
        From::Failed => To::Failed,
        From::Aborted => To::Aborted,
        From::Canceled => To::Canceled,
        From::TimedOut => To::TimedOut,
    };
    v1::Completion {
        outcome: outcome.into(),
        reason: record.reason.clone(),
        message: record.message.clone(),
        log_size_bytes: signed(record.log_size),
        log_sha256: hex(&record.log_sha256),
        finish_time: timestamp(record.finish_time_ms),
    }
}

/// A piece of the log.
pub(crate) fn log_chunk(log: runner::Log) -> v1::LogChunk {
    use runner::LogStream as From;
    use v1::log_chunk::Stream as To;
    let stream = match log.stream() {
        From::Unspecified => To::Unspecified,
        From::Stdout => To::Stdout,
        From::Stderr => To::Stderr,
        From::System => To::System,
    };
    v1::LogChunk {
        offset: signed(log.offset),
        data: log.data,
        stream: stream.into(),
        step: log.step,
        time: timestamp(log.time_ms),
    }
}

/// An order to end a run.
pub(crate) fn cancel(order: &v1::CancelAttempt) -> runner::Cancel {
    use runner::Outcome as To;
    use v1::execution::State as From;
    let outcome = match order.outcome() {
        From::Aborted => To::Aborted,
        From::TimedOut => To::TimedOut,
        From::Passed => To::Passed,
        From::Failed => To::Failed,
        From::Unspecified
        | From::Queued
        | From::Assigned
        | From::Preparing
        | From::Running
        | From::Paused
        | From::Finishing
        | From::Canceled => To::Canceled,
    };
    runner::Cancel {
        force: order.force,
        outcome: outcome.into(),
        message: order.message.clone(),
    }
}

/// A wish to pause a run or to let it go on.
pub(crate) fn pause(order: &v1::PauseAttempt) -> runner::Pause {
    runner::Pause {
        sequence: unsigned(order.sequence),
        paused: order.paused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways_and_nothing_else_is_read() {
        let bytes = vec![0, 15, 160, 255];
        assert_eq!(hex(&bytes), "000fa0ff");
        assert_eq!(from_hex("000fa0ff"), Some(bytes));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for bad in ["0", "0g", "00 1", "é"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_keep_their_milliseconds() {
        let time = timestamp(1_700_000_000_123).expect("a time");
        assert_eq!((time.seconds, time.nanos), (1_700_000_000, 123_000_000));
        assert_eq!(timestamp(0), None);
    }
}
