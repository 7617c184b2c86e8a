//! Finding the files of patterns. Links out of the tree, and what is not a plain file, are
//! told, never followed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Dir, FileType, OFlags, fstatfs};

use muster_spec::pattern::Patterns;

use super::Reason;
use crate::{beneath, volumes::Volumes};

/// Deepest folder below a root.
const DEEPEST: usize = 200;
/// Most folders in one folder.
const MOST_FOLDERS: usize = 100_000;
/// File systems of the kernel, which are no files to keep: proc, sysfs, cgroup, cgroup2.
const KERNEL: [i64; 4] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270];

/// A file that a pattern means, open.
#[derive(Debug)]
pub(super) struct Found {
    /// Absolute path as the language knows it.
    pub(super) path: PathBuf,
    /// The file.
    pub(super) file: File,
    /// Permission bits.
    pub(super) mode: u32,
    /// Its length when it was opened.
    pub(super) size: u64,
    /// When its content last changed, milliseconds since the epoch.
    pub(super) modified_ms: i64,
}

/// Why a place gives no file, in one line for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is none: a link that is not followed, a pipe.
    LeftOut(String),
    /// It should have been one, or some.
    Failed(String),
    /// It should have been one, and is listed as missing.
    Missing {
        /// Absolute path as the language knows it.
        path: PathBuf,
        /// Why.
        reason: Reason,
        /// The same in words.
        message: String,
    },
}

/// A folder, with the names in it that are still to be looked at. A folder may have a million of them, so
/// they are not paths.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    real: PathBuf,
    depth: usize,
    names: std::vec::IntoIter<(OsString, FileType)>,
}

/// A place to be looked at.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    real: PathBuf,
    depth: usize,
    kind: FileType,
}

/// All files of patterns.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    patterns: &'a Patterns,
    /// From the outermost to the one at hand.
    folders: Vec<Folder>,
    /// Most files that are wanted.
    most: usize,
    /// Files that are not given because there are more.
    left_out: u64,
    /// Nothing more is wanted but how many there are.
    counting: bool,
    /// Where links may lead: the real path of the root at hand.
    tree: PathBuf,
    roots: Vec<(PathBuf, PathBuf)>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    /// All files that the patterns mean, by path within each root. Of those that are more than `most` in one
    /// folder only the number is kept.
    pub(super) fn new(
        patterns: &'a Patterns,
        volumes: &Volumes,
        shared_only: bool,
        most: u64,
    ) -> Self {
        let mut walk = Self {
            patterns,
            folders: Vec::new(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
            left_out: 0,
            counting: false,
            tree: PathBuf::new(),
            roots: Vec::new(),
            problems: Vec::new(),
        };
        for root in patterns.roots() {
            let real = volumes.real(root);
            match fs::canonicalize(&real) {
                Ok(real) if shared_only && !is_inside_shared(root, &real, volumes) => {
                    let words =
                        "its container is gone, and it is on no folder that all containers share";
                    walk.miss(root, Reason::Unreadable, words);
                }
                Ok(real) => walk.roots.push((root.clone(), real)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => walk.fail(root, &error),
            }
        }
        walk.roots.reverse();
        walk
    }

    /// How many files are meant and were not given.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Counts what is left without opening it, and tells how many files were not given.
    pub(super) fn count_rest(&mut self) -> u64 {
        self.counting = true;
        self.by_ref().for_each(drop);
        self.left_out
    }

    fn fail(&mut self, path: &Path, error: &io::Error) {
        self.miss(path, Reason::Unreadable, &error.to_string());
    }

    fn miss(&mut self, path: &Path, reason: Reason, words: &str) {
        self.problems.push(Problem::Missing {
            path: path.to_owned(),
            reason,
            message: words.to_owned(),
        });
    }

    fn look(&mut self, place: Place) -> Option<Found> {
        match place.kind {
            FileType::Directory if place.depth > DEEPEST => {
                self.miss(&place.path, Reason::TooDeep, "too deep");
                None
            }
            FileType::Directory => {
                if let Err(error) = self.enter(&place) {
                    self.fail(&place.path, &error);
                }
                None
            }
            FileType::RegularFile | FileType::Symlink
                if self.counting && self.patterns.matches(&place.path) =>
            {
                self.left_out += 1;
                None
            }
            FileType::RegularFile if self.patterns.matches(&place.path) => self.open(place),
            FileType::Symlink if self.patterns.matches(&place.path) => self.follow(place),
            FileType::RegularFile | FileType::Symlink => None,
            _ => {
                if self.patterns.matches(&place.path) {
                    let problem = format!("{}: not a plain file", shown(&place.path));
                    self.problems.push(Problem::LeftOut(problem));
                }
                None
            }
        }
    }

    fn enter(&mut self, place: &Place) -> io::Result<()> {
        let folder = beneath::open(
            &place.real,
            OFlags::RDONLY | OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )?;
        #[expect(clippy::useless_conversion, reason = "narrower on some architectures")]
        if KERNEL.contains(&i64::from(fstatfs(folder.as_fd())?.f_type)) {
            return Ok(());
        }
        let mut files: Vec<(OsString, FileType)> = Vec::new();
        let mut folders: Vec<(OsString, FileType)> = Vec::new();
        let mut more_folders = 0;
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(&place.real.join(&name)),
                known => known,
            };
            if kind == FileType::Directory {
                folders.push((name, kind));
                more_folders += first(&mut folders, MOST_FOLDERS, false);
            } else if self.patterns.matches(&place.path.join(&name)) {
                if self.counting {
                    self.left_out += 1;
                    continue;
                }
                files.push((name, kind));
                self.left_out += first(&mut files, self.most, false);
            }
        }
        self.left_out += first(&mut files, self.most, true);
        more_folders += first(&mut folders, MOST_FOLDERS, true);
        if more_folders > 0 {
            let words = format!(
                "{more_folders} folders are left out, more than {MOST_FOLDERS} in one are not searched"
            );
            self.miss(&place.path, Reason::TooMany, &words);
        }
        files.append(&mut folders);
        files.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        self.folders.push(Folder {
            path: place.path.clone(),
            real: place.real.clone(),
            depth: place.depth,
            names: files.into_iter(),
        });
        Ok(())
    }

    fn open(&mut self, place: Place) -> Option<Found> {
        let opened = beneath::read(&place.real).and_then(|file| {
            let file = File::from(file);
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::other("not a plain file"));
            }
            Ok((file, metadata))
        });
        match opened {
            Ok((file, metadata)) => Some(Found {
                path: place.path,
                file,
                mode: metadata.mode() & 0o777,
                size: metadata.len(),
                modified_ms: metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.fail(&place.path, &error);
                None
            }
        }
    }

    /// A link to a plain file inside of the tree stands for that file.
    fn follow(&mut self, place: Place) -> Option<Found> {
        let problem = match fs::canonicalize(&place.real) {
            Ok(real) if !real.starts_with(&self.tree) => "a link that leads out of the folder",
            Ok(real) if real.is_dir() => "a link to a folder",
            Ok(real) => return self.open(Place { real, ..place }),
            Err(_) => "a link that leads nowhere",
        };
        let line = format!("{}: {problem}, left out", shown(&place.path));
        self.problems.push(Problem::LeftOut(line));
        None
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(problem) = self.problems.pop() {
                return Some(Err(problem));
            }
            if let Some(folder) = self.folders.last_mut() {
                let Some((name, kind)) = folder.names.next() else {
                    self.folders.pop();
                    continue;
                };
                let place = Place {
                    path: folder.path.join(&name),
                    real: folder.real.join(&name),
                    depth: folder.depth + 1,
                    kind,
                };
                if let Some(found) = self.look(place) {
                    return Some(Ok(found));
                }
                continue;
            }
            let (path, real) = self.roots.pop()?;
            let Ok(metadata) = fs::symlink_metadata(&real) else {
                continue;
            };
            self.tree = if metadata.is_dir() {
                real.clone()
            } else {
                real.parent().map(Path::to_owned).unwrap_or_default()
            };
            let found = self.look(Place {
                path,
                real,
                depth: 0,
                kind: FileType::from_raw_mode(metadata.mode()),
            });
            if let Some(found) = found {
                return Some(Ok(found));
            }
        }
    }
}

/// Keeps the first `most` names once there are twice as many, or at the end. Returns how many went.
fn first(names: &mut Vec<(OsString, FileType)>, most: usize, at_end: bool) -> u64 {
    if names.len() <= most || (!at_end && names.len() < most.saturating_mul(2)) {
        return 0;
    }
    let (kept, ..) = names.select_nth_unstable_by(most, |left, right| left.0.cmp(&right.0));
    let kept = kept.len();
    let more = names.len() - kept;
    names.truncate(kept);
    more as u64
}

fn kind_of(real: &Path) -> FileType {
    fs::symlink_metadata(real).map_or(FileType::Unknown, |metadata| {
        FileType::from_raw_mode(metadata.mode())
    })
}

/// A path for people, on one line: a test may have made it of anything.
pub(super) fn shown(path: &Path) -> String {
    /// Longest path that is shown, in characters.
    const LONGEST: usize = 300;
    let text = path.to_string_lossy();
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    plain(&shown)
}

/// A text on one line, with escapes where it needs any.
pub(super) fn plain(text: &str) -> String {
    match text.chars().any(char::is_control) {
        true => text.escape_debug().to_string(),
        false => text.to_owned(),
    }
}

/// Whether a path, and the place where it really is, are in a shared folder.
fn is_inside_shared(path: &Path, real: &Path, volumes: &Volumes) -> bool {
    let Some((folder, _)) = volumes.shared(path) else {
        return false;
    };
    fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder))
}
