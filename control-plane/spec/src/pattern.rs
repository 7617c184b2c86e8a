//! Globs of `artifacts.paths`: which files they mean, and where to begin looking; the same for
//! whoever chooses among artifacts that are there.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that can not be read.
#[derive(Debug, thiserror::Error)]
#[error("'{pattern}' is not a pattern: {reason}")]
pub struct Error {
    pattern: String,
    reason: String,
}

/// Patterns with `**`; a leading `!` excludes, wherever it stands in the list. A pattern
/// without wildcards that names a folder means all that is in it.
#[derive(Debug)]
pub struct Patterns {
    roots: Vec<PathBuf>,
    include: GlobSet,
    exclude: GlobSet,
}

impl Patterns {
    /// Reads patterns; relative ones are below `base`, which is absolute.
    ///
    /// # Errors
    ///
    /// [`Error`] names the first pattern that is none.
    pub fn parse(base: &Path, patterns: &[String]) -> Result<Self, Error> {
        let (mut include, mut exclude) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut roots = Vec::new();
        for pattern in patterns {
            let (set, text) = match pattern.strip_prefix('!') {
                Some(text) => (&mut exclude, text),
                None => (&mut include, pattern.as_str()),
            };
            let absolute = Absolute::new(base, text);
            let add = |set: &mut GlobSetBuilder, glob: &str| {
                let glob = GlobBuilder::new(glob)
                    .literal_separator(true)
                    .empty_alternates(true)
                    .build()
                    .map_err(|error| Error {
                        pattern: pattern.clone(),
                        reason: error.kind().to_string(),
                    })?;
                set.add(glob);
                Ok(())
            };
            add(set, &absolute.glob)?;
            if absolute.literal {
                add(set, &format!("{}/**", absolute.glob))?;
            }
            if !pattern.starts_with('!') {
                roots.push(absolute.root);
            }
        }
        let built = |set: GlobSetBuilder| {
            set.build().map_err(|error| Error {
                pattern: patterns.join(" "),
                reason: error.kind().to_string(),
            })
        };
        Ok(Self {
            roots: outermost(roots),
            include: built(include)?,
            exclude: built(exclude)?,
        })
    }

    /// Folders or files to begin at; none is below another.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Whether the file of this absolute path is meant.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }
}

/// Which of the artifacts that are there are wanted, by their paths. Without a pattern that includes, all
/// that are not excluded.
#[derive(Debug)]
pub struct Selection(Patterns);

impl Selection {
    /// Reads patterns. They mean what they mean in `artifacts.paths`, from the root of all paths on.
    ///
    /// # Errors
    ///
    /// [`Error`] names the first pattern that is none.
    pub fn parse(patterns: &[String]) -> Result<Self, Error> {
        let mut patterns = patterns.to_vec();
        if patterns.iter().all(|pattern| pattern.starts_with('!')) {
            patterns.push("**".to_owned());
        }
        Patterns::parse(Path::new(ROOT), &patterns).map(Self)
    }

    /// Whether the artifact of this path is wanted.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.0.matches(&Path::new(ROOT).join(path))
    }
}

/// What paths of artifacts are relative to when they are chosen from.
const ROOT: &str = "/";

/// An absolute glob and the part of it before its first wildcard.
struct Absolute {
    glob: String,
    root: PathBuf,
    literal: bool,
}

impl Absolute {
    fn new(base: &Path, text: &str) -> Self {
        let mut parts: Vec<(String, bool)> = Vec::new();
        if !text.starts_with('/') {
            let base = base.to_string_lossy();
            push(&mut parts, &base, |part| (globset::escape(part), true));
        }
        push(&mut parts, text, |part| {
            (part.to_owned(), !part.contains(['*', '?', '[', '{', '\\']))
        });
        let literal = parts.iter().all(|part| part.1);
        let mut root = PathBuf::from("/");
        root.extend(
            parts
                .iter()
                .take_while(|part| part.1)
                .map(|part| unescape(&part.0)),
        );
        let glob = parts
            .iter()
            .fold(String::new(), |glob, part| glob + "/" + &part.0);
        Self {
            glob,
            root,
            literal,
        }
    }
}

fn push(parts: &mut Vec<(String, bool)>, text: &str, part_of: impl Fn(&str) -> (String, bool)) {
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part_of(part)),
        }
    }
}

/// Takes back what [`globset::escape`] does.
fn unescape(part: &str) -> String {
    let mut plain = String::new();
    let mut rest = part.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '[' {
            plain.extend(rest.next());
            rest.next();
        } else {
            plain.push(character);
        }
    }
    plain
}

fn outermost(mut roots: Vec<PathBuf>) -> Vec<PathBuf> {
    roots.sort();
    roots.dedup();
    let mut kept: Vec<PathBuf> = Vec::new();
    for root in roots {
        if !kept.iter().any(|above| root.starts_with(above)) {
            kept.push(root);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
        Patterns::parse(Path::new("/data/[x]"), &list).unwrap()
    }

    #[test]
    fn wildcards_stop_at_slashes_and_double_stars_do_not() {
        for (pattern, path, expected) in [
            ("*.xml", "/data/[x]/a.xml", true),
            ("*.xml", "/data/[x]/b/a.xml", false),
            ("**/*.xml", "/data/[x]/a.xml", true),
            ("**/*.xml", "/data/[x]/b/c/a.xml", true),
            ("**/*", "/data/[x]/.hidden", true),
            ("./out/../*.log", "/data/[x]/a.log", true),
            ("/tmp/{a,b}/**", "/tmp/b/deep/file", true),
            ("/tmp/{a,b}/**", "/tmp/c/file", false),
            ("../other/*", "/data/other/file", true),
            ("report", "/data/[x]/report", true),
            ("report", "/data/[x]/report/index.html", true),
            ("report", "/data/[x]/reports/index.html", false),
            ("file-[0-9]?", "/data/[x]/file-1a", true),
        ] {
            let matches = patterns(&[pattern]).matches(Path::new(path));
            assert_eq!(matches, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn exclusion_holds_wherever_it_stands() {
        for list in [["!**/*.key", "**/*"], ["**/*", "!**/*.key"]] {
            let patterns = patterns(&list);
            assert!(patterns.matches(Path::new("/data/[x]/a/b.log")));
            assert!(!patterns.matches(Path::new("/data/[x]/a/b.key")));
        }
    }

    #[test]
    fn search_begins_at_the_fixed_part_and_never_twice() {
        let patterns = patterns(&["a/*", "a/b/*", "/tmp/x", "!/etc/**"]);
        assert_eq!(
            patterns.roots(),
            [Path::new("/data/[x]/a"), Path::new("/tmp/x")]
        );
    }

    #[test]
    fn artifacts_are_chosen_as_the_language_chooses_files() {
        let chosen = |patterns: &[&str], path: &str| {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            Selection::parse(&patterns).unwrap().matches(path)
        };
        for (patterns, path, expected) in [
            (&[][..], "a/b.xml", true),
            (&["reports/*.xml"], "reports/a.xml", true),
            (&["reports/*.xml"], "reports/b/a.xml", false),
            (&["**/*.xml"], "a.xml", true),
            (&["reports"], "reports/b/a.xml", true),
            (&["*.xml", "*.log"], "a.log", true),
            (&["**", "!**/*.key"], "a/b.key", false),
            (&["!**/*.key"], "a/b.key", false),
            (&["!**/*.key"], "a/b.log", true),
            (&["/tmp/r/*"], "tmp/r/a", true),
        ] {
            assert_eq!(chosen(patterns, path), expected, "{patterns:?} {path}");
        }
        assert!(Selection::parse(&["a[".to_owned()]).is_err());
    }

    #[test]
    fn broken_pattern_is_named() {
        let error = Patterns::parse(Path::new("/data"), &["a{b".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("'a{b'"), "{error}");
    }
}
