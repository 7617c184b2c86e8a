//! Collecting files by patterns: the same code in a shim and, for shared folders, in the
//! conductor. Blocks; runs on a thread of its own.
//!
//! A file below the base of its pattern is named relative to the base; any other by its
//! absolute path without the leading slash.

mod archive;
mod digest;
mod hole;
mod missing;
mod walk;

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use muster_proto::runner::v1::MAX_ARTIFACT_DATA;
use muster_spec::pattern::Patterns;
use tokio::sync::mpsc;

pub(crate) use self::{
    digest::Digest,
    missing::{Missing, Reason},
};
use self::{hole::Stretch, walk::Problem};
use crate::volumes::Volumes;

/// Most files of one collection; what is beyond is named as a problem.
pub(crate) const MOST_FILES: u64 = 10_000;
/// Most files of one archive; what is beyond is counted in a problem.
const MOST_ARCHIVED: u64 = 1_000_000;
/// Most bytes of all files of one archive, holes too: ten times the longest artifact, as text is packed. A
/// sparse file may say that it has a million times as many, and all of them would be read.
const MOST_BYTES_ARCHIVED: u64 = 100 << 30;
/// Most bytes that are read of a file that says it has none, as those of the kernel do.
const MOST_OF_NONE: u64 = 16 << 20;
/// Longest name of an artifact, in bytes: the server's limit.
const MAX_NAME: usize = 1024;
/// What names of artifacts may not begin with: those of Muster's own do.
const RESERVED: &str = ".muster/";
/// Most problems that are told one by one.
const MOST_PROBLEMS: usize = 50;

/// How much is collected.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Files of one collection.
    files: u64,
    /// Files of one archive.
    archived: u64,
    /// Bytes of all files of one archive.
    bytes_archived: u64,
}

const LIMITS: Limits = Limits {
    files: MOST_FILES,
    archived: MOST_ARCHIVED,
    bytes_archived: MOST_BYTES_ARCHIVED,
};

/// What to collect.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Base of relative patterns; absolute.
    pub(crate) base: PathBuf,
    /// Globs.
    pub(crate) patterns: Vec<String>,
    /// One archive of this name instead of single files.
    pub(crate) archive: Option<String>,
    /// Only which files there are: no content, no ends.
    pub(crate) names_only: bool,
    /// Nothing outside of the folders that all containers share.
    pub(crate) shared_only: bool,
    /// Single files of so many bytes or more are hashed before their content comes; 0 for none.
    pub(crate) digest_from: u64,
}

/// A part of what was collected.
#[derive(Debug)]
pub(crate) enum Item {
    /// A file begins.
    File {
        /// Its relative path.
        path: String,
        /// Permission bits.
        mode: u32,
        /// When its content last changed, milliseconds since the epoch; 0 for an archive.
        modified_ms: i64,
        /// What its content was, when that was wanted and could be read.
        digest: Option<Digest>,
    },
    /// The next bytes of it.
    Data(Bytes),
    /// It ends.
    FileEnd,
    /// Nothing more comes.
    End {
        /// Files that were sent.
        files: u64,
        /// What could not be sent, one line each.
        problems: Vec<String>,
        /// The first of them that is more than a link or a special file left out.
        failed: Option<String>,
        /// The files that were meant and are not sent.
        missing: Missing,
    },
}

/// Nobody wants the rest.
#[derive(Debug, thiserror::Error)]
#[error("the receiver is gone")]
pub(crate) struct Closed;

/// Collects and sends everything, with [`Item::End`] at last.
pub(crate) fn collect(request: &Request, volumes: &Volumes, items: mpsc::Sender<Item>) {
    collect_within(LIMITS, request, volumes, items);
}

fn collect_within(limits: Limits, request: &Request, volumes: &Volumes, items: mpsc::Sender<Item>) {
    let mut collection = Collection {
        items,
        limits,
        base: request.base.clone(),
        files: 0,
        beyond: 0,
        problems: Vec::new(),
        untold: 0,
        failed: None,
        missing: Missing::default(),
    };
    drop(collection.run(request, volumes));
}

struct Collection {
    items: mpsc::Sender<Item>,
    limits: Limits,
    base: PathBuf,
    files: u64,
    /// Files that were found when there were enough already.
    beyond: u64,
    problems: Vec<String>,
    untold: usize,
    failed: Option<String>,
    missing: Missing,
}

impl Collection {
    fn run(&mut self, request: &Request, volumes: &Volumes) -> Result<(), Closed> {
        match Patterns::parse(&request.base, &request.patterns) {
            Err(error) => self.problem(Problem::Failed(error.to_string())),
            Ok(patterns) => {
                let found = |found: walk::Found| {
                    let name = name_of(&found.path, &request.base);
                    name.map(|name| (name, found))
                };
                let most = match request.archive {
                    Some(_) => self.limits.archived,
                    // One more name shows that there are too many.
                    None => self.limits.files + u64::from(request.names_only),
                };
                // Some of those that are left out are named.
                let given = most + missing::MOST as u64;
                let files = walk::Walk::new(&patterns, volumes, request.shared_only, given);
                match &request.archive {
                    None => self.single(files, found, request, most)?,
                    Some(name) => archive::write(self, name, files, found)?,
                }
            }
        }
        if self.untold > 0 {
            self.problems.push(format!("and {} more", self.untold));
        }
        let end = Item::End {
            files: self.files,
            problems: std::mem::take(&mut self.problems),
            failed: self.failed.take(),
            missing: std::mem::take(&mut self.missing),
        };
        self.send(end)
    }

    fn single(
        &mut self,
        mut files: walk::Walk<'_>,
        named: impl Fn(walk::Found) -> Result<(String, walk::Found), Problem>,
        request: &Request,
        most: u64,
    ) -> Result<(), Closed> {
        while let Some(file) = files.next() {
            let Some((path, mut found)) = self.accept(file, &named) else {
                continue;
            };
            if self.files >= most {
                if self.is_beyond(&found) {
                    continue;
                }
                files.count_rest();
                break;
            }
            self.files += 1;
            let name = path.clone();
            let digest = match request.names_only {
                true => None,
                false => digest::of(&found, request.digest_from, &self.items)?,
            };
            self.send(Item::File {
                path,
                mode: found.mode,
                modified_ms: found.modified_ms,
                digest,
            })?;
            if request.names_only {
                continue;
            }
            match self.content(&mut found)? {
                Ok(None) => {}
                Ok(Some(remark)) => self.problem(Problem::LeftOut(format!("{name}: {remark}"))),
                Err(error) => {
                    let text = format!("{name}: {error}; it was kept up to there");
                    self.problem(Problem::Failed(text));
                }
            }
            self.send(Item::FileEnd)?;
        }
        self.missing.count(files.left_out());
        let left_out = self.beyond + files.left_out();
        if left_out > 0 {
            let text = format!(
                "only the first {} files are kept, {left_out} are left out; choose fewer, or put them into one \
                 by `compress`",
                self.files
            );
            self.problem(Problem::Failed(text));
        }
        Ok(())
    }

    /// Names a file that is one too many as missing; whether more of them can be named.
    fn is_beyond(&mut self, found: &walk::Found) -> bool {
        self.beyond += 1;
        let words = "there are too many files, and only the first ones by path are kept";
        self.miss(&found.path, Reason::TooMany, words);
        self.beyond < missing::MOST as u64
    }

    /// The next file with its name, or notes why it is none.
    fn accept(
        &mut self,
        file: Result<walk::Found, Problem>,
        named: &impl Fn(walk::Found) -> Result<(String, walk::Found), Problem>,
    ) -> Option<(String, walk::Found)> {
        match file.and_then(named) {
            Ok(named) => Some(named),
            Err(problem) => {
                self.problem(problem);
                None
            }
        }
    }

    /// Sends what a file holds: as many bytes as it had when it was opened, so that one that grows for ever
    /// comes to its end. Returns what is worth a remark.
    fn content(
        &mut self,
        found: &mut walk::Found,
    ) -> Result<std::io::Result<Option<&'static str>>, Closed> {
        let whole = match found.size {
            0 => MOST_OF_NONE,
            size => size,
        };
        let mut left = whole;
        // Up to where there is data.
        let mut data = match found.size {
            0 => whole,
            _ => 0,
        };
        while left > 0 {
            let at = whole - left;
            if at >= data {
                match Stretch::find(&found.file, at, whole) {
                    Ok(Stretch::Data(end)) => data = end,
                    Ok(Stretch::Hole(end)) => {
                        self.zeros(end - at)?;
                        left = whole - end;
                        continue;
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
            let limit = (data - at).min(MAX_ARTIFACT_DATA as u64);
            let mut buffer = Vec::with_capacity(usize::try_from(limit).unwrap_or(0));
            match (&mut found.file).take(limit).read_to_end(&mut buffer) {
                Ok(0) => break,
                Ok(read) => left -= read as u64,
                Err(error) => return Ok(Err(error)),
            }
            self.send(Item::Data(buffer.into()))?;
        }
        Ok(Ok(match left {
            0 if has_more(&mut found.file) => Some(GREW),
            left if left > 0 && found.size > 0 => {
                Some("it shrank while it was read; it was kept as it was then")
            }
            _ => None,
        }))
    }

    /// Sends zeros, all from one piece of memory.
    fn zeros(&self, count: u64) -> Result<(), Closed> {
        let most = count.min(MAX_ARTIFACT_DATA as u64);
        let piece = Bytes::from(vec![0; usize::try_from(most).unwrap_or(MAX_ARTIFACT_DATA)]);
        let mut left = count;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            self.send(Item::Data(piece.slice(..length)))?;
            left -= length as u64;
        }
        Ok(())
    }

    fn miss(&mut self, path: &Path, reason: Reason, message: &str) {
        match missing::name_of(path, &self.base) {
            Some(name) => self.missing.add(name, reason, message),
            None => self.missing.count(1),
        }
    }

    fn problem(&mut self, problem: Problem) {
        let problem = match problem {
            Problem::LeftOut(text) => text,
            Problem::Failed(text) => {
                self.failed.get_or_insert_with(|| text.clone());
                text
            }
            Problem::Missing {
                path,
                reason,
                message,
            } => {
                self.miss(&path, reason, &message);
                let text = format!("{}: {message}", walk::shown(&path));
                self.failed.get_or_insert_with(|| text.clone());
                text
            }
        };
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.untold += 1;
        }
    }

    fn send(&self, item: Item) -> Result<(), Closed> {
        self.items.blocking_send(item).map_err(|_closed| Closed)
    }
}

/// What is told of a file that is longer than what was kept.
const GREW: &str = "it grew while it was read; it was kept as long as it was before";

/// Whether a file goes on.
fn has_more(file: &mut File) -> bool {
    matches!(file.read(&mut [0]), Ok(1))
}

/// A path below the base, or from the root on without its first slash.
fn relative<'a>(path: &'a Path, base: &Path) -> &'a Path {
    match path.strip_prefix(base) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative,
        _ => path.strip_prefix("/").unwrap_or(path),
    }
}

/// The name of a file as an artifact, or why there can be none of that name.
fn name_of(path: &Path, base: &Path) -> Result<String, Problem> {
    let refused = |words: &str| {
        Err(Problem::Missing {
            path: path.to_owned(),
            reason: Reason::BadName,
            message: words.to_owned(),
        })
    };
    match relative(path, base).to_str() {
        None => refused("the name is not UTF-8, left out"),
        Some(name) if name.len() > MAX_NAME => {
            refused("the path is longer than 1,024 bytes, left out")
        }
        Some(name) if name.chars().any(char::is_control) => {
            refused("the path has control characters, left out")
        }
        Some(name) if name.starts_with(RESERVED) => {
            refused("paths that begin with '.muster/' are Muster's own, left out")
        }
        Some(name) => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests;
