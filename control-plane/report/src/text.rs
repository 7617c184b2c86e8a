//! Text from reports: made valid, stripped of what a database or a page would choke on, and cut at
//! character boundaries. Which text is cut where is in `limits`.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

/// Valid UTF-8 without NUL, with `\n` at ends of lines, and without the colours of terminals.
/// PostgreSQL refuses NUL in text.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(['\0', '\r', '\u{1b}']) {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\0' => out.push('\u{fffd}'),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\u{1b}' if chars.peek() == Some(&'[') => {
                // A control sequence: parameters, then one final character.
                chars.next();
                while chars.next_if(|c| matches!(c, '\x20'..='\x3f')).is_some() {}
                chars.next_if(|c| matches!(c, '\x40'..='\x7e'));
            }
            other => out.push(other),
        }
    }
    out
}

/// Cuts at a boundary of characters; whether something was cut.
pub(crate) fn cut(text: &mut String, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    text.truncate(text.floor_char_boundary(most));
    true
}

/// Cuts a name so that it stays different from others with the same beginning: it ends by `…` and 16
/// digits of the hash of the whole.
pub(crate) fn cut_name(text: &mut String, most: usize) -> bool {
    const ENDING: usize = '…'.len_utf8() + 16;
    if text.len() <= most {
        return false;
    }
    let hash = Sha256::digest(text.as_bytes());
    text.truncate(text.floor_char_boundary(most.saturating_sub(ENDING)));
    text.push('…');
    for byte in hash.iter().take(8) {
        text.push_str(&format!("{byte:02x}"));
    }
    true
}

/// Collects a text that may be long: its head and its tail, in bounded memory.
#[derive(Debug)]
pub(crate) struct Clip {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Bytes of the head, and of the tail.
    most: (usize, usize),
    /// Bytes that came.
    total: u64,
}

impl Clip {
    /// Keeps the first bytes.
    pub(crate) fn head(most: usize) -> Self {
        Self::new(most, 0)
    }

    /// Keeps the first half and the last half.
    pub(crate) fn ends(most: usize) -> Self {
        Self::new(most - most / 2, most / 2)
    }

    fn new(head: usize, tail: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            most: (head, tail),
            total: 0,
        }
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.total = self
            .total
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = self.most.0.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        let rest = &rest[rest.len().saturating_sub(self.most.1)..];
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.most.1);
        self.tail.drain(..over);
    }

    /// Whether nothing but white space came, as far as it is kept.
    pub(crate) fn is_blank(&self) -> bool {
        let mut bytes = self.head.iter().chain(&self.tail);
        bytes.all(u8::is_ascii_whitespace)
    }

    /// The text, and whether something was cut.
    pub(crate) fn finish(self) -> (String, bool) {
        let kept = self.head.len().saturating_add(self.tail.len());
        let cut = self
            .total
            .saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX));
        let mut bytes = self.head;
        if cut == 0 {
            bytes.extend(self.tail);
            let mut text = clean(&bytes);
            // A byte that is not valid becomes three.
            let grown = self::cut(&mut text, self.most.0.saturating_add(self.most.1));
            return (text, grown);
        }
        let mut text = clean(whole_characters(&bytes));
        self::cut(&mut text, self.most.0);
        if self.most.1 > 0 {
            let tail: Vec<u8> = self
                .tail
                .into_iter()
                .skip_while(|byte| byte & 0xc0 == 0x80)
                .collect();
            let tail = clean(&tail);
            let from = tail.ceil_char_boundary(tail.len().saturating_sub(self.most.1));
            text.push_str(&format!("\n… {cut} bytes are cut here …\n"));
            text.push_str(&tail[from..]);
        }
        (text, true)
    }
}

/// Without the beginning of a character at the end.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    let from = bytes.len().saturating_sub(3);
    let last = bytes[from..].iter().rposition(|byte| *byte >= 0xc0);
    match last.map(|at| from + at) {
        Some(at) if std::str::from_utf8(&bytes[at..]).is_err_and(|e| e.error_len().is_none()) => {
            &bytes[..at]
        }
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::{Clip, clean, cut_name};

    #[test]
    fn text_is_valid_and_has_no_nul_and_no_colours() {
        assert_eq!(clean(b"a\0b\xffc\r\nd\re"), "a\u{fffd}b\u{fffd}c\nd\re");
        assert_eq!(clean(b"\x1b[31;1mred\x1b[0m \x1b["), "red ");
    }

    #[test]
    fn a_clip_keeps_head_and_tail_at_boundaries() {
        let mut clip = Clip::ends(8);
        for _ in 0..5 {
            clip.push("aéü".as_bytes());
        }
        let (text, cut) = clip.finish();
        assert!(cut);
        assert_eq!(text, "aé\n… 17 bytes are cut here …\néü");
        let mut clip = Clip::head(4);
        clip.push(b"abcd");
        assert_eq!(clip.finish(), ("abcd".to_owned(), false));
        let mut clip = Clip::head(4);
        clip.push(&[0xff; 4]);
        assert_eq!(clip.finish(), ("\u{fffd}".to_owned(), true));
    }

    #[test]
    fn names_that_are_cut_stay_different() {
        let (mut one, mut other) = ("x".repeat(99) + "1", "x".repeat(99) + "2");
        assert!(cut_name(&mut one, 40) && cut_name(&mut other, 40));
        assert!(one.len() <= 40 && one != other, "{one} {other}");
    }
}
