//! Contexts: named servers in the user's configuration file, which only its owner can read.
//! Which one a command uses is decided in [`crate::place`].

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Name of the context that means this machine's own data; it can not be stored.
pub(crate) const LOCAL: &str = "local";

/// The configuration file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contexts {
    /// The context in use; none for this machine's own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All contexts.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One server.
#[derive(Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Context {
    /// Its address.
    pub(crate) server: String,
    /// File that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Certificates to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("server", &self.server)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

impl Contexts {
    /// Reads the file; a missing one is empty.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        serde_json::from_slice(&text).map_err(|error| {
            Error::Usage(format!(
                "{} is not a configuration of muster: {error}; repair or remove it",
                path.display()
            ))
        })
    }

    /// Replaces the file in one step; only its owner can read it.
    pub(crate) fn store(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Corrupt(error.to_string()))?;
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(Error::file("make", folder))?;
        }
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(Error::file("write", path))
    }
}

/// `$XDG_CONFIG_HOME/muster/config.json`, or the same below `~/.config`.
pub(crate) fn path() -> Result<PathBuf, Error> {
    crate::place::user_folder("XDG_CONFIG_HOME", ".config")
        .map(|folder| folder.join("muster/config.json"))
        .ok_or_else(|| Error::Usage("neither HOME nor XDG_CONFIG_HOME is set; set one".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_stored_file_is_read_back_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/config.json");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        let context = Context {
            server: "https://x:1".into(),
            token: Some("secret".into()),
            ..Context::default()
        };
        let contexts = Contexts {
            current: Some("x".into()),
            contexts: [("x".to_owned(), context)].into(),
        };
        contexts.store(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{contexts:?}").contains("secret"));
    }
}
