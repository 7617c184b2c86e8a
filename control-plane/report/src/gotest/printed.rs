//! What a test of Go printed, and what of it says why it failed.

use crate::{
    case::{Case, State},
    collector::Collector,
    text::Clip,
};

pub(super) struct Printed {
    all: Clip,
    /// What was logged first, or a panic.
    message: Clip,
    place: Option<(String, u32)>,
    /// The last line belongs to the message.
    goes_on: bool,
    panics: bool,
}

impl Printed {
    pub(super) fn new(message: usize, stack: usize) -> Self {
        Self {
            all: Clip::ends(stack),
            message: Clip::head(message.saturating_add(1)),
            place: None,
            goes_on: false,
            panics: false,
        }
    }

    /// Adds a line; Go gives a long one in parts.
    pub(super) fn push(&mut self, text: &str) {
        // Marks of the test program.
        let word = text.trim_start();
        if word.starts_with("=== ") || word.starts_with("--- ") {
            self.goes_on = false;
            return;
        }
        self.all.push(text.as_bytes());
        if word.starts_with("panic: ") && !self.panics {
            self.panics = true;
            self.message = Clip::head(4 * 1024);
            self.message.push(word.trim_end().as_bytes());
            self.goes_on = false;
        } else if self.goes_on && text.starts_with("        ") {
            self.message.push(b"\n");
            self.message.push(word.trim_end().as_bytes());
        } else if let Some((file, line, said)) = logged(word).filter(|_| self.place.is_none()) {
            self.place = Some((file.to_owned(), line));
            if !self.panics {
                self.message.push(said.trim_end().as_bytes());
                self.goes_on = true;
            }
        } else {
            self.goes_on = false;
        }
    }

    /// Puts it into a test that did not pass.
    pub(super) fn put(self, case: &mut Case, out: &mut Collector<'_>) {
        if case.state == State::Passed {
            return;
        }
        if let Some((file, line)) = self.place {
            case.file = out.path(&file);
            case.line = Some(line);
        }
        let (message, _) = self.message.finish();
        case.message = out.message(&message);
        if case.state.is_bad() {
            case.stack = out.stack(self.all);
            if self.panics {
                case.state = State::Error;
                case.kind = Some("panic".to_owned());
            }
        }
    }
}

/// The parts of `file_test.go:12: text`.
fn logged(text: &str) -> Option<(&str, u32, &str)> {
    let (file, rest) = text.split_once(':')?;
    let (line, said) = rest.split_once(':')?;
    let told = file.ends_with(".go") && !file.contains(' ');
    Some((file, line.parse().ok().filter(|_| told)?, said.trim_start()))
}
