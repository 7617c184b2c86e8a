//! Steps of a scenario, as one: the worst of them decides, and says why.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use crate::{
    case::{Case, State},
    collector::Collector,
    json::{loose, object},
    junit::trouble::complete,
    number::from_seconds,
};

/// Steps, or hooks.
#[derive(Default)]
pub(super) struct Steps {
    count: u64,
    state: State,
    /// Nanoseconds.
    duration: Option<f64>,
    message: Option<String>,
    stack: Option<String>,
}

object! {
    struct Step {
        keyword: loose::Text = "keyword",
        name: loose::Text = "name",
        result: Outcome = "result",
    }
}

object! {
    struct Outcome {
        status: loose::Text = "status",
        duration: loose::Number = "duration",
        error_message: loose::Text = "error_message",
    }
}

impl Steps {
    /// Adds the steps that come after.
    pub(super) fn add(&mut self, later: Self) {
        self.count += later.count;
        if let Some(duration) = later.duration {
            self.duration = Some(self.duration.unwrap_or_default() + duration);
        }
        if later.state > self.state {
            self.state = later.state;
            self.message = later.message;
            self.stack = later.stack;
        }
    }

    fn step(&mut self, step: Step) {
        let name = [step.keyword.0, step.name.0]
            .into_iter()
            .flatten()
            .collect::<String>();
        let name = name.trim();
        let status = step.result.status.0.unwrap_or_default();
        let (state, said) = match status.to_ascii_lowercase().as_str() {
            "passed" => (State::Passed, String::new()),
            // After another one, most often.
            "skipped" => (State::Skipped, String::new()),
            "pending" => (State::Skipped, format!("the step is pending: {name}")),
            "failed" => (State::Failed, String::new()),
            "undefined" => (State::Error, format!("the step is not defined: {name}")),
            "ambiguous" => (State::Error, format!("the step is ambiguous: {name}")),
            _ => (State::Error, format!("the step has no result: {name}")),
        };
        self.add(Self {
            count: 1,
            state,
            duration: step.result.duration.0,
            message: Some(said).filter(|said| !said.is_empty()),
            stack: step.result.error_message.0,
        });
    }

    /// Puts what they say into a case.
    pub(super) fn put(self, case: &mut Case, out: &mut Collector<'_>) {
        case.state = self.state;
        case.duration = self.duration.and_then(|nanos| from_seconds(nanos / 1e9));
        if case.state == State::Passed {
            return;
        }
        case.message = self.message.as_deref().and_then(|text| out.message(text));
        case.stack = self.stack.as_deref().and_then(|text| out.stack_of(text));
        complete(case, out);
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(List)
    }
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Steps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of steps")
    }

    fn visit_unit<E>(self) -> Result<Steps, E> {
        Ok(Steps::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Steps, A::Error> {
        let mut steps = Steps::default();
        while let Some(step) = list.next_element()? {
            steps.step(step);
        }
        Ok(steps)
    }
}
