//! The files that were meant and are not sent: the first of them with their reasons, and how many more.

use std::path::Path;

use muster_proto::runner::v1::MissingFile;

use super::{MAX_NAME, walk};

/// How many are named; the last one says how many more there are.
pub(crate) const MOST: usize = 101;

/// Why a file is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It, or what it is in, can not be read.
    Unreadable,
    /// There can be no artifact of its name.
    BadName,
    /// It is in a folder that is too deep.
    TooDeep,
    /// There are more files than are kept.
    TooMany,
    /// It does not fit into its archive.
    TooLarge,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "UNREADABLE",
            Self::BadName => "BAD_NAME",
            Self::TooDeep => "TOO_DEEP",
            Self::TooMany => "TOO_MANY",
            Self::TooLarge => "TOO_LARGE",
        }
    }
}

/// Files that are missing.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    named: Vec<MissingFile>,
    unnamed: u64,
}

impl Missing {
    /// Those that somebody else has found.
    pub(crate) fn new(named: Vec<MissingFile>, unnamed: u64) -> Self {
        Self { named, unnamed }
    }

    /// Adds one of this name.
    pub(crate) fn add(&mut self, path: String, reason: Reason, message: &str) {
        self.push(MissingFile {
            path,
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
        });
    }

    /// Adds some without names.
    pub(crate) fn count(&mut self, more: u64) {
        self.unnamed += more;
    }

    /// Adds those of another list.
    pub(crate) fn extend(&mut self, other: Self) {
        for file in other.named {
            self.push(file);
        }
        self.unnamed += other.unnamed;
    }

    /// Those that are named, and how many are not.
    pub(crate) fn into_parts(self) -> (Vec<MissingFile>, u64) {
        (self.named, self.unnamed)
    }

    /// Those that are named; the last one tells of the others.
    pub(crate) fn finish(mut self) -> Vec<MissingFile> {
        if let Some(last) = self.named.last_mut()
            && self.unnamed > 0
        {
            let more = format!("; {} more files are missing", self.unnamed);
            last.message.push_str(&more);
        }
        self.named
    }

    fn push(&mut self, file: MissingFile) {
        if self.named.len() < MOST {
            self.named.push(file);
        } else {
            self.unnamed += 1;
        }
    }
}

/// A path as the name of an artifact that there can not be: relative, on one line, and not too long.
pub(super) fn name_of(path: &Path, base: &Path) -> Option<String> {
    let mut name = walk::plain(&super::relative(path, base).to_string_lossy());
    if name.len() > MAX_NAME {
        let cut = (0..=MAX_NAME - '…'.len_utf8()).rev();
        let cut = cut.into_iter().find(|at| name.is_char_boundary(*at));
        name.truncate(cut.unwrap_or(0));
        // Not at the end of a folder's name.
        name.truncate(name.trim_end_matches('/').len());
        name.push('…');
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_can_have_none_are_fit_to_be_shown() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let name = |path: &[u8]| name_of(Path::new(OsStr::from_bytes(path)), Path::new("/data"));
        assert_eq!(name(b"/data/a\nb\x1b").unwrap(), r"a\nb\u{1b}");
        assert_eq!(name(b"/etc/caf\xe9").unwrap(), "etc/caf\u{fffd}");
        assert_eq!(name(b"/data").unwrap(), "data");
        assert_eq!(name(b"/"), None);
        // Cut within a name, and behind a folder's.
        for folder in ["/ü", "/four", "/fives"] {
            let path = format!("/data{}", folder.repeat(600));
            let long = name(path.as_bytes()).unwrap();
            assert!(long.len() <= MAX_NAME && long.ends_with('…'), "{long}");
            assert!(!long.contains("/…") && !long.starts_with('/'), "{long}");
        }
    }

    #[test]
    fn the_last_one_that_is_named_tells_of_the_others() {
        let mut missing = Missing::default();
        missing.count(7);
        for number in 0..MOST + 3 {
            missing.add(number.to_string(), Reason::TooMany, "too many");
        }
        let mut all = Missing::default();
        all.extend(missing);
        let named = all.finish();
        assert_eq!(named.len(), MOST);
        assert_eq!(named[99].message, "too many");
        assert_eq!(named[100].message, "too many; 10 more files are missing");
    }
}
