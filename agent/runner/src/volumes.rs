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
}

impl Volumes {
    /// At their place.
    pub(crate) fn in_place() -> Self {
        Self::default()
    }

    /// In a run's own folder.
    pub(crate) fn below(root: impl Into<PathBuf>) -> Self {
        Self {
            root: Some(root.into()),
        }
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
