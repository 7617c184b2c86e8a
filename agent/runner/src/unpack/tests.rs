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
        let unpacked = unpack(
            bytes.as_slice(),
            folder.path(),
            Path::new("x/y"),
            &Stop::default(),
        )
        .unwrap();
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
        &[
            (EntryType::Symlink, "d", ".", ""),
            (EntryType::Symlink, "up", "d/..", ""),
        ],
        &[
            (EntryType::Symlink, "a/b/deep", "../../file", ""),
            (EntryType::Link, "flat", "a/b/deep", ""),
        ],
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
        let error = unpack(
            bytes.as_slice(),
            &outer.path().join("in"),
            Path::new(""),
            &Stop::default(),
        )
        .unwrap_err();
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
    let error = unpack(through.as_slice(), &inside, Path::new(""), &Stop::default()).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    let over = archive(&[(FILE, "file", "", "x")]);
    unpack(over.as_slice(), &inside, Path::new(""), &Stop::default()).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(inside.join("file").symlink_metadata().unwrap().is_file());
    let error = unpack(
        over.as_slice(),
        &inside,
        Path::new("folder"),
        &Stop::default(),
    )
    .unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

#[test]
fn what_is_no_archive_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [b"".as_slice(), b"<html>not found</html>", &[0x1f, 0x8b, 1]] {
        let error = unpack(bytes, folder.path(), Path::new(""), &Stop::default()).unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{error}");
    }
}

#[test]
fn a_cut_archive_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = archive(&[(FILE, "file", "", &"x".repeat(5000))]);
    let error = unpack(
        &bytes[..3000],
        folder.path(),
        Path::new(""),
        &Stop::default(),
    )
    .unwrap_err();
    assert!(matches!(error, Error::Broken(_)), "{error}");
}

#[test]
fn a_link_may_lead_up_as_far_as_its_folder_is_deep() {
    for (depth, target, inside) in [
        (0, "a/b", true),
        (0, "./a", true),
        (0, "..", false),
        (0, "a/..", false),
        (1, "../a", true),
        (1, "./.././a", true),
        (1, "../..", false),
        (2, "../../a/b", true),
        (2, "../a/../b", false),
        (2, "/a", false),
        (2, "a\0b", false),
    ] {
        assert_eq!(stays_inside(depth, OsStr::new(target)), inside, "{target}");
    }
}

/// How much was read.
struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1 += read as u64;
        Ok(read)
    }
}

#[test]
fn long_names_and_headers_without_end_are_not_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
    ] {
        let size = 3 << 29;
        let header = header(kind, "././@LongLink", "", size);
        let content = io::repeat(b'x').take(size);
        let mut source = Counted(header.as_bytes().chain(content), 0);
        let error = unpack(&mut source, folder.path(), Path::new(""), &Stop::default());
        assert!(matches!(error, Err(Error::TooLarge(_))), "{error:?}");
        assert!(source.1 < 2 * MAX_HEADERS, "{}", source.1);
    }
}

#[test]
fn names_longer_than_a_path_are_refused_and_shorter_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let unpacked = |name: &str| {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty()).unwrap();
        let bytes = builder.into_inner().unwrap();
        unpack(
            bytes.as_slice(),
            folder.path(),
            Path::new(""),
            &Stop::default(),
        )
    };
    unpacked(&format!("{0}/{0}", "x".repeat(200))).unwrap();
    let error = unpacked(&"x/".repeat(2100)).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("4 KiB") && error.to_string().len() < 600);
}

#[test]
fn what_folders_and_global_headers_carry_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(3 << 20);
    let bytes = archive(&[
        (EntryType::XGlobalHeader, "pax_global_header", "", &long),
        (EntryType::Directory, "a", "", &long),
        (FILE, "a/file", "", "content"),
    ]);
    let unpacked = unpack(
        bytes.as_slice(),
        folder.path(),
        Path::new(""),
        &Stop::default(),
    );
    assert_eq!(unpacked.unwrap().bytes, 7);
    assert!(folder.path().join("a/file").is_file());
}

#[test]
fn unpacking_ends_when_nobody_waits_for_it() {
    /// Drops the stopper in the middle of a file.
    struct Dropping(Option<Stopper>, Counted<io::Repeat>);
    impl Read for Dropping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.1 > 1 << 20 {
                self.0 = None;
            }
            self.1.read(buffer)
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let stopper = Stopper::default();
    let stop = stopper.stop();
    let header = header(FILE, "file", "", 1 << 30);
    let content = Dropping(Some(stopper), Counted(io::repeat(0), 0));
    let source = header.as_bytes().chain(content);
    let error = unpack(source, folder.path(), Path::new(""), &stop).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert!(folder.path().join("file").metadata().unwrap().len() < 2 << 20);
}
