//! Archives as people make them, and hostile ones.

use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};

use super::*;

/// A header with any name, which the library would not write.
fn header(kind: EntryType, name: &str, link: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o750);
    header.set_size(size);
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

type Entries<'a> = &'a [(EntryType, &'a str, &'a str, &'a str)];

fn archive(entries: Entries<'_>) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link, content) in entries {
        let header = header(*kind, name, link, content.len() as u64);
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn files_folders_and_links_come_out_gzipped_or_not() {
    let plain = archive(&[
        (EntryType::Directory, "a/", "", ""),
        (FILE, "./a/b/file", "", "content"),
        (EntryType::Symlink, "a/link", "b/file", ""),
        (EntryType::Link, "hard", "a/b/file", ""),
    ]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&plain).unwrap();
    for bytes in [plain, encoder.finish().unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        let unpacked = unpack(bytes.as_slice(), folder.path(), Path::new("x/y")).unwrap();
        let expected = Unpacked {
            entries: 4,
            bytes: 7,
        };
        assert_eq!(unpacked, expected);
        let root = folder.path().join("x/y");
        for name in ["a/b/file", "a/link", "hard"] {
            assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "content");
        }
        let mode = fs::metadata(root.join("hard"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o770, "the group may what the owner may");
    }
}

#[test]
fn what_leads_out_of_the_folder_is_refused() {
    let cases: &[Entries<'_>] = &[
        &[(FILE, "../evil", "", "x")],
        &[(FILE, "a/../../evil", "", "x")],
        &[(FILE, "/evil", "", "x")],
        &[(EntryType::Symlink, "link", "/etc", "")],
        &[(EntryType::Symlink, "a/link", "../../evil", "")],
        &[(EntryType::Link, "hard", "../secret", "")],
        &[(EntryType::Link, "hard", "/etc/passwd", "")],
        &[(EntryType::Fifo, "pipe", "", "")],
        &[(EntryType::Char, "null", "", "")],
    ];
    for entries in cases {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        fs::create_dir(outer.path().join("in")).unwrap();
        let bytes = archive(entries);
        let error = unpack(bytes.as_slice(), &outer.path().join("in"), Path::new("")).unwrap_err();
        assert!(
            matches!(error, Error::Refused { .. }),
            "{entries:?}: {error}"
        );
        assert!(!outer.path().join("evil").exists());
    }
}

#[test]
fn links_that_are_there_are_not_followed() {
    let outer = tempfile::tempdir().unwrap();
    let (inside, outside) = (outer.path().join("in"), outer.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), inside.join("file")).unwrap();
    let through = archive(&[(FILE, "folder/evil", "", "x")]);
    let error = unpack(through.as_slice(), &inside, Path::new("")).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    let over = archive(&[(FILE, "file", "", "x")]);
    unpack(over.as_slice(), &inside, Path::new("")).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(inside.join("file").symlink_metadata().unwrap().is_file());
    let error = unpack(over.as_slice(), &inside, Path::new("folder")).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

#[test]
fn what_is_no_archive_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [b"".as_slice(), b"<html>not found</html>", &[0x1f, 0x8b, 1]] {
        let error = unpack(bytes, folder.path(), Path::new("")).unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
    }
}

#[test]
fn a_cut_archive_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[(FILE, "file", "", &"x".repeat(5000))]);
    let error = unpack(&bytes[..3000], folder.path(), Path::new("")).unwrap_err();
    assert!(matches!(error, Error::Broken(_)), "{error}");
}
