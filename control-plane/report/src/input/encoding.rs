//! How a file is encoded: a byte order mark, the shape of its first bytes, an XML declaration, in
//! this order; UTF-8 otherwise.

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// What the first bytes of a file tell.
pub(crate) struct Found {
    /// `None` for UTF-8.
    pub(crate) encoding: Option<&'static Encoding>,
    /// Bytes of the mark.
    pub(crate) mark: usize,
    /// One is declared that nobody knows.
    pub(crate) unknown: bool,
}

/// Tells the encoding by the first bytes.
///
/// A declared UTF-16 counts only by its mark or shape: writers in .NET declare it in files that are
/// UTF-8. US-ASCII is read as UTF-8, which it is, so that places in the file stay known.
pub(crate) fn sniff(head: &[u8]) -> Found {
    let found = |encoding, mark| Found {
        encoding,
        mark,
        unknown: false,
    };
    if let Some((encoding, mark)) = Encoding::for_bom(head) {
        return found(Some(encoding).filter(|encoding| *encoding != UTF_8), mark);
    }
    match head {
        [0, first, ..] if *first != 0 => return found(Some(UTF_16BE), 0),
        [first, 0, ..] if *first != 0 => return found(Some(UTF_16LE), 0),
        _ => {}
    }
    let Some(label) = declared(head) else {
        return found(None, 0);
    };
    if label.eq_ignore_ascii_case(b"us-ascii") || label.eq_ignore_ascii_case(b"ascii") {
        return found(None, 0);
    }
    match Encoding::for_label(label) {
        Some(encoding) => found(
            Some(encoding).filter(|e| *e != UTF_8 && *e != UTF_16LE && *e != UTF_16BE),
            0,
        ),
        None => Found {
            encoding: None,
            mark: 0,
            unknown: true,
        },
    }
}

/// The encoding of an XML declaration, which can only stand at the very beginning.
fn declared(head: &[u8]) -> Option<&[u8]> {
    let head = head.trim_ascii_start();
    let rest = head.strip_prefix(b"<?xml")?;
    let end = rest.windows(2).position(|two| two == b"?>")?;
    let rest = &rest[..end];
    let at = rest.windows(8).position(|word| word == b"encoding")?;
    let rest = rest[at + 8..].trim_ascii_start();
    let rest = rest.strip_prefix(b"=")?.trim_ascii_start();
    let (quote, rest) = rest.split_first()?;
    let end = rest.iter().position(|byte| byte == quote)?;
    Some(&rest[..end])
}
