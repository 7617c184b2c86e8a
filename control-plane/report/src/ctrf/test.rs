//! A test of CTRF.

use crate::{
    case::{Case, Property, State},
    collector::Collector,
    json::{few::Few, loose, object},
    junit::trouble::complete,
    number::whole,
    parameters, time,
};

object! {
    pub(super) struct Test {
        name: loose::Text = "name",
        status: loose::Text = "status",
        raw_status: loose::Text = "rawStatus",
        duration: loose::Number = "duration",
        start: loose::Number = "start",
        suite: loose::Texts = "suite",
        message: loose::Text = "message",
        trace: loose::Text = "trace",
        file_path: loose::Text = "filePath",
        line: loose::Number = "line",
        retries: loose::Number = "retries",
        flaky: loose::Flag = "flaky",
        browser: loose::Text = "browser",
        device: loose::Text = "device",
        tags: loose::Texts = "tags",
        attachments: Few<Attachment> = "attachments",
    }
}

object! {
    pub(super) struct Attachment {
        path: loose::Text = "path",
    }
}

impl Test {
    pub(super) fn into_case(self, out: &mut Collector<'_>) -> Case {
        let name = out.name(self.name.0.as_deref().unwrap_or_default());
        let state = self.state();
        let mut case = Case {
            suite: out.name(&self.suite.0.join(" > ")),
            parameters: parameters::bracketed(&name).map(str::to_owned),
            file: self.file_path.0.as_deref().and_then(|file| out.path(file)),
            line: self
                .line
                .0
                .and_then(whole)
                .and_then(|line| u32::try_from(line).ok()),
            flaky: self.flaky.0 && state == State::Passed,
            tries: self.tries(),
            duration: out.millis(self.duration.0),
            started: self.start.0.and_then(time::from_epoch),
            name,
            state,
            ..Case::default()
        };
        for (name, value) in [("browser", &self.browser.0), ("device", &self.device.0)] {
            let value = value.as_deref().map(without_version);
            let value = value.and_then(|value| out.optional_name(&value));
            case.variants.extend(value.map(|value| Property {
                name: name.to_owned(),
                value,
            }));
        }
        for tag in &self.tags.0 {
            out.put(&mut case.properties, "tag", tag);
        }
        for attachment in self.attachments.items {
            out.attach(
                &mut case.attachments,
                &attachment.path.0.unwrap_or_default(),
            );
        }
        if state != State::Passed {
            case.message = self.message.0.as_deref().and_then(|text| out.message(text));
            case.stack = self.trace.0.as_deref().and_then(|text| out.stack_of(text));
            complete(&mut case, out);
        }
        case
    }

    fn tries(&self) -> u32 {
        let retries = self.retries.0.and_then(whole).unwrap_or_default();
        u32::try_from(retries)
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1)
    }

    /// What is neither of the four is told by the tool's own word.
    fn state(&self) -> State {
        match self.status.0.as_deref().unwrap_or_default() {
            "passed" => State::Passed,
            "failed" => State::Failed,
            "skipped" | "pending" => State::Skipped,
            _ => match self.raw_status.0.as_deref().unwrap_or_default() {
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
