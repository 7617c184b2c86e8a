//! The bytes of a report as UTF-8, with the place of each in the file, and the bound on their number.
//! Which encoding a file has is in `input::encoding`. Bytes that are not valid are passed on as they
//! are: text is made valid where it is taken.

use std::io::{self, ErrorKind, Read};

use encoding_rs::Decoder;

use crate::broken::{Fault, Place, Reason, Step};

pub(crate) mod encoding;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Bytes by which an encoding is told: a byte order mark and an XML declaration.
const SNIFF: usize = 1024;

pub(crate) struct Input<'a> {
    reader: &'a mut dyn Read,
    /// What the reader writes to; kept, as a reader may give little at once.
    chunk: Vec<u8>,
    buffer: Vec<u8>,
    /// The first byte of the buffer that is not consumed.
    at: usize,
    decoder: Option<Decoder>,
    /// The encoding that was declared is not known.
    pub(crate) encoding_unknown: bool,
    /// Bytes of the file that were read, and may be read.
    read: u64,
    most: u64,
    ended: bool,
    over: bool,
    /// The place of `at`.
    offset: u64,
    line: u64,
}

impl<'a> Input<'a> {
    /// Reads so much that the encoding is known.
    pub(crate) fn open(reader: &'a mut dyn Read, most: u64) -> Step<Self> {
        let mut input = Self::utf8(reader);
        input.most = most;
        while input.buffer.len() < SNIFF && !input.ended {
            let mut raw = std::mem::take(&mut input.buffer);
            let result = input.read_raw(&mut raw);
            input.buffer = raw;
            result?;
        }
        let found = encoding::sniff(&input.buffer);
        input.encoding_unknown = found.unknown;
        match found.encoding {
            None => {
                input.at = found.mark;
                input.offset = u64::try_from(found.mark).unwrap_or(0);
            }
            Some(encoding) => {
                let raw = std::mem::take(&mut input.buffer);
                input.decoder = Some(encoding.new_decoder_without_bom_handling());
                input.decode(raw.get(found.mark..).unwrap_or_default());
            }
        }
        Ok(input)
    }

    /// Bytes that are known to be UTF-8, without a bound.
    pub(crate) fn utf8(reader: &'a mut dyn Read) -> Self {
        Self {
            reader,
            chunk: Vec::new(),
            buffer: Vec::new(),
            at: 0,
            decoder: None,
            encoding_unknown: false,
            read: 0,
            most: u64::MAX,
            ended: false,
            over: false,
            offset: 0,
            line: 1,
        }
    }

    /// Whether places are those of the file as it is stored.
    pub(crate) fn is_utf8(&self) -> bool {
        self.decoder.is_none()
    }

    /// The place of the next byte in what is read, which is the file if that is UTF-8.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The place of the next byte.
    pub(crate) fn place(&self) -> Place {
        Place {
            line: self.line,
            offset: self.is_utf8().then_some(self.offset),
        }
    }

    /// Bytes that come next; none at the end.
    pub(crate) fn fill(&mut self) -> Step<&[u8]> {
        if self.at >= self.buffer.len() {
            self.refill()?;
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    /// At least so many bytes that come next, or all that are left.
    pub(crate) fn look(&mut self, count: usize) -> Step<&[u8]> {
        while self.buffer.len() - self.at < count {
            let before = self.buffer.len() - self.at;
            self.refill()?;
            if self.buffer.len() - self.at == before {
                break;
            }
        }
        Ok(self.buffer.get(self.at..).unwrap_or_default())
    }

    /// The next byte, which stays.
    pub(crate) fn peek(&mut self) -> Step<Option<u8>> {
        Ok(self.fill()?.first().copied())
    }

    /// The next byte.
    pub(crate) fn next(&mut self) -> Step<Option<u8>> {
        let byte = self.peek()?;
        if byte.is_some() {
            self.consume(1);
        }
        Ok(byte)
    }

    /// Passes bytes that `fill` or `look` gave.
    pub(crate) fn consume(&mut self, count: usize) {
        let end = self.buffer.len().min(self.at.saturating_add(count));
        let passed = &self.buffer[self.at..end];
        let lines = passed.iter().filter(|byte| **byte == b'\n').count();
        self.line += u64::try_from(lines).unwrap_or(0);
        self.offset += u64::try_from(passed.len()).unwrap_or(0);
        self.at = end;
    }

    /// Passes bytes until the predicate holds for one, which stays; what is passed goes to `take`.
    pub(crate) fn take_until(
        &mut self,
        mut stop: impl FnMut(u8) -> bool,
        mut take: impl FnMut(&[u8]),
    ) -> Step<()> {
        loop {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = bytes.iter().position(|byte| stop(*byte));
            let count = end.unwrap_or(bytes.len());
            take(&bytes[..count]);
            self.consume(count);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Adds bytes to the buffer: nothing at the end.
    fn refill(&mut self) -> Step<()> {
        if self.ended {
            if self.over {
                self.over = false;
                return Err(self.place().fault(Reason::Limit {
                    name: "bytes",
                    what: "bytes",
                    most: self.most,
                }));
            }
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.decoder.is_none() {
            let mut buffer = std::mem::take(&mut self.buffer);
            let result = self.read_raw(&mut buffer);
            self.buffer = buffer;
            return result;
        }
        let before = self.buffer.len();
        while self.buffer.len() == before && !self.ended {
            let mut raw = Vec::new();
            self.read_raw(&mut raw)?;
            self.decode(&raw);
        }
        Ok(())
    }

    /// Reads once from the file, up to what it may have.
    fn read_raw(&mut self, into: &mut Vec<u8>) -> Step<()> {
        self.chunk.resize(CHUNK, 0);
        let count = loop {
            match self.reader.read(&mut self.chunk) {
                Ok(count) => break count.min(CHUNK),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        };
        let left = usize::try_from(self.most - self.read).unwrap_or(usize::MAX);
        let kept = count.min(left);
        self.over = count > left;
        self.ended = count == 0 || self.over;
        self.read += u64::try_from(kept).unwrap_or(0);
        into.extend_from_slice(&self.chunk[..kept]);
        Ok(())
    }

    fn decode(&mut self, mut raw: &[u8]) {
        let Some(decoder) = &mut self.decoder else {
            return;
        };
        loop {
            let room = decoder
                .max_utf8_buffer_length(raw.len())
                .unwrap_or(CHUNK)
                .max(16);
            let from = self.buffer.len();
            self.buffer.resize(from + room, 0);
            let (result, read, written, _) =
                decoder.decode_to_utf8(raw, &mut self.buffer[from..], self.ended);
            self.buffer.truncate(from + written);
            raw = raw.get(read..).unwrap_or_default();
            if result == encoding_rs::CoderResult::InputEmpty {
                return;
            }
        }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = match self.fill() {
            Ok(bytes) => bytes,
            Err(Fault::Io(error)) => return Err(error),
            Err(Fault::Broken(broken)) => return Err(io::Error::other(broken)),
        };
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
