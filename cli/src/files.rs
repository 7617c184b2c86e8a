//! Manifests of files and folders: what `apply`, `diff` and `lint` work on.

use std::path::{Path, PathBuf};

use crate::{error::Error, manifest::Manifest};

/// Most files of one command.
const MOST_FILES: usize = 10_000;
/// Deepest folder below one that is given.
const DEEPEST: usize = 32;

/// Reads all manifests: a file as it is, a folder with all `*.yaml` and `*.yml` in it, `-` for
/// standard input. By path.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            walk(path, 0, &mut files)?;
            if files.len() == before {
                return Err(Error::Usage(format!(
                    "{} holds no *.yaml or *.yml file",
                    path.display()
                )));
            }
        } else {
            files.push(path.clone());
        }
    }
    files.iter().map(|file| Manifest::read(file)).collect()
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let unreadable =
        |error: std::io::Error| Error::Usage(format!("can not read {}: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut entries = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(unreadable)?;
    entries.sort();
    for path in entries {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        // A link to a folder may lead back: it is not followed.
        if path.is_dir() && !path.is_symlink() {
            if depth >= DEEPEST {
                let text = format!("{}: more than {DEEPEST} folders deep", path.display());
                return Err(Error::Usage(text));
            }
            walk(&path, depth + 1, files)?;
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(Error::Usage(format!("more than {MOST_FILES} files")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_by_path_and_hidden_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.yaml",
            "a/c.yml",
            ".hidden/x.yaml",
            "a/.y.yaml",
            "notes.txt",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "a: 1").unwrap();
        }
        let all = read(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = all.iter().map(|one| one.file.as_str()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].ends_with("a/c.yml") && names[1].ends_with("b.yaml"));
        let empty = folder.path().join(".hidden");
        std::fs::remove_file(empty.join("x.yaml")).unwrap();
        assert!(read(&[empty]).is_err());
    }
}
