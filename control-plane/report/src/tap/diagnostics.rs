//! The block below a test of TAP: as much of YAML as producers write there, read line by line: keys
//! with a value, texts over several lines, one mapping in another.

use crate::{
    case::{Case, State},
    collector::Collector,
    text::Clip,
};

pub(super) struct Diagnostics {
    /// Spaces before the block.
    indent: usize,
    /// The last key at the outer level, and whether what follows is its text.
    key: String,
    in_text: bool,
    message: Clip,
    stack: Clip,
    kind: String,
    file: String,
    line: Option<u32>,
    millis: Option<f64>,
    failure: String,
}

impl Diagnostics {
    pub(super) fn new(indent: usize, out: &Collector<'_>) -> Self {
        Self {
            indent,
            key: String::new(),
            in_text: false,
            message: out.message_clip(),
            stack: out.clip(),
            kind: String::new(),
            file: String::new(),
            line: None,
            millis: None,
            failure: String::new(),
        }
    }

    /// Reads a line; whether the block goes on.
    pub(super) fn line(&mut self, text: &str) -> bool {
        let content = text.trim_start_matches(' ');
        let indent = text.len() - content.len();
        if content.trim_end() == "..." && indent <= self.indent {
            return false;
        }
        if content.is_empty() || indent > self.indent {
            self.inner(text.get(self.indent + 2..).unwrap_or_default());
            return true;
        }
        let Some((key, value)) = pair(content) else {
            return true;
        };
        self.key = key.to_owned();
        self.in_text = matches!(value, "|" | "|-" | "|+" | ">" | ">-" | ">+");
        if !self.in_text {
            self.put("", &scalar(value));
        }
        true
    }

    /// A line below the last key.
    fn inner(&mut self, text: &str) {
        if self.in_text {
            let (message, stack) = (&mut self.message, &mut self.stack);
            let clip = match self.key.as_str() {
                "error" | "message" | "diff" => message,
                "stack" => stack,
                _ => return,
            };
            clip.push(text.as_bytes());
            clip.push(b"\n");
        } else if let Some((key, value)) = pair(text.trim_start()) {
            self.put(key, &scalar(value));
        }
    }

    fn put(&mut self, inner: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let short = || value.chars().take(1024).collect();
        match (self.key.as_str(), inner) {
            ("message" | "error", "") if self.message.is_blank() => {
                self.message.push(value.as_bytes());
            }
            ("stack", "") => self.stack.push(value.as_bytes()),
            ("name" | "type", "") if value != "test" && value != "suite" => self.kind = short(),
            ("failureType", "") => self.failure = short(),
            ("duration_ms", "") => self.millis = value.parse().ok(),
            ("file", "") | ("at", "file" | "fileName") => self.file = short(),
            ("line", "") | ("at", "line" | "lineNumber") => self.line = value.parse().ok(),
            ("location" | "at", "") => self.place(value),
            _ => {}
        }
    }

    /// `file:line:column`, perhaps as `function (file:line:column)`.
    fn place(&mut self, value: &str) {
        let value = value.rsplit_once('(').map_or(value, |(_, inside)| inside);
        let value = value.trim_end_matches(')');
        let mut parts = value.rsplitn(3, ':');
        let (column, line, file) = (parts.next(), parts.next(), parts.next());
        if let (Some(Ok(_)), Some(Ok(line)), Some(file)) =
            (column.map(str::parse::<u32>), line.map(str::parse), file)
        {
            self.file = file.chars().take(1024).collect();
            self.line = Some(line);
        }
    }

    /// Puts what was said into the test.
    pub(super) fn put_into(self, case: &mut Case, out: &mut Collector<'_>) {
        if let Some(millis) = self.millis {
            case.duration = out.millis(Some(millis));
        }
        case.file = out.path(&self.file).or_else(|| case.file.take());
        case.line = self.line.or(case.line);
        if !case.state.is_bad() {
            return;
        }
        // What Node.js tells of tests that ended otherwise than by what they check.
        let outer = [
            "hookFailed",
            "testTimeoutFailure",
            "cancelledByParent",
            "parentAlreadyFinished",
            "multipleCallbackInvocations",
            "uncaughtException",
            "unhandledRejection",
            "testAborted",
        ];
        if outer.contains(&self.failure.as_str()) {
            case.state = State::Error;
        }
        let (message, _) = self.message.finish();
        case.message = out.message(&message);
        case.kind = out.optional_name(&self.kind);
        case.stack = out.stack(self.stack);
    }
}

/// A key and its value.
fn pair(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(':')?;
    let key = key.trim().trim_matches(['"', '\'']);
    let told = (value.is_empty() || value.starts_with(' ')) && !key.contains(' ');
    told.then(|| (key, value.trim()))
}

/// A value without its quotes.
fn scalar(value: &str) -> String {
    if let Some(inside) = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        return inside.replace("''", "'");
    }
    if let Some(inside) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
        return inside
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\");
    }
    value.to_owned()
}
