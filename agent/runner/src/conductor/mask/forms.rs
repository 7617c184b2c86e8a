//! The forms in which a secret is known: as it is, each of its lines, and as JSON, URLs, base64 and
//! hexadecimal numbers have it.
//!
//! Not known are forms that a test makes itself: reversed, split by other characters, compressed, or in
//! a line of base64 that begins or ends in the middle of it.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

/// Shortest value that is masked, in bytes, as Testkube has it: shorter ones are in any text.
const SHORTEST: usize = 4;
/// The same for its lines and other forms.
const SHORTEST_PART: usize = 6;
/// Values that are settings, whatever keeps them.
const WORDS: [&str; 6] = ["true", "false", "null", "none", "undefined", "default"];
/// Longest value, in bytes, that is known as a whole; of longer ones only lines are.
const LONGEST: usize = 64 << 10;
/// Longest value of which other forms are known: each costs memory in every pod.
const LONGEST_ENCODED: usize = 4 << 10;
/// Lines in which programs print base64: `base64`, and PEM.
const WIDTHS: [usize; 2] = [76, 64];

/// Whether a value is masked at all.
pub(super) fn is_secret(value: &[u8]) -> bool {
    let text = value.trim_ascii();
    let is_word = || {
        WORDS
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    text.len() >= SHORTEST && !is_word()
}

/// All forms of a value.
pub(super) fn of(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let trimmed = value.trim_ascii();
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    forms.extend(lines.map(<[u8]>::to_vec));
    for part in [value, trimmed] {
        if part.len() > LONGEST_ENCODED {
            continue;
        }
        forms.extend(json(part));
        for upper in [true, false] {
            forms.push(hexadecimal(part, upper));
            // As RFC 3986 has it, as browsers' encodeURIComponent does, and as forms are sent.
            for (kept, space) in [("-_.~", "%20"), ("-_.~!*'()", "%20"), ("*-._", "+")] {
                forms.push(percent(part, kept, space, upper));
            }
        }
        for form in base64(part) {
            forms.push(form.iter().map(|byte| url_safe(*byte)).collect());
            forms.push(form);
        }
    }
    forms.retain(|form| (SHORTEST_PART..=LONGEST * 3).contains(&form.len()));
    forms.extend([value, trimmed].map(<[u8]>::to_vec));
    forms.retain(|form| form.len() <= LONGEST);
    forms
}

/// The inside of a JSON string.
fn json(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let quoted = serde_json::to_vec(text).ok()?;
    quoted.get(1..quoted.len() - 1).map(<[u8]>::to_vec)
}

fn hexadecimal(value: &[u8], upper: bool) -> Vec<u8> {
    value.iter().flat_map(|byte| digits(*byte, upper)).collect()
}

fn digits(byte: u8, upper: bool) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|half| match (half, upper) {
        (0..10, _) => b'0' + half,
        (_, true) => b'A' + half - 10,
        (_, false) => b'a' + half - 10,
    })
}

fn percent(value: &[u8], kept: &str, space: &str, upper: bool) -> Vec<u8> {
    let mut form = Vec::with_capacity(value.len() * 3);
    for byte in value {
        match byte {
            b' ' => form.extend(space.bytes()),
            byte if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(byte) => {
                form.push(*byte);
            }
            byte => {
                form.push(b'%');
                form.extend(digits(*byte, upper));
            }
        }
    }
    form
}

/// What base64 of any text has of a value that stands in it: three ways, by where a group of three
/// bytes begins; the characters that its neighbours have a part in are left out. And the whole lines
/// of the value by itself.
fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for before in 0..3_usize {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(value);
        let mut text = STANDARD_NO_PAD.encode(&bytes).into_bytes();
        if bytes.len() % 3 > 0 {
            text.pop();
        }
        // One byte before has a part in two characters, two in three.
        let first = if before > 0 { before + 1 } else { 0 };
        forms.push(text.split_off(first.min(text.len())));
    }
    let whole = STANDARD_NO_PAD.encode(value).into_bytes();
    for width in WIDTHS {
        if whole.len() > width {
            forms.extend(whole.chunks(width).map(<[u8]>::to_vec));
        }
    }
    forms
}

fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}
