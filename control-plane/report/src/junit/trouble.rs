//! What a report says of a failure: message, type and account. Elements differ by tool, this part is
//! the same in JUnit, NUnit and xUnit.

use crate::{
    broken::Step,
    case::Case,
    collector::Collector,
    text::Clip,
    xml::{Event, Reader},
};

/// What was said of one failure.
pub(crate) struct Trouble {
    pub(crate) message: String,
    pub(crate) kind: String,
    pub(crate) stack: Clip,
}

impl Trouble {
    /// Reads the element that began last: text in it, and in what tools put into it for the message
    /// and the account; output is passed over.
    pub(crate) fn read(
        xml: &mut Reader<'_>,
        out: &Collector<'_>,
        message: &str,
        kind: &str,
    ) -> Step<Self> {
        let mut stack = out.clip();
        let mut inner = out.message_clip();
        let depth = xml.depth();
        let (mut in_message, mut in_stack) = (false, false);
        while xml.depth() >= depth {
            match xml.next()? {
                Event::Start(tag) => match tag.name.as_str() {
                    "message" => in_message = true,
                    "stackTrace" | "stack-trace" => in_stack = true,
                    _ => xml.skip()?,
                },
                Event::Text(text) if in_message => inner.push(text),
                // White space between elements is none of the account.
                Event::Text(text) if !in_stack && text.trim_ascii().is_empty() => {}
                Event::Text(text) => stack.push(text),
                Event::End => (in_message, in_stack) = (false, false),
                Event::Eof => break,
            }
        }
        let message = match message.trim() {
            "" => inner.finish().0,
            message => message.to_owned(),
        };
        Ok(Self {
            message,
            kind: kind.to_owned(),
            stack,
        })
    }

    /// Puts it into a case that has none yet. Without a message the first line of the account is one;
    /// without a kind the name of an error at the beginning of the message.
    pub(crate) fn put(self, case: &mut Case, out: &mut Collector<'_>) {
        case.message = out.message(&self.message);
        case.kind = out.optional_name(&self.kind);
        case.stack = out.stack(self.stack);
        complete(case, out);
    }
}

/// Fills in message and kind from what is there.
pub(crate) fn complete(case: &mut Case, out: &mut Collector<'_>) {
    if case.message.is_none()
        && let Some(stack) = &case.stack
        && let Some(line) = stack.lines().find(|line| !line.trim().is_empty())
    {
        case.message = out.message(line);
    }
    if case.kind.is_none() {
        case.kind = case.message.as_deref().and_then(error_name);
    }
    if case.stack == case.message {
        case.stack = None;
    }
}

/// The type of an exception that a message begins with: `ValueError` of `ValueError: left over`.
fn error_name(message: &str) -> Option<String> {
    let line = message.lines().next()?;
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    let told = name.len() <= 128
        && name.starts_with(|c: char| c.is_alphabetic())
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '$'))
        && ["Error", "Exception", "Failure"]
            .iter()
            .any(|end| name.ends_with(end));
    told.then(|| name.to_owned())
}
