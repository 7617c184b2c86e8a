//! References in XML: the five names that it defines, and numbers. Nothing else is expanded.

/// Bytes of the longest reference that is looked for: `&#x10FFFF;` with zeros in front.
pub(crate) const LONGEST: usize = 16;

/// Adds what the reference at the beginning of `ahead` stands for, and says how many bytes it takes. An
/// `&` that begins none stands for itself.
pub(crate) fn resolve(ahead: &[u8], into: &mut Vec<u8>) -> usize {
    let window = &ahead[..ahead.len().min(LONGEST)];
    let end = window.iter().position(|byte| *byte == b';');
    let char = end.and_then(|end| named(window.get(1..end)?));
    match (char, end) {
        (Some(char), Some(end)) => {
            into.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            end + 1
        }
        _ => {
            into.push(b'&');
            1
        }
    }
}

/// The character of a reference. A number that is no character, or NUL, is U+FFFD.
fn named(name: &[u8]) -> Option<char> {
    match name {
        b"amp" => return Some('&'),
        b"lt" => return Some('<'),
        b"gt" => return Some('>'),
        b"quot" => return Some('"'),
        b"apos" => return Some('\''),
        _ => {}
    }
    let digits = std::str::from_utf8(name.strip_prefix(b"#")?).ok()?;
    let hexadecimal = digits.strip_prefix(['x', 'X']);
    let number = match hexadecimal {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()?
        }
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let char = char::from_u32(number).filter(|char| *char != '\0');
    Some(char.unwrap_or(char::REPLACEMENT_CHARACTER))
}
