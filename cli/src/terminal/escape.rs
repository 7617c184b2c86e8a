//! Makes foreign text harmless for a terminal. A test can print anything: sequences that set the
//! title, write the clipboard, answer on the keyboard's behalf, hide text or reorder it.
//!
//! Colours (SGR) stay, all other sequences go, other control and bidirectional characters are
//! shown as text, bytes that are not UTF-8 become U+FFFD.

/// Longest colour sequence that is kept.
const MAX_COLOR: usize = 64;

/// Filters a stream of bytes; a sequence or character may be split between chunks.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    state: State,
    sequence: Vec<u8>,
    character: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte; one more byte follows.
    Intermediate,
    /// After CSI.
    Control,
    /// In a string (OSC, DCS, APC, PM, SOS): dropped until BEL or ST.
    Text7,
    /// In a string, after ESC.
    Text7Escape,
}

impl Filter {
    /// Filters `input` and appends what is harmless to `output`.
    pub(crate) fn push(&mut self, input: &[u8], output: &mut String) {
        for &byte in input {
            self.byte(byte, output);
        }
    }

    /// Ends the stream: an unfinished character becomes U+FFFD, an unfinished sequence goes.
    pub(crate) fn finish(&mut self, output: &mut String) {
        if !self.character.is_empty() {
            output.push(char::REPLACEMENT_CHARACTER);
        }
        *self = Self::default();
    }

    fn byte(&mut self, byte: u8, output: &mut String) {
        match self.state {
            State::Text => self.text(byte, output),
            State::Escape => self.escape(byte, output),
            State::Intermediate => {
                if !(0x20..=0x2f).contains(&byte) {
                    self.state = State::Text;
                }
            }
            State::Control => self.control(byte, output),
            State::Text7 => match byte {
                0x07 => self.state = State::Text,
                0x1b => self.state = State::Text7Escape,
                // A string never holds a line break: an unfinished one must not eat the log.
                b'\n' => self.back_to_text(byte, output),
                _ => {}
            },
            State::Text7Escape => match byte {
                b'\\' => self.state = State::Text,
                _ => {
                    self.state = State::Escape;
                    self.escape(byte, output);
                }
            },
        }
    }

    fn text(&mut self, byte: u8, output: &mut String) {
        if byte < 0x80 && !self.character.is_empty() {
            self.character.clear();
            output.push(char::REPLACEMENT_CHARACTER);
        }
        match byte {
            0x1b => self.state = State::Escape,
            b'\n' | b'\t' | b'\r' => output.push(char::from(byte)),
            0x00..=0x1f | 0x7f => push_visible(char::from(byte), output),
            0x20..=0x7e => output.push(char::from(byte)),
            0x80..=0xff => self.wide(byte, output),
        }
    }

    fn wide(&mut self, byte: u8, output: &mut String) {
        self.character.push(byte);
        match std::str::from_utf8(&self.character) {
            Ok(text) => {
                for character in text.chars() {
                    push_visible(character, output);
                }
                self.character.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                output.push(char::REPLACEMENT_CHARACTER);
                let begins = self.character.len() > 1 && byte >= 0xc2;
                self.character.clear();
                if begins {
                    self.character.push(byte);
                }
            }
        }
    }

    fn escape(&mut self, byte: u8, output: &mut String) {
        self.state = match byte {
            b'[' => {
                self.sequence.clear();
                State::Control
            }
            b']' | b'P' | b'X' | b'^' | b'_' => State::Text7,
            0x20..=0x2f => State::Intermediate,
            0x1b => State::Escape,
            0x30..=0x7e => State::Text,
            _ => return self.back_to_text(byte, output),
        };
    }

    fn control(&mut self, byte: u8, output: &mut String) {
        match byte {
            0x20..=0x3f => {
                if self.sequence.len() <= MAX_COLOR {
                    self.sequence.push(byte);
                }
            }
            0x40..=0x7e => {
                self.state = State::Text;
                if byte == b'm'
                    && let Some(parameters) = harmless_color(&self.sequence)
                {
                    output.push_str("\x1b[");
                    output.push_str(parameters);
                    output.push('m');
                }
            }
            0x1b => self.state = State::Escape,
            _ => self.back_to_text(byte, output),
        }
    }

    fn back_to_text(&mut self, byte: u8, output: &mut String) {
        self.state = State::Text;
        self.text(byte, output);
    }
}

/// Returns the parameters of a colour sequence that hides nothing: SGR 8 conceals.
fn harmless_color(sequence: &[u8]) -> Option<&str> {
    let allowed = |byte: &u8| matches!(byte, b'0'..=b'9' | b';' | b':');
    if sequence.len() > MAX_COLOR || !sequence.iter().all(allowed) {
        return None;
    }
    let text = std::str::from_utf8(sequence).ok()?;
    let mut parameters = text.split(';');
    while let Some(parameter) = parameters.next() {
        match parameter.trim_start_matches('0') {
            "8" => return None,
            "38" | "48" | "58" => {
                // What follows is a colour: `5;index` or `2;red;green;blue`.
                let arguments = match parameters.next() {
                    Some("5") => 1,
                    Some("2") => 3,
                    _ => return None,
                };
                for _ in 0..arguments {
                    parameters.next()?;
                }
            }
            _ => {}
        }
    }
    Some(text)
}

/// Shows a text of one line: control characters, line breaks too, are seen and not obeyed.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push_visible(character, &mut shown);
    }
    shown
}

/// The same for a text that may have several lines.
pub(crate) fn visible_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(visible).collect();
    lines.join("\n")
}

fn push_visible(character: char, output: &mut String) {
    match character {
        '\u{7f}' => output.push_str("^?"),
        '\0'..='\u{1f}' => {
            output.push('^');
            output.extend(char::from_u32(u32::from(character) + 0x40));
        }
        // C1 controls; directions and invisible operators; line separators; tag characters.
        '\u{80}'..='\u{9f}'
        | '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => {
            output.push_str(&format!("<U+{:04X}>", u32::from(character)));
        }
        _ => output.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(input: &[u8]) -> String {
        let mut output = String::new();
        let mut filter = Filter::default();
        filter.push(input, &mut output);
        filter.finish(&mut output);
        output
    }

    #[test]
    fn colours_stay() {
        for text in [
            "\x1b[31mred\x1b[0m",
            "\x1b[m",
            "\x1b[1;38;5;8mgray\x1b[0m",
            "\x1b[38;2;1;8;3mx",
        ] {
            assert_eq!(filter(text.as_bytes()), text);
        }
    }

    #[test]
    fn hidden_text_is_not_hidden() {
        assert_eq!(filter(b"\x1b[8msecret\x1b[1;08mx"), "secretx");
    }

    #[test]
    fn all_other_sequences_go() {
        for (input, expected) in [
            (&b"\x1b]0;title\x07a"[..], "a"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b]52;c;aGk=\x07a", "a"),
            (b"\x1bP$q\x1b\\a", "a"),
            (b"\x1b[2J\x1b[H\x1b[1Aa", "a"),
            (b"\x1b[?1049ha", "a"),
            (b"\x1b[6na\x1bc\x1b(0b", "ab"),
            (b"\x1b[>4;2ma", "a"),
            (b"\x1b_x\x1b\\\x1b^x\x1b\\a", "a"),
        ] {
            assert_eq!(filter(input), expected, "{:?}", input.escape_ascii());
        }
    }

    #[test]
    fn an_unfinished_sequence_does_not_swallow_the_lines_behind_it() {
        assert_eq!(filter(b"\x1b]0;never ends\nnext"), "\nnext");
        assert_eq!(filter(b"\x1b[12\nnext"), "\nnext");
    }

    #[test]
    fn control_and_direction_characters_are_seen() {
        assert_eq!(filter(b"a\x08b\x07\x7f"), "a^Hb^G^?");
        assert_eq!(filter("a\u{202e}b".as_bytes()), "a<U+202E>b");
        assert_eq!(filter("a\u{9b}31mb".as_bytes()), "a<U+009B>31mb");
        assert_eq!(visible("a\nb\tc"), "a^Jb^Ic");
    }

    #[test]
    fn text_of_all_languages_stays() {
        let text = "grün 漢字 ✓ 🦀\tx\r\n";
        assert_eq!(filter(text.as_bytes()), text);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        assert_eq!(filter(b"a\xffb\xc3("), "a\u{fffd}b\u{fffd}(");
        assert_eq!(filter(b"\x9b31m"), "\u{fffd}31m");
        assert_eq!(filter(b"\xe6\xbc"), "\u{fffd}");
    }

    #[test]
    fn chunk_borders_make_no_difference() {
        let input = "x\x1b[31mrot\x1b[0m \x1b]0;t\x07漢\u{202e}\x1b[2Jy🦀".as_bytes();
        let whole = filter(input);
        for size in 1..input.len() {
            let mut output = String::new();
            let mut filter = Filter::default();
            for chunk in input.chunks(size) {
                filter.push(chunk, &mut output);
            }
            filter.finish(&mut output);
            assert_eq!(output, whole, "chunks of {size}");
        }
    }
}
