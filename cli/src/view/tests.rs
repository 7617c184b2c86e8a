//! A run on a screen that remembers.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use super::*;
use crate::terminal::Terminal;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn step(reference: &str, state: step_result::State, second: i64) -> StepResult {
    StepResult {
        reference: reference.into(),
        display_name: format!("step {reference}"),
        state: state.into(),
        finish_time: Some(prost_types::Timestamp {
            seconds: second,
            nanos: 0,
        }),
        ..StepResult::default()
    }
}

fn execution(steps: Vec<StepResult>) -> Execution {
    Execution {
        state: State::Running.into(),
        steps,
        ..Execution::default()
    }
}

fn chunk(offset: i64, step: &str, text: &str) -> LogChunk {
    LogChunk {
        offset,
        step: step.into(),
        data: text.as_bytes().to_vec().into(),
        ..LogChunk::default()
    }
}

fn remark(offset: i64, step: &str, text: &str) -> LogChunk {
    LogChunk {
        stream: Stream::System.into(),
        ..chunk(offset, step, text)
    }
}

fn view(now: Instant) -> (View, Shared) {
    let out = Shared::default();
    let screen = Screen::new(Box::new(out.clone()), Terminal::plain(), false);
    (View::new(screen, Execution::default(), now), out)
}

#[test]
fn a_result_stands_behind_the_output_of_its_step() {
    use step_result::State::{Passed, Running};
    let now = Instant::now();
    let (mut view, out) = view(now);
    view.update(
        execution(vec![step("s1", Passed, 1), step("s2", Running, 0)]),
        now,
    );
    view.chunk(chunk(0, "s1", "one"), now);
    view.chunk(chunk(3, "s2", "two\n"), now);
    view.chunk(remark(7, "s2", "step s2: exit code 1\n"), now);
    view.update(
        execution(vec![step("s1", Passed, 1), step("s2", Passed, 2)]),
        now,
    );
    let (_, proof) = view.close();
    assert_eq!(
        out.text(),
        "▸ step s1\none\n✓ step s1\n▸ step s2\ntwo\n✓ step s2\n"
    );
    assert!(!proof.verified, "the log has no end");
}

#[test]
fn output_waits_for_the_names_of_the_steps() {
    let now = Instant::now();
    let (mut view, out) = view(now);
    view.chunk(chunk(0, "s1", "one\n"), now);
    assert_eq!(out.text(), "");
    view.update(
        execution(vec![step("s1", step_result::State::Running, 0)]),
        now,
    );
    assert_eq!(out.text(), "▸ step s1\none\n");
}

#[test]
fn output_waits_for_the_result_of_the_step_before() {
    use step_result::State::{Passed, Running};
    let now = Instant::now();
    let (mut view, out) = view(now);
    let steps = |first| execution(vec![step("s1", first, 1), step("s2", Running, 0)]);
    view.update(steps(Running), now);
    view.chunk(chunk(0, "s1", "one\n"), now);
    view.chunk(chunk(4, "s2", "two\n"), now);
    assert_eq!(out.text(), "▸ step s1\none\n");
    view.update(steps(Passed), now);
    assert_eq!(out.text(), "▸ step s1\none\n✓ step s1\n▸ step s2\ntwo\n");
}

#[test]
fn output_never_waits_for_long() {
    let now = Instant::now();
    let (mut view, out) = view(now);
    view.chunk(chunk(0, "s1", "one\n"), now);
    view.tick(now + HOLD);
    assert_eq!(out.text(), "▸ s1\none\n");
}

#[test]
fn a_result_is_shown_when_the_log_is_silent() {
    let now = Instant::now();
    let (mut view, out) = view(now);
    view.update(
        execution(vec![step("s1", step_result::State::Failed, 1)]),
        now,
    );
    assert_eq!(out.text(), "");
    view.tick(now + SETTLE);
    assert_eq!(out.text(), "✗ step s1\n");
}

#[test]
fn a_log_is_verified_only_with_every_byte() {
    let now = Instant::now();
    let end = |text: &str| LogEnd {
        size_bytes: i64::try_from(text.len()).unwrap(),
        sha256: hexadecimal(&Sha256::digest(text)),
        complete: true,
    };
    let (mut whole, _) = view(now);
    whole.chunk(chunk(0, "s1", "ab"), now);
    whole.chunk(chunk(2, "s1", "c"), now);
    whole.end(end("abc"));
    assert!(whole.close().1.verified);
    let (mut holed, _) = view(now);
    holed.chunk(chunk(0, "s1", "a"), now);
    holed.chunk(chunk(2, "s1", "c"), now);
    holed.end(end("abc"));
    assert!(!holed.close().1.verified);
}

#[test]
fn clocks_are_short() {
    assert_eq!(clock(Duration::from_secs(7)), "0:07");
    assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
}
