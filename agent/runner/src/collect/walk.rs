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

use crate::{beneath, volumes::Volumes};

/// Deepest folder below a root.
const DEEPEST: usize = 200;
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
    /// Seconds since the epoch.
    pub(super) modified: u64,
}

/// Why a place gives no file, in one line for people.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It is none: a link that is not followed, a pipe.
    LeftOut(String),
    /// It should have been one.
    Failed(String),
}

/// A place that is still to be looked at.
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
    /// Depth first, the next one at the end.
    places: Vec<Place>,
    /// Where links may lead: the real path of the root at hand.
    tree: PathBuf,
    roots: Vec<(PathBuf, PathBuf)>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(patterns: &'a Patterns, volumes: &Volumes, shared_only: bool) -> Self {
        let mut walk = Self {
            patterns,
            places: Vec::new(),
            tree: PathBuf::new(),
            roots: Vec::new(),
            problems: Vec::new(),
        };
        for root in patterns.roots() {
            let real = volumes.real(root);
            match fs::canonicalize(&real) {
                Ok(real) if shared_only && !is_inside_shared(root, &real, volumes) => {
                    walk.problems.push(Problem::Failed(format!(
                        "{}: its container is gone, and it is on no folder that all containers share",
                        root.display()
                    )));
                }
                Ok(real) => walk.roots.push((root.clone(), real)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => walk.fail(root, &error),
            }
        }
        walk.roots.reverse();
        walk
    }

    fn fail(&mut self, path: &Path, error: &io::Error) {
        let text = format!("{}: {error}", path.display());
        self.problems.push(Problem::Failed(text));
    }

    fn look(&mut self, place: Place) -> Option<Found> {
        match place.kind {
            FileType::Directory => {
                if let Err(error) = self.enter(&place) {
                    self.fail(&place.path, &error);
                }
                None
            }
            FileType::RegularFile if self.patterns.matches(&place.path) => self.open(place),
            FileType::Symlink if self.patterns.matches(&place.path) => self.follow(place),
            FileType::RegularFile | FileType::Symlink => None,
            _ => {
                if self.patterns.matches(&place.path) {
                    let problem = format!("{}: not a plain file", place.path.display());
                    self.problems.push(Problem::LeftOut(problem));
                }
                None
            }
        }
    }

    fn enter(&mut self, place: &Place) -> io::Result<()> {
        if place.depth > DEEPEST {
            return Err(io::Error::other("too deep"));
        }
        let folder = beneath::open(
            &place.real,
            OFlags::RDONLY | OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )?;
        #[expect(clippy::useless_conversion, reason = "narrower on some architectures")]
        if KERNEL.contains(&i64::from(fstatfs(folder.as_fd())?.f_type)) {
            return Ok(());
        }
        let mut names: Vec<(OsString, FileType)> = Vec::new();
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push((name, entry.file_type()));
            }
        }
        names.sort_unstable_by(|left, right| right.0.cmp(&left.0));
        for (name, kind) in names {
            let real = place.real.join(&name);
            let kind = match kind {
                FileType::Unknown => fs::symlink_metadata(&real)
                    .map_or(FileType::Unknown, |metadata| {
                        FileType::from_raw_mode(metadata.mode())
                    }),
                known => known,
            };
            self.places.push(Place {
                path: place.path.join(&name),
                real,
                depth: place.depth + 1,
                kind,
            });
        }
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
                modified: u64::try_from(metadata.mtime()).unwrap_or(0),
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
        let line = format!("{}: {problem}, left out", place.path.display());
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
            if let Some(place) = self.places.pop() {
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
            self.places.push(Place {
                path,
                real,
                depth: 0,
                kind: FileType::from_raw_mode(metadata.mode()),
            });
        }
    }
}

/// Whether a path, and the place where it really is, are in a shared folder.
fn is_inside_shared(path: &Path, real: &Path, volumes: &Volumes) -> bool {
    let Some((folder, _)) = volumes.shared(path) else {
        return false;
    };
    fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder))
}
