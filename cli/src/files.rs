//! Manifests of files and folders: what `apply`, `diff` and `lint` work on.

use std::path::{Path, PathBuf};

use crate::{
    error::Error,
    manifest::{Finding, Manifest},
};

/// Most files of one command.
const MOST_FILES: usize = 10_000;
/// Deepest folder below one that is given.
const DEEPEST: usize = 32;

/// Reads all manifests: a file as it is, a folder with all `*.yaml` and `*.yml` in it, `-` for
/// standard input. By path.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Error> {
    let all = each(paths)?.into_iter();
    all.map(|one| one.map_err(Error::from)).collect()
}

/// As [`read`], with what is wrong in the place of those that can not be read.
pub(crate) fn each(paths: &[PathBuf]) -> Result<Vec<Result<Manifest, Box<Finding>>>, Error> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            walk(path, 0, &mut found)?;
            if found.len() == before {
                return Err(Error::Usage(format!(
                    "{} holds no *.yaml or *.yml file",
                    path.display()
                )));
            }
        } else {
            found.push(Ok(path.clone()));
        }
    }
    let found = found.into_iter();
    Ok(found
        .map(|file| file.and_then(|file| Manifest::read(&file)))
        .collect())
}

fn walk(
    folder: &Path,
    depth: usize,
    found: &mut Vec<Result<PathBuf, Box<Finding>>>,
) -> Result<(), Error> {
    let wrong = |path: &Path, message: &str| {
        Box::new(Finding::of_file(&path.display().to_string(), message))
    };
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<std::io::Result<Vec<_>>>()
    });
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            found.push(Err(wrong(folder, &format!("can not be read: {error}"))));
            return Ok(());
        }
    };
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
                let message = format!("is more than {DEEPEST} folders deep");
                found.push(Err(wrong(&path, &message)));
                continue;
            }
            walk(&path, depth + 1, found)?;
        } else if name.ends_with(".yaml") || name.ends_with(".yml") {
            found.push(Ok(path));
        }
        if found.len() > MOST_FILES {
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
