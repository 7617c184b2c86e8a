//! Collecting files by patterns: the same code in a shim and, for shared folders, in the
//! conductor. Blocks; runs on a thread of its own.
//!
//! A file below the base of its pattern is named relative to the base; any other by its
//! absolute path without the leading slash.

mod archive;
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

use self::walk::Problem;
use crate::volumes::Volumes;

/// Most files of one collection; what is beyond is named as a problem.
pub(crate) const MOST_FILES: u64 = 10_000;
/// Most problems that are told one by one.
const MOST_PROBLEMS: usize = 50;

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
    },
}

/// Nobody wants the rest.
#[derive(Debug, thiserror::Error)]
#[error("the receiver is gone")]
pub(crate) struct Closed;

/// Collects and sends everything, with [`Item::End`] at last.
pub(crate) fn collect(request: &Request, volumes: &Volumes, items: mpsc::Sender<Item>) {
    let mut collection = Collection {
        items,
        files: 0,
        problems: Vec::new(),
        untold: 0,
        failed: None,
    };
    drop(collection.run(request, volumes));
}

struct Collection {
    items: mpsc::Sender<Item>,
    files: u64,
    problems: Vec<String>,
    untold: usize,
    failed: Option<String>,
}

impl Collection {
    fn run(&mut self, request: &Request, volumes: &Volumes) -> Result<(), Closed> {
        match Patterns::parse(&request.base, &request.patterns) {
            Err(error) => self.problem(Problem::Failed(error.to_string())),
            Ok(patterns) => {
                let found = |found: walk::Found| match name_of(&found.path, &request.base) {
                    Some(name) => Ok((name, found)),
                    None => {
                        let text = format!("{}: the name is not UTF-8", found.path.display());
                        Err(Problem::Failed(text))
                    }
                };
                let files = walk::Walk::new(&patterns, volumes, request.shared_only);
                match &request.archive {
                    None => self.single(files, found, request.names_only)?,
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
        };
        self.send(end)
    }

    fn single(
        &mut self,
        files: walk::Walk<'_>,
        named: impl Fn(walk::Found) -> Result<(String, walk::Found), Problem>,
        names_only: bool,
    ) -> Result<(), Closed> {
        for file in files {
            let Some((path, mut found)) = self.accept(file, &named) else {
                continue;
            };
            // One more name shows that there are too many.
            if self.files >= MOST_FILES + u64::from(names_only) {
                let text = format!("only the first {MOST_FILES} files are kept");
                self.problem(Problem::Failed(text));
                break;
            }
            self.files += 1;
            let name = path.clone();
            self.send(Item::File {
                path,
                mode: found.mode,
            })?;
            if names_only {
                continue;
            }
            if let Err(error) = self.content(&mut found.file)? {
                let text = format!("{name}: {error}; it was kept up to there");
                self.problem(Problem::Failed(text));
            }
            self.send(Item::FileEnd)?;
        }
        Ok(())
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

    fn content(&mut self, file: &mut File) -> Result<std::io::Result<()>, Closed> {
        loop {
            let mut buffer = Vec::with_capacity(MAX_ARTIFACT_DATA);
            let limit = MAX_ARTIFACT_DATA as u64;
            match file.take(limit).read_to_end(&mut buffer) {
                Ok(0) => return Ok(Ok(())),
                Ok(_) => self.send(Item::Data(buffer.into()))?,
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    fn problem(&mut self, problem: Problem) {
        let problem = match problem {
            Problem::LeftOut(text) => text,
            Problem::Failed(text) => {
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

/// The name of a file as an artifact; `None` when it is not UTF-8.
fn name_of(path: &Path, base: &Path) -> Option<String> {
    let relative = match path.strip_prefix(base) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative,
        _ => path.strip_prefix("/").unwrap_or(path),
    };
    relative.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
