//! How archives are written: tar (POSIX pax), plain or gzipped, and zip. Everything goes to memory, from
//! where it is taken after each step. Blocks a processor, never a disk.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::{Compression, write::GzEncoder};
use jiff::{Timestamp, tz::TimeZone};
use muster_storage::artifact::Artifact;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions, write::StreamWriter};

/// Blocks of a tar have this many bytes.
const BLOCK: u64 = 512;
/// Largest size that a header of a tar has place for: eleven octal digits.
const TAR_LARGEST: u64 = 0o777_7777_7777;
/// From this size on an entry of a zip is written in its 64-bit form: what is compressed may be longer
/// than it was, by far less than what is left to 4 GiB here.
const ZIP_LARGE: u64 = 0xf000_0000;

/// Form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A tar.
    Tar,
    /// A gzipped tar.
    TarGz,
    /// A zip, deflated.
    Zip,
}

/// A file that comes next.
#[derive(Debug)]
pub(super) struct Entry {
    path: String,
    mode: u32,
    time: Timestamp,
    pub(super) size: u64,
}

impl Entry {
    pub(super) fn new(artifact: &Artifact) -> Self {
        Self {
            path: artifact.path.clone(),
            mode: artifact.mode & 0o777,
            time: artifact.create_time,
            size: u64::try_from(artifact.size).unwrap_or(0),
        }
    }
}

/// Writes one archive.
pub(super) struct Encoder {
    packed: Packed,
    writer: Writer,
}

enum Writer {
    Tar {
        archive: tar::Builder<Tar>,
        /// Bytes of the entry at hand.
        written: u64,
    },
    Zip(Box<ZipWriter<StreamWriter<Packed>>>),
    /// Nothing comes any more.
    Finished,
}

/// What a tar is written to.
enum Tar {
    Plain(Packed),
    Gz(GzEncoder<Packed>),
}

/// What is packed and was not taken yet.
#[derive(Debug, Clone, Default)]
struct Packed(Arc<Mutex<Vec<u8>>>);

impl Encoder {
    pub(super) fn new(form: Form) -> Self {
        let packed = Packed::default();
        let tar = |to| Writer::Tar {
            archive: tar::Builder::new(to),
            written: 0,
        };
        let writer = match form {
            Form::Tar => tar(Tar::Plain(packed.clone())),
            Form::TarGz => tar(Tar::Gz(GzEncoder::new(packed.clone(), Compression::fast()))),
            Form::Zip => Writer::Zip(Box::new(ZipWriter::new_stream(packed.clone()))),
        };
        Self { packed, writer }
    }

    /// Begins a file.
    pub(super) fn begin(&mut self, entry: &Entry) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tar { archive, written } => {
                *written = 0;
                begin_tar(archive, entry)
            }
            Writer::Zip(archive) => {
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Deflated)
                    .compression_level(Some(1))
                    .large_file(entry.size >= ZIP_LARGE)
                    .last_modified_time(dos_time(entry.time))
                    .unix_permissions(entry.mode);
                Ok(archive.start_file(entry.path.as_str(), options)?)
            }
            Writer::Finished => Ok(()),
        }
    }

    /// Adds bytes to it.
    pub(super) fn data(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tar { archive, written } => {
                *written += data.len() as u64;
                archive.get_mut().write_all(data)
            }
            Writer::Zip(archive) => archive.write_all(data),
            Writer::Finished => Ok(()),
        }
    }

    /// Ends it.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tar { archive, written } => {
                let zeros = [0; 512];
                let over = usize::try_from(written.next_multiple_of(BLOCK) - *written);
                let padding = zeros.get(..over.unwrap_or(0)).unwrap_or_default();
                archive.get_mut().write_all(padding)
            }
            // By the next file, or the end.
            Writer::Zip(_) | Writer::Finished => Ok(()),
        }
    }

    /// Ends the archive.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.writer, Writer::Finished) {
            Writer::Tar { archive, .. } => match archive.into_inner()? {
                Tar::Plain(_) => Ok(()),
                Tar::Gz(encoder) => encoder.finish().map(drop),
            },
            Writer::Zip(archive) => {
                archive.finish()?;
                Ok(())
            }
            Writer::Finished => Ok(()),
        }
    }

    /// What was packed since the last time.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut packed = self.packed.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *packed)
    }
}

/// The header of a file; what it has no place for, or is not ASCII, goes into a header of pax before it.
fn begin_tar(archive: &mut tar::Builder<Tar>, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(entry.mode);
    header.set_mtime(u64::try_from(entry.time.as_second()).unwrap_or(0));
    header.set_size(entry.size);
    let size = entry.size.to_string();
    let mut more: Vec<(&str, &[u8])> = Vec::new();
    if !entry.path.is_ascii() || header.set_path(&entry.path).is_err() {
        more.push(("path", entry.path.as_bytes()));
        // For readers that know nothing of pax.
        let plain = entry.path.rsplit('/').next().unwrap_or_default();
        let plain = plain.chars().map(|c| if c.is_ascii() { c } else { '_' });
        header.set_path(plain.take(100).collect::<String>())?;
    }
    if entry.size > TAR_LARGEST {
        more.push(("size", size.as_bytes()));
    }
    header.set_cksum();
    archive.append_pax_extensions(more)?;
    archive.get_mut().write_all(header.as_bytes())
}

/// The time as a zip has it, in UTC; none before 1980 or after 2107.
fn dos_time(time: Timestamp) -> DateTime {
    let time = time.to_zoned(TimeZone::UTC);
    let part = |part: i8| part.unsigned_abs();
    u16::try_from(time.year())
        .ok()
        .and_then(|year| {
            DateTime::from_date_and_time(
                year,
                part(time.month()),
                part(time.day()),
                part(time.hour()),
                part(time.minute()),
                part(time.second()),
            )
            .ok()
        })
        .unwrap_or_default()
}

impl Write for Tar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(packed) => packed.write(bytes),
            Self::Gz(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut packed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        packed.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
