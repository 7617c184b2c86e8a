//! What a file is, by its first bytes. The name only decides where the content leaves it open.

use crate::{
    format::Format,
    input::Input,
    xml::{Bounds, Event, Reader},
};

mod json;
mod text;

/// Bytes that are looked at.
pub const HEAD: usize = 8 * 1024;

/// What a report is, by the first bytes of its file; [`HEAD`] of them are looked at. `None` if it is no
/// report that is known.
///
/// The name of the file is a hint for two cases only: a JUnit report with the output of a tool in front
/// (which [`parse`](crate::parse()) then refuses with a reason) must be called `.xml`, and TAP without
/// a version and without a plan in the first bytes must be called `.tap`.
#[must_use]
pub fn recognise(head: &[u8], name: &str) -> Option<Format> {
    let head = &head[..head.len().min(HEAD)];
    let text = decoded(head);
    let start = text.trim_ascii_start();
    match start.first()? {
        b'<' => xml(start),
        b'{' | b'[' => json::format(start).or_else(|| text::format(&text, name)),
        _ => text::format(&text, name).or_else(|| noisy(&text, name)),
    }
}

/// The bytes as UTF-8.
fn decoded(head: &[u8]) -> Vec<u8> {
    let mut reader = head;
    let mut text = Vec::new();
    if let Ok(mut input) = Input::open(&mut reader, u64::MAX) {
        // A reader of bytes does not fail.
        while let Ok(Some(_)) = input.peek() {
            if input
                .take_until(|_| false, |bytes| text.extend_from_slice(bytes))
                .is_err()
            {
                break;
            }
        }
    }
    text
}

/// By the first element, and what JMeter shares with nobody.
fn xml(text: &[u8]) -> Option<Format> {
    let mut reader = text;
    let bounds = Bounds {
        depth: 4,
        attributes: 256,
        attribute: 16,
    };
    let mut xml = Reader::new(Input::utf8(&mut reader), bounds);
    let Ok(Event::Start(tag)) = xml.next() else {
        return None;
    };
    match tag.name.as_str() {
        "testsuites" | "testsuite" => Some(Format::Junit),
        "test-run" => Some(Format::Nunit),
        "assemblies" => Some(Format::Xunit),
        "assembly" if tag.find("test-framework").is_some() => Some(Format::Xunit),
        "testResults" => Some(Format::JtlXml),
        _ => None,
    }
}

/// JUnit behind the output of a tool.
fn noisy(text: &[u8], name: &str) -> Option<Format> {
    let named = name.len() >= 4
        && name.is_char_boundary(name.len() - 4)
        && name[name.len() - 4..].eq_ignore_ascii_case(".xml");
    let mut marks = text.windows(10);
    let found = named && marks.any(|mark| mark == b"<testsuite");
    found.then_some(Format::Junit)
}

#[cfg(test)]
mod tests;
