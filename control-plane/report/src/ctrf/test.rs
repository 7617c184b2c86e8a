//! A test of CTRF.

use serde::Deserialize;

use crate::{
    case::{Case, Property, State},
    collector::Collector,
    json::{few::Few, loose},
    junit::trouble::complete,
    number::whole,
    parameters, time,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Test {
    #[serde(deserialize_with = "loose::text")]
    name: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    status: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    raw_status: Option<String>,
    #[serde(deserialize_with = "loose::number")]
    duration: Option<f64>,
    #[serde(deserialize_with = "loose::number")]
    start: Option<f64>,
    #[serde(deserialize_with = "loose::texts")]
    suite: Vec<String>,
    #[serde(deserialize_with = "loose::text")]
    message: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    trace: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    file_path: Option<String>,
    #[serde(deserialize_with = "loose::number")]
    line: Option<f64>,
    #[serde(deserialize_with = "loose::number")]
    retries: Option<f64>,
    #[serde(deserialize_with = "loose::flag")]
    flaky: bool,
    #[serde(deserialize_with = "loose::text")]
    browser: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    device: Option<String>,
    #[serde(deserialize_with = "loose::texts")]
    tags: Vec<String>,
    attachments: Few<Attachment>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(deserialize_with = "loose::text")]
    path: Option<String>,
}

impl Test {
    pub(super) fn into_case(self, out: &mut Collector<'_>) -> Case {
        let name = out.name(self.name.as_deref().unwrap_or_default());
        let state = self.state();
        let mut case = Case {
            suite: out.name(&self.suite.join(" > ")),
            parameters: parameters::bracketed(&name).map(str::to_owned),
            file: self.file_path.as_deref().and_then(|file| out.path(file)),
            line: self
                .line
                .and_then(whole)
                .and_then(|line| u32::try_from(line).ok()),
            flaky: self.flaky && state == State::Passed,
            tries: self.tries(),
            duration: out.millis(self.duration),
            started: self.start.and_then(time::from_epoch),
            name,
            state,
            ..Case::default()
        };
        for (name, value) in [("browser", &self.browser), ("device", &self.device)] {
            let value = value.as_deref().map(without_version);
            let value = value.and_then(|value| out.optional_name(&value));
            case.variants.extend(value.map(|value| Property {
                name: name.to_owned(),
                value,
            }));
        }
        for tag in &self.tags {
            out.put(&mut case.properties, "tag", tag);
        }
        for attachment in self.attachments.items {
            out.attach(&mut case.attachments, &attachment.path.unwrap_or_default());
        }
        if state != State::Passed {
            case.message = self.message.as_deref().and_then(|text| out.message(text));
            case.stack = self.trace.as_deref().and_then(|text| out.stack_of(text));
            complete(&mut case, out);
        }
        case
    }

    fn tries(&self) -> u32 {
        let retries = self.retries.and_then(whole).unwrap_or_default();
        u32::try_from(retries)
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1)
    }

    /// What is neither of the four is told by the tool's own word.
    fn state(&self) -> State {
        match self.status.as_deref().unwrap_or_default() {
            "passed" => State::Passed,
            "failed" => State::Failed,
            "skipped" | "pending" => State::Skipped,
            _ => match self.raw_status.as_deref().unwrap_or_default() {
                "todo" | "disabled" | "ignored" | "focused" => State::Skipped,
                _ => State::Error,
            },
        }
    }
}

/// A browser without its version, which is no other test.
fn without_version(text: &str) -> String {
    let words = text.split_whitespace();
    let words = words.take_while(|word| !word.starts_with(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}
