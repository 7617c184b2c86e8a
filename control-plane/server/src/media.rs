//! What a file is, by its first bytes and its name: a media type, and how people can be shown it. The
//! bytes win: who names a page `a.png` gets no page shown as an image, nor an image as a page.

use muster_report::Format;
use muster_storage::artifact::Preview;

/// How many bytes of a file's beginning are looked at.
const HEAD: usize = 1024;

const UNKNOWN: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";
/// Text of an encoding that is not known.
const OTHER_TEXT: &str = "text/plain";
/// Archives that carry files of other kinds inside, by the ending of their names.
const ZIPS: [(&str, &str); 6] = [
    ("jar", "application/java-archive"),
    ("apk", "application/vnd.android.package-archive"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("odt", "application/vnd.oasis.opendocument.text"),
];
/// Types of text by the ending of a name.
const TEXTS: [(&[&str], &str); 13] = [
    (&["html", "htm", "xhtml"], "text/html; charset=utf-8"),
    (&["css"], "text/css; charset=utf-8"),
    (&["csv"], "text/csv; charset=utf-8"),
    (&["tsv"], "text/tab-separated-values; charset=utf-8"),
    (&["js", "mjs", "cjs"], "text/javascript; charset=utf-8"),
    (&["md"], "text/markdown; charset=utf-8"),
    (&["json", "har", "map"], "application/json"),
    (&["ndjson", "jsonl"], "application/x-ndjson"),
    (&["xml", "xsd", "xsl", "trx"], "application/xml"),
    (&["yaml", "yml"], "application/yaml"),
    (&["toml"], "application/toml"),
    (&["svg"], "image/svg+xml"),
    (&["txt", "log", "tap"], TEXT),
];
/// Types by what a file begins with, and where in it.
const MAGIC: [(usize, &[u8], &str); 24] = [
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"BM", "image/bmp"),
    (0, b"\0\0\x01\0", "image/x-icon"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"\0asm", "application/wasm"),
    (257, b"ustar", "application/x-tar"),
];
/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Media {
    /// Media type.
    pub(crate) content_type: &'static str,
    /// How it can be shown.
    pub(crate) preview: Preview,
    /// Set when it is a report of a test tool.
    pub(crate) report: Option<Format>,
}

impl Media {
    /// What the file is that has this path and begins with these bytes, of which
    /// [`muster_report::HEAD`] count.
    pub(crate) fn of(path: &str, head: &[u8]) -> Self {
        let report = muster_report::recognise(head, path);
        let head = head.get(..HEAD).unwrap_or(head);
        let content_type = content_type(path, head);
        let preview = match Preview::of_type(content_type) {
            Preview::Text if report.is_some() => Preview::Report,
            other => other,
        };
        Self {
            content_type,
            preview,
            report,
        }
    }
}

fn content_type(path: &str, head: &[u8]) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let ending = ending.to_ascii_lowercase();
    if let Some(found) = magic(head) {
        let inside = ZIPS.iter().find(|zip| zip.0 == ending);
        return match inside {
            Some(inside) if found == "application/zip" => inside.1,
            _ => found,
        };
    }
    let named = TEXTS.iter().find(|text| text.0.contains(&ending.as_str()));
    match (named, kind(head)) {
        (_, Kind::Bytes) => UNKNOWN,
        (Some((_, named)), Kind::Utf8) => named,
        (None, Kind::Utf8) => guess(head),
        // A page or program in an encoding that nobody knows is shown as text.
        (_, Kind::OtherText) => OTHER_TEXT,
    }
}

fn magic(head: &[u8]) -> Option<&'static str> {
    let found = MAGIC.iter().find(|(at, magic, _)| {
        let part = head.get(*at..);
        part.is_some_and(|part| part.starts_with(magic))
    })?;
    // Two letters are also how a text may begin.
    let is_text = found.1 == b"BM" && !matches!(kind(head), Kind::Bytes);
    (!is_text).then_some(found.2)
}

enum Kind {
    Utf8,
    OtherText,
    Bytes,
}

fn kind(head: &[u8]) -> Kind {
    // Terminals' escapes, tabs and ends of lines and pages are in logs.
    let control = |byte: &u8| *byte < b' ' && !matches!(byte, 7..=13 | 27);
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Kind::OtherText;
    }
    if head.iter().any(control) {
        return Kind::Bytes;
    }
    match std::str::from_utf8(head) {
        Ok(_) => Kind::Utf8,
        // A character is cut where the head ends.
        Err(error) if error.error_len().is_none() && head.len() == HEAD => Kind::Utf8,
        Err(_) => Kind::OtherText,
    }
}

/// The type of a text whose name tells nothing.
fn guess(head: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |with: &str| {
        let found = text.get(..with.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(with))
    };
    if begins("<!doctype html") || begins("<html") {
        "text/html; charset=utf-8"
    } else if begins("<?xml") {
        "application/xml"
    } else {
        TEXT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_win_over_the_name() {
        let png = b"\x89PNG\r\n\x1a\n\0\0";
        for (path, head, expected, preview) in [
            ("a.png", &png[..], "image/png", Preview::Image),
            ("a.txt", png, "image/png", Preview::Image),
            (
                "a.png",
                b"<html>",
                "text/html; charset=utf-8",
                Preview::Html,
            ),
            ("a.txt", b"<html>", TEXT, Preview::Text),
            ("a.html", b"\0\x01\x02", UNKNOWN, Preview::None),
            ("a.html", b"", "text/html; charset=utf-8", Preview::Html),
            ("x/LOG", b"line\x1b[1m\n", TEXT, Preview::Text),
            ("a.log", b"caf\xe9", OTHER_TEXT, Preview::Text),
            ("a.html", b"caf\xe9", OTHER_TEXT, Preview::Text),
            ("a.log", b"\xff\xfea\0", OTHER_TEXT, Preview::Text),
            ("a.txt", b"BMW", TEXT, Preview::Text),
            ("app.jar", b"PK\x03\x04", ZIPS[0].1, Preview::None),
            ("v.mp4", b"\0\0\0\x20ftypisom", "video/mp4", Preview::Video),
            ("a.pdf", b"%PDF-1.7", "application/pdf", Preview::Pdf),
            ("a.svg", b"<svg/>", "image/svg+xml", Preview::Image),
            ("a.b/c", b"{}", TEXT, Preview::Text),
            ("a.WAV", b"RIFF1234WAVE", "audio/wav", Preview::Audio),
        ] {
            let found = Media::of(path, head);
            assert_eq!(found.content_type, expected, "{path} {head:?}");
            assert_eq!(found.preview, preview, "{path} {head:?}");
        }
    }

    #[test]
    fn reports_are_known_by_what_is_in_them() {
        for (head, expected) in [
            (
                "<testsuite name='a'><testcase name='b'/></testsuite>",
                Preview::Report,
            ),
            ("TAP version 13\n1..1\nok 1 - a\n", Preview::Report),
            ("<project/>", Preview::Text),
            ("<testsuited/>", Preview::Text),
        ] {
            for path in ["a", "a.txt"] {
                assert_eq!(Media::of(path, head.as_bytes()).preview, expected, "{head}");
            }
        }
    }

    #[test]
    fn a_character_that_is_cut_by_the_end_of_the_head_is_no_fault() {
        let mut text = "a".repeat(HEAD - 1).into_bytes();
        text.extend("ä".as_bytes());
        assert_eq!(Media::of("a", &text).content_type, TEXT);
        assert_eq!(Media::of("a", b"a\xc3").content_type, OTHER_TEXT);
    }
}
