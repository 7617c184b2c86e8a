//! Output of a test: where it stands in a file, and back to text.

use super::{Bounds, Event, Reader};
use crate::{
    broken::Step,
    case::{Output, Stream},
    input::Input,
    text,
};

impl Reader<'_> {
    /// Reads the text of the element that began last, and tells where it stands; `None` if it is
    /// blank, or the file is not UTF-8.
    pub(crate) fn output(
        &mut self,
        stream: Stream,
        mut take: impl FnMut(&[u8]),
    ) -> Step<Option<Output>> {
        let start = self.offset();
        let mut blank = true;
        self.text_within(|bytes| {
            blank &= bytes.iter().all(u8::is_ascii_whitespace);
            take(bytes);
        })?;
        let end = self.start();
        let told = self.is_utf8() && !blank;
        Ok(told.then_some(Output { stream, start, end }))
    }
}

/// The text of bytes that an [`Output`] points at: entities are resolved, CDATA marks
/// are taken away. It is as lenient as reading is, so that a part that was cut anywhere gives what can be
/// told of it. Its size is that of the bytes at most.
#[must_use]
pub fn output_text(bytes: &[u8]) -> String {
    let around = [b"<o>", bytes].concat();
    let mut reader = &around[..];
    let mut out = Vec::new();
    let bounds = Bounds {
        depth: 64,
        attributes: 64,
        attribute: 0,
    };
    let mut xml = Reader::new(Input::utf8(&mut reader), bounds);
    while let Ok(event) = xml.next() {
        match event {
            Event::Text(piece) => out.extend_from_slice(piece),
            Event::Eof => break,
            Event::Start(_) | Event::End => {}
        }
    }
    // A piece that broke off.
    out.extend_from_slice(&xml.text);
    text::clean(&out)
}
