//! XML as reports have it, read from a stream: tags with bounded attributes, text in pieces, the place
//! of each in the file. What the elements mean is the business of a format.
//!
//! It is a reader of its own because the usual ones hold each text as a whole, and a test may print
//! without end; and because they refuse what tools write: control characters that XML forbids, bytes
//! that are no UTF-8, an `&` that stands for itself. There is nothing to expand: of entities there
//! are the five of XML and numbers, others stay as they are written; a DOCTYPE is passed over.

use crate::{
    broken::{Fault, Place, Reason, Step},
    input::Input,
};

mod entity;
pub(crate) mod output;
mod tag;

pub(crate) use tag::Tag;

/// Bytes of a piece of text.
const PIECE: usize = 8 * 1024;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Event<'r> {
    /// An element begins.
    Start(Tag),
    /// The last element that began ends.
    End,
    /// A piece of text, entities resolved. Not always valid UTF-8.
    Text(&'r [u8]),
    /// The file ends.
    Eof,
}

/// Bounds of elements: fields of `Limits`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) depth: usize,
    pub(crate) attributes: usize,
    pub(crate) attribute: usize,
}

pub(crate) struct Reader<'a> {
    input: Input<'a>,
    bounds: Bounds,
    /// Names of the elements around.
    open: Vec<String>,
    /// Elements that stood alone, and ended.
    roots: u64,
    /// The last tag ended its element, too.
    closes: bool,
    cdata: bool,
    text: Vec<u8>,
    /// Where the last event began.
    start: u64,
    /// Attributes that were cut.
    pub(crate) cut: u64,
    /// DOCTYPEs that were passed over.
    pub(crate) doctypes: u64,
    /// There is text after the report; it is not read.
    pub(crate) text_after: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: Input<'a>, bounds: Bounds) -> Self {
        Self {
            input,
            bounds,
            open: Vec::new(),
            roots: 0,
            closes: false,
            cdata: false,
            text: Vec::new(),
            start: 0,
            cut: 0,
            doctypes: 0,
            text_after: false,
        }
    }

    /// Where the last event began.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Where the last event ended.
    pub(crate) fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Whether offsets are those of the file.
    pub(crate) fn is_utf8(&self) -> bool {
        self.input.is_utf8()
    }

    pub(crate) fn encoding_unknown(&self) -> bool {
        self.input.encoding_unknown
    }

    /// Where reading is.
    pub(crate) fn place(&self) -> Place {
        self.input.place()
    }

    /// How many elements are open.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// How many elements that stand alone have ended.
    pub(crate) fn roots(&self) -> u64 {
        self.roots
    }

    /// Reads what comes next.
    pub(crate) fn next(&mut self) -> Step<Event<'_>> {
        self.start = self.input.offset();
        if self.closes {
            self.closes = false;
            self.close();
            return Ok(Event::End);
        }
        self.text.clear();
        let began = self.input.place();
        loop {
            if self.cdata {
                self.read_cdata()?;
            } else {
                self.read_text()?;
            }
            if self.open.is_empty() && self.outside(began)? {
                return Ok(Event::Eof);
            }
            if self.text.len() >= PIECE {
                return Ok(Event::Text(&self.text));
            }
            if self.cdata {
                continue;
            }
            let (ahead, count) = self.ahead()?;
            let ahead = &ahead[..count];
            if ahead.is_empty() {
                if !self.text.is_empty() {
                    return Ok(Event::Text(&self.text));
                }
                return self.end();
            }
            if ahead.starts_with(b"<!--") {
                self.pass_until(b"-->", "a comment")?;
            } else if ahead.starts_with(b"<![CDATA[") {
                self.input.consume(9);
                self.cdata = true;
            } else if ahead.starts_with(b"<?") {
                self.pass_until(b"?>", "an instruction")?;
            } else if ahead.starts_with(b"<!") {
                self.pass_declaration()?;
            } else if !self.text.is_empty() {
                return Ok(Event::Text(&self.text));
            } else if ahead.first() == Some(&b'<') {
                self.start = self.input.offset();
                return self.tag();
            }
            // Else a piece of text was full in the middle: what follows is text again.
        }
    }

    /// Passes the rest of the last element that began.
    pub(crate) fn skip(&mut self) -> Step<()> {
        let depth = self.depth();
        while self.depth() >= depth {
            if let Event::Eof = self.next()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Gives the text of the last element that began to `take`, that of elements within as well.
    pub(crate) fn text_within(&mut self, mut take: impl FnMut(&[u8])) -> Step<()> {
        let depth = self.depth();
        while self.depth() >= depth {
            match self.next()? {
                Event::Text(bytes) => take(bytes),
                Event::Eof => return Ok(()),
                Event::Start(_) | Event::End => {}
            }
        }
        Ok(())
    }

    /// Adds text up to the next `<`.
    fn read_text(&mut self) -> Step<()> {
        while self.text.len() < PIECE {
            let room = PIECE - self.text.len();
            let bytes = self.input.fill()?;
            let window = &bytes[..bytes.len().min(room)];
            let end = window.iter().position(|byte| matches!(byte, b'<' | b'&'));
            let count = end.unwrap_or(window.len());
            self.text.extend_from_slice(&window[..count]);
            let stop = end.map(|end| window[end]);
            let empty = window.is_empty();
            self.input.consume(count);
            match stop {
                Some(b'&') => {
                    let count = entity::resolve(self.input.look(entity::LONGEST)?, &mut self.text);
                    self.input.consume(count);
                }
                Some(_) => return Ok(()),
                None if empty => return Ok(()),
                None => {}
            }
        }
        Ok(())
    }

    /// Adds text up to the end of a CDATA section.
    fn read_cdata(&mut self) -> Step<()> {
        while self.text.len() < PIECE {
            let room = PIECE - self.text.len();
            let bytes = self.input.look(3)?;
            if bytes.is_empty() {
                return Err(self.truncated("in a CDATA section of"));
            }
            if bytes.starts_with(b"]]>") {
                self.input.consume(3);
                self.cdata = false;
                return Ok(());
            }
            let window = &bytes[..bytes.len().min(room)];
            // A bracket that ends nothing is text.
            let end = window.iter().skip(1).position(|byte| *byte == b']');
            let count = end.map_or(window.len(), |end| end + 1);
            self.text.extend_from_slice(&window[..count]);
            self.input.consume(count);
        }
        Ok(())
    }

    /// Looks at text outside of all elements; whether nothing more is to be read.
    fn outside(&mut self, began: Place) -> Step<bool> {
        let mut text = std::mem::take(&mut self.text);
        // Files that are put together have marks in the middle.
        let blank = text
            .split(|byte| byte.is_ascii_whitespace())
            .all(|word| word.chunks(3).all(|three| three == b"\xef\xbb\xbf"));
        if !blank && self.roots == 0 {
            let shown = String::from_utf8_lossy(text.trim_ascii_start());
            let shown = shown.lines().next().unwrap_or_default();
            let shown: String = shown.chars().filter(|c| !c.is_control()).take(60).collect();
            return Err(began.fault(Reason::TextBefore(shown)));
        }
        text.clear();
        self.text = text;
        self.text_after |= !blank;
        Ok(!blank)
    }

    /// As many bytes as tell what begins.
    fn ahead(&mut self) -> Step<([u8; 9], usize)> {
        let mut ahead = [0; 9];
        let bytes = self.input.look(ahead.len())?;
        let count = bytes.len().min(ahead.len());
        ahead[..count].copy_from_slice(&bytes[..count]);
        Ok((ahead, count))
    }

    fn end(&mut self) -> Step<Event<'_>> {
        if !self.open.is_empty() {
            return Err(self.truncated("in"));
        }
        if self.roots == 0 {
            return Err(self.place().fault(Reason::Empty));
        }
        Ok(Event::Eof)
    }

    fn close(&mut self) {
        self.open.pop();
        if self.open.is_empty() {
            self.roots += 1;
        }
    }

    fn truncated(&self, within: &str) -> Fault {
        let element = self.open.last().map(String::as_str).unwrap_or_default();
        let text = format!("{within} `<{element}>`");
        self.place().fault(Reason::Truncated(text))
    }

    /// Passes up to a mark.
    fn pass_until(&mut self, mark: &[u8], what: &str) -> Step<()> {
        self.input.consume(2);
        loop {
            let bytes = self.input.look(mark.len())?;
            if bytes.len() < mark.len() {
                let text = format!("in {what}");
                return Err(self.place().fault(Reason::Truncated(text)));
            }
            let found = bytes.windows(mark.len()).position(|window| window == mark);
            let count = found.map_or(bytes.len() - mark.len() + 1, |at| at + mark.len());
            self.input.consume(count);
            if found.is_some() {
                return Ok(());
            }
        }
    }

    /// Passes a DOCTYPE with what stands in its brackets. It declares nothing here.
    fn pass_declaration(&mut self) -> Step<()> {
        self.doctypes += 1;
        self.input.consume(2);
        let mut brackets = false;
        let mut quote = None;
        loop {
            let ahead = self.input.look(4)?;
            let comment = quote.is_none() && ahead.starts_with(b"<!--");
            let Some(byte) = ahead.first().copied() else {
                let text = "in a DOCTYPE".to_owned();
                return Err(self.place().fault(Reason::Truncated(text)));
            };
            if comment {
                self.pass_until(b"-->", "a comment")?;
                continue;
            }
            self.input.consume(1);
            match (quote, byte) {
                (Some(open), _) if open == byte => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'[') => brackets = true,
                (None, b']') => brackets = false,
                (None, b'>') if !brackets => return Ok(()),
                (None, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
