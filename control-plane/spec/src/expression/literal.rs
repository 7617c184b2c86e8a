//! Literals: JSON values, with texts in single quotes too and raw line breaks inside texts.

use serde_json::Map;

use super::error::Error;
use super::value::{Value, from_float};
use super::{MAX_ITEMS, MAX_NESTING};

/// Reads the literal that begins at `at`, if one does; gives it with the offset after it.
pub(super) fn read(text: &str, at: usize) -> Result<Option<(Value, usize)>, Error> {
    let mut reader = Reader { text, at, items: 0 };
    match reader.peek() {
        Some(b'"' | b'\'' | b'[' | b'{' | b'0'..=b'9') => {}
        Some(b't' | b'f' | b'n') if reader.keyword().is_some() => {}
        _ => return Ok(None),
    }
    let value = reader.value(0)?;
    Ok(Some((value, reader.at)))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    items: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fail(&self, message: &str) -> Error {
        Error::syntax(self.text, self.at, message)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn value(&mut self, nesting: usize) -> Result<Value, Error> {
        if nesting > MAX_NESTING {
            return Err(Error::Limit("nested deeper than 64 levels"));
        }
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(Error::Limit("more than 100000 items in a literal"));
        }
        match self.peek() {
            Some(b'"' | b'\'') => self.string().map(Value::String),
            Some(b'0'..=b'9' | b'-') => self.number(),
            Some(b'[') => self.list(nesting),
            Some(b'{') => self.map(nesting),
            _ => match self.keyword() {
                Some((value, length)) => {
                    self.at += length;
                    Ok(value)
                }
                None => Err(self.fail(
                    "a list or map in brackets holds only plain values (use list(…) for expressions)",
                )),
            },
        }
    }

    /// `true`, `false` or `null`, unless it is the beginning of a longer name.
    fn keyword(&self) -> Option<(Value, usize)> {
        let rest = self.text.get(self.at..)?;
        let (word, value) = [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ]
        .into_iter()
        .find(|(word, _)| rest.starts_with(word))?;
        let longer = rest
            .as_bytes()
            .get(word.len())
            .is_some_and(|&c| c.is_ascii_alphanumeric() || c == b'_' || c == b'.');
        (!longer || rest[word.len()..].starts_with("...")).then_some((value, word.len()))
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while reader.peek().is_some_and(|c| c.is_ascii_digit()) {
                reader.at += 1;
            }
            reader.at > from
        };
        if !digits(self) {
            return Err(self.fail("expected a number"));
        }
        let mut whole = true;
        let next_is_digit = |reader: &Self, by: usize| {
            reader
                .text
                .as_bytes()
                .get(reader.at + by)
                .is_some_and(u8::is_ascii_digit)
        };
        if self.peek() == Some(b'.') && next_is_digit(self, 1) {
            whole = false;
            self.at += 1;
            digits(self);
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(
                self.text.as_bytes().get(self.at + 1),
                Some(b'+' | b'-')
            ));
            if next_is_digit(self, 1 + sign) {
                whole = false;
                self.at += 1 + sign;
                digits(self);
            }
        }
        let text = &self.text[start..self.at];
        if let (true, Ok(int)) = (whole, text.parse::<i64>()) {
            return Ok(Value::from(int));
        }
        let number = text.parse::<f64>().ok().map(from_float);
        match number {
            Some(Ok(value)) => Ok(value),
            _ => Err(Error::syntax(self.text, start, "number too large")),
        }
    }

    fn list(&mut self, nesting: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                Some(b',') if !items.is_empty() => {
                    self.at += 1;
                    self.space();
                }
                Some(_) if items.is_empty() => {}
                _ => return Err(self.fail("expected `,` or `]` in a list")),
            }
            items.push(self.value(nesting + 1)?);
        }
    }

    fn map(&mut self, nesting: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut map = Map::new();
        loop {
            self.space();
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(map));
                }
                Some(b',') if !map.is_empty() => {
                    self.at += 1;
                    self.space();
                }
                Some(_) if map.is_empty() => {}
                _ => return Err(self.fail("expected `,` or `}` in a map")),
            }
            if !matches!(self.peek(), Some(b'"' | b'\'')) {
                return Err(self.fail("expected a key in quotes"));
            }
            let key = self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.fail("expected `:` after a key"));
            }
            self.at += 1;
            self.space();
            let value = self.value(nesting + 1)?;
            map.insert(key, value);
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        let start = self.at;
        let unclosed = || Error::syntax(self.text, start, "text is not closed");
        let rest = self.text.get(start..).ok_or_else(unclosed)?;
        let mut chars = rest.char_indices();
        let quote = chars.next().map(|(_, quote)| quote);
        let mut out = String::new();
        while let Some((index, c)) = chars.next() {
            if Some(c) == quote {
                self.at = start + index + 1;
                return Ok(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, escape) = chars.next().ok_or_else(unclosed)?;
            match escape {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                '"' | '\'' | '\\' | '/' => out.push(escape),
                'u' => {
                    let rest = chars.as_str();
                    let (c, length) = unicode(rest).ok_or_else(|| {
                        Error::syntax(self.text, start + index, "`\\u` needs four hex digits")
                    })?;
                    out.push(c);
                    for _ in 0..length {
                        chars.next();
                    }
                }
                _ => {
                    return Err(Error::syntax(
                        self.text,
                        start + index,
                        format!("unknown escape `\\{escape}`"),
                    ));
                }
            }
        }
        Err(unclosed())
    }
}

/// A `\u` escape after its `u`, with the second half of a surrogate pair; how many characters
/// it takes.
fn unicode(rest: &str) -> Option<(char, usize)> {
    let hex = |from: usize| {
        let digits = rest.get(from..from + 4)?;
        digits
            .bytes()
            .all(|c| c.is_ascii_hexdigit())
            .then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let first = hex(0)?;
    if !(0xd800..0xe000).contains(&first) {
        return char::from_u32(first).map(|c| (c, 4));
    }
    let second = match rest.get(4..6) {
        Some("\\u") => hex(6)?,
        _ => 0,
    };
    if first < 0xdc00 && (0xdc00..0xe000).contains(&second) {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return char::from_u32(code).map(|c| (c, 10));
    }
    Some((char::REPLACEMENT_CHARACTER, 4))
}
