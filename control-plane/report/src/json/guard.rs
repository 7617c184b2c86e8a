//! Stands between a file and the parser of JSON: bounds depth and values, makes the bytes valid UTF-8,
//! and brings numbers into the range that the parser takes. It knows strings, brackets and numbers,
//! and leaves everything else to the parser.

use std::{
    cell::RefCell,
    io::{self, Read},
    rc::Rc,
};

use crate::{
    broken::{Fault, Place},
    input::Input,
};

/// Digits of a whole part that are passed on. What has more is out of all range.
const WHOLE: usize = 200;
/// Digits of a fraction that are passed on; a float has 17.
const FRACTION: usize = 40;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) depth: usize,
    /// Only of a document that is held.
    pub(crate) values: Option<usize>,
}

/// Where in a number the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Whole(usize),
    Fraction(usize),
    Exponent,
}

pub(crate) struct Guard<'i> {
    input: Input<'i>,
    bounds: Bounds,
    fault: Rc<RefCell<Option<Fault>>>,
    /// Bytes that are ready, and how many of them are given.
    ready: Vec<u8>,
    given: usize,
    /// The beginning of a character.
    carry: Vec<u8>,
    in_string: bool,
    escaped: bool,
    part: Part,
    exponent: Vec<u8>,
    depth: usize,
    values: usize,
    line: u64,
}

impl<'i> Guard<'i> {
    pub(crate) fn new(input: Input<'i>, bounds: Bounds, fault: Rc<RefCell<Option<Fault>>>) -> Self {
        Self {
            input,
            bounds,
            fault,
            ready: Vec::new(),
            given: 0,
            carry: Vec::new(),
            in_string: false,
            escaped: false,
            part: Part::None,
            exponent: Vec::new(),
            depth: 0,
            values: 0,
            line: 1,
        }
    }

    /// Makes more bytes ready: none at the end.
    fn advance(&mut self) -> Result<(), Fault> {
        self.ready.clear();
        self.given = 0;
        while self.ready.is_empty() {
            let bytes = self.input.fill()?;
            let count = bytes.len();
            let mut chunk = std::mem::take(&mut self.carry);
            chunk.extend_from_slice(bytes);
            self.input.consume(count);
            if count == 0 && chunk.is_empty() {
                self.end_number();
                return Ok(());
            }
            if count > 0 {
                // A character may go on in the next bytes.
                let whole = whole(&chunk);
                self.carry = chunk.split_off(whole);
            }
            for byte in String::from_utf8_lossy(&chunk).bytes() {
                self.byte(byte)?;
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), Fault> {
        self.line += u64::from(byte == b'\n');
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            self.ready.push(byte);
            return Ok(());
        }
        if self.number(byte) {
            return Ok(());
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.count()?;
                if self.depth > self.bounds.depth {
                    return Err(self.place().limit("depth", "levels", self.bounds.depth));
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' => self.count()?,
            _ => {}
        }
        self.ready.push(byte);
        Ok(())
    }

    /// Whether a byte belongs to a number; it is passed on as far as the parser can take it.
    fn number(&mut self, byte: u8) -> bool {
        let next = match (self.part, byte) {
            (Part::None, b'0'..=b'9' | b'-') => Part::Whole(1),
            (Part::Whole(count), b'0'..=b'9') => Part::Whole(count + 1),
            (Part::Whole(_), b'.') => Part::Fraction(0),
            (Part::Fraction(count), b'0'..=b'9') => Part::Fraction(count + 1),
            (Part::Whole(_) | Part::Fraction(_), b'e' | b'E') => Part::Exponent,
            (Part::Exponent, b'0'..=b'9' | b'+' | b'-') => Part::Exponent,
            (Part::None, _) => return false,
            _ => {
                self.end_number();
                return false;
            }
        };
        match next {
            Part::Exponent if self.exponent.len() < 8 => self.exponent.push(byte),
            Part::Exponent => {}
            Part::Whole(count) if count > WHOLE => {}
            Part::Fraction(count) if count > FRACTION => {}
            _ => self.ready.push(byte),
        }
        self.part = next;
        true
    }

    /// Passes the exponent on, which is 99 if it has three digits.
    fn end_number(&mut self) {
        self.part = Part::None;
        let exponent = std::mem::take(&mut self.exponent);
        let from = exponent.iter().position(u8::is_ascii_digit);
        let digits = from.map_or(&[][..], |from| &exponent[from..]);
        let trimmed = digits.iter().skip_while(|digit| **digit == b'0').count();
        if trimmed > 2 {
            let sign = exponent.len() - digits.len();
            self.ready.extend_from_slice(&exponent[..sign]);
            self.ready.extend_from_slice(b"99");
        } else {
            self.ready.extend_from_slice(&exponent);
        }
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.values += 1;
        match self.bounds.values {
            Some(most) if self.values > most => {
                Err(self.place().limit("values", "values in a document", most))
            }
            _ => Ok(()),
        }
    }

    fn place(&self) -> Place {
        Place {
            line: self.line,
            offset: None,
        }
    }
}

impl Read for Guard<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given >= self.ready.len()
            && let Err(fault) = self.advance()
        {
            *self.fault.borrow_mut() = Some(fault);
            return Err(io::Error::other("stopped"));
        }
        let left = &self.ready[self.given..];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.given += count;
        Ok(count)
    }
}

/// How many bytes are whole characters, or no characters at all.
fn whole(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let Some(at) = bytes[from..].iter().rposition(|byte| *byte >= 0xc0) else {
        return bytes.len();
    };
    match std::str::from_utf8(&bytes[from + at..]) {
        Err(error) if error.error_len().is_none() => from + at + error.valid_up_to(),
        _ => bytes.len(),
    }
}
