//! Lines of a report, bounded. What a line means is the business of its format.

use crate::{
    broken::{Place, Step},
    input::Input,
};

pub(crate) struct Lines<'a> {
    input: Input<'a>,
    line: Vec<u8>,
    most: usize,
}

/// A line without its end.
pub(crate) struct Line<'l> {
    /// Its bytes; the first ones of a long line.
    pub(crate) bytes: &'l [u8],
    /// It is longer than it may be.
    pub(crate) long: bool,
    /// It has an end; the last one of a file may have none.
    pub(crate) ended: bool,
    /// Where it begins.
    pub(crate) place: Place,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(input: Input<'a>, most: usize) -> Self {
        Self {
            input,
            line: Vec::new(),
            most,
        }
    }

    /// Where reading is.
    pub(crate) fn place(&self) -> Place {
        self.input.place()
    }

    /// The next line; `None` at the end. The last one may have no end.
    pub(crate) fn next(&mut self) -> Step<Option<Line<'_>>> {
        self.line.clear();
        let place = self.input.place();
        let (line, most) = (&mut self.line, self.most);
        let mut count = 0_usize;
        self.input.take_until(
            |byte| byte == b'\n',
            |bytes| {
                count = count.saturating_add(bytes.len());
                let room = most.saturating_sub(line.len()).min(bytes.len());
                line.extend_from_slice(&bytes[..room]);
            },
        )?;
        let ended = self.input.next()?.is_some();
        if !ended && count == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(Some(Line {
            bytes: &self.line,
            long: count > most,
            ended,
            place,
        }))
    }
}
