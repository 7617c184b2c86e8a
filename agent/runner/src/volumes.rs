//! The shared folders of a run: where a path of the language is on this machine.

use std::path::{Component, Path, PathBuf};

/// Folders that every step container shares, and their names in a run's own folder.
pub(crate) const SHARED: [(&str, &str); 4] = [
    ("/data", "data"),
    ("/testkube", "testkube"),
    ("/tmp", "tmp"),
    ("/.muster", "muster"),
];

/// Where the shared folders are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Volumes {
    /// The run's own folder, when the shared ones are not at their place.
    root: Option<PathBuf>,
    /// Folders of the plan that are shared too; see [`own_folder`].
    folders: Vec<PathBuf>,
}

/// Where the folders of a plan are in a run's own folder, by their numbers.
pub(crate) fn own_folder(root: &Path, index: usize) -> PathBuf {
    root.join("folders").join(index.to_string())
}

impl Volumes {
    /// At their place.
    pub(crate) fn in_place() -> Self {
        Self::default()
    }

    /// Whether they are.
    pub(crate) fn are_in_place(&self) -> bool {
        self.root.is_none()
    }

    /// In a run's own folder.
    pub(crate) fn below(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Some(root.into()),
            folders: Vec::new(),
        }
    }

    /// With folders of a plan, in its order.
    pub(crate) fn with_folders(mut self, folders: &[impl AsRef<Path>]) -> Self {
        self.folders = folders.iter().map(|path| normal(path.as_ref())).collect();
        self
    }

    /// Makes the folders of the plan in a run's own folder.
    pub(crate) fn make_folders(&self) -> std::io::Result<()> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        (0..self.folders.len())
            .try_for_each(|index| std::fs::create_dir_all(own_folder(root, index)))
    }

    /// The shared folder that an absolute path of the language is in, and the path in it.
    pub(crate) fn shared(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let path = normal(path);
        let own = SHARED[..3].iter().map(|(shared, _)| Path::new(shared));
        let all = own.chain(self.folders.iter().map(PathBuf::as_path));
        let folder = all
            .filter(|folder| path.starts_with(folder))
            .max_by_key(|folder| folder.as_os_str().len())?;
        let rest = path.strip_prefix(folder).ok()?.to_owned();
        Some((self.real(folder), rest))
    }

    /// Where an absolute path of the language is.
    pub(crate) fn real(&self, path: &Path) -> PathBuf {
        let path = normal(path);
        let Some(root) = &self.root else {
            return path;
        };
        for (shared, folder) in SHARED {
            if let Ok(rest) = path.strip_prefix(shared) {
                let real = root.join(folder);
                return if rest.as_os_str().is_empty() {
                    real
                } else {
                    real.join(rest)
                };
            }
        }
        // The longest of those that fit: a folder may lie in another one.
        let folders = self.folders.iter().enumerate();
        let found = folders
            .filter(|(_, folder)| path.starts_with(folder))
            .max_by_key(|(_, folder)| folder.as_os_str().len());
        if let Some((index, folder)) = found
            && let Ok(rest) = path.strip_prefix(folder)
        {
            return own_folder(root, index).join(rest);
        }
        path
    }

    /// Whether an absolute path of the language is in a folder that all containers share.
    pub(crate) fn is_shared(path: &Path) -> bool {
        let path = normal(path);
        SHARED[..3]
            .iter()
            .any(|(shared, _)| path.starts_with(shared))
    }
}

/// Whether a folder of a plan can be shown at its place on this machine without writing to it: it
/// is there, nothing of its top-level name is, or it lies in another one of the plan.
pub(crate) fn is_placeable(folder: &Path, all: &[impl AsRef<Path>]) -> bool {
    if folder.is_dir() {
        return true;
    }
    let mut parts = folder.components().skip(1);
    let first = parts.next().map(|first| Path::new("/").join(first));
    let is_new = first.is_some_and(|first| first.symlink_metadata().is_err());
    is_new
        || all
            .iter()
            .map(AsRef::as_ref)
            .any(|other| other != folder && folder.starts_with(other) && is_placeable(other, all))
}

/// The path without `.`, `..` and double slashes, by its text alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => {
                normal.push(component);
            }
        }
    }
    normal
}

/// `path` below `base` unless it is absolute, normalised.
pub(crate) fn resolve(base: &Path, path: &str) -> PathBuf {
    normal(&base.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_paths_lead_into_the_folder_of_the_run_and_others_stay() {
        let volumes = Volumes::below("/runs/1");
        for (path, real) in [
            ("/data", "/runs/1/data"),
            ("/data/a/../b", "/runs/1/data/b"),
            ("/.muster/run", "/runs/1/muster/run"),
            ("/database", "/database"),
            ("/data/../etc/passwd", "/etc/passwd"),
        ] {
            assert_eq!(volumes.real(Path::new(path)), Path::new(real));
        }
        assert_eq!(
            Volumes::in_place().real(Path::new("/data/x")),
            Path::new("/data/x")
        );
    }

    #[test]
    fn folders_of_the_plan_are_shared_and_have_their_own_place() {
        let volumes = Volumes::below("/runs/1").with_folders(&["/repo", "/repo/sub"]);
        for (path, real) in [
            ("/repo/a", "/runs/1/folders/0/a"),
            ("/repo/sub/a", "/runs/1/folders/1/a"),
            ("/repository", "/repository"),
        ] {
            assert_eq!(volumes.real(Path::new(path)), Path::new(real));
        }
        let shared = |path: &str| volumes.shared(Path::new(path));
        let found = |folder: &str, rest: &str| Some((PathBuf::from(folder), PathBuf::from(rest)));
        assert_eq!(shared("/repo/sub/a/b"), found("/runs/1/folders/1", "a/b"));
        assert_eq!(shared("/data/x"), found("/runs/1/data", "x"));
        assert_eq!(shared("/etc"), None);
        assert_eq!(shared("/.muster/spool"), None);
    }

    #[test]
    fn a_folder_is_placeable_where_nothing_is_written_to_the_machine() {
        let none: [&Path; 0] = [];
        assert!(is_placeable(Path::new("/usr"), &none));
        assert!(is_placeable(Path::new("/no-such-name/a/b"), &none));
        assert!(!is_placeable(Path::new("/usr/no-such-name"), &none));
        let all = ["/usr/lib", "/usr/lib/no-such-name"];
        assert!(is_placeable(Path::new(all[1]), &all));
    }

    #[test]
    fn only_folders_for_users_count_as_shared() {
        assert!(Volumes::is_shared(Path::new("/tmp/x")));
        assert!(!Volumes::is_shared(Path::new("/.muster/spool")));
        assert!(!Volumes::is_shared(Path::new("/data/../etc")));
    }

    #[test]
    fn paths_are_normalised_and_never_leave_the_root() {
        assert_eq!(resolve(Path::new("/data"), "../../../x"), Path::new("/x"));
        assert_eq!(
            resolve(Path::new("/data"), "./a//b/"),
            Path::new("/data/a/b")
        );
        assert_eq!(resolve(Path::new("/data"), "/abs"), Path::new("/abs"));
    }
}
