//! One gzipped tar of all files, written as it is sent.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use muster_proto::runner::v1::MAX_ARTIFACT_DATA;
use tokio::sync::mpsc;

use super::{Closed, Collection, GREW, Item, Reason, has_more, walk, walk::Problem};

/// Writes an archive with the files of `files`; none when there are none.
pub(super) fn write(
    collection: &mut Collection,
    name: &str,
    mut files: walk::Walk<'_>,
    named: impl Fn(walk::Found) -> Result<(String, walk::Found), Problem>,
) -> Result<(), Closed> {
    let mut archive: Option<tar::Builder<GzEncoder<Sender>>> = None;
    let limits = collection.limits;
    let (mut count, mut bytes) = (0, 0);
    while let Some(file) = files.next() {
        let Some((path, found)) = collection.accept(file, &named) else {
            continue;
        };
        if count >= limits.archived {
            if collection.is_beyond(&found) {
                continue;
            }
            files.count_rest();
            break;
        }
        if found.size > limits.bytes_archived - bytes {
            collection.problem(Problem::Missing {
                message: too_large(found.size, bytes, limits.bytes_archived),
                path: found.path,
                reason: Reason::TooLarge,
            });
            continue;
        }
        count += 1;
        bytes += found.size;
        let archive = match &mut archive {
            Some(archive) => archive,
            None => {
                collection.send(Item::File {
                    path: name.to_owned(),
                    mode: 0o644,
                    modified_ms: 0,
                    digest: None,
                })?;
                let sender = Sender::new(collection.items.clone());
                let encoder = GzEncoder::new(sender, Compression::fast());
                archive.insert(tar::Builder::new(encoder))
            }
        };
        let mut content = Exactly::new(found.file, found.size);
        let mut header = tar::Header::new_gnu();
        header.set_size(found.size);
        header.set_mode(found.mode);
        header.set_mtime(u64::try_from(found.modified_ms / 1000).unwrap_or(0));
        let appended = archive.append_data(&mut header, &path, &mut content);
        if collection.items.is_closed() {
            return Err(Closed);
        }
        if let Err(error) = appended {
            collection.problem(Problem::Failed(format!("{path}: {error}")));
        } else if let Some(problem) = content.problem {
            collection.problem(Problem::Failed(format!("{path}: {problem}")));
        } else if has_more(&mut content.file) {
            collection.problem(Problem::LeftOut(format!("{path}: {GREW}")));
        }
    }
    collection.missing.count(files.left_out());
    let left_out = collection.beyond + files.left_out();
    if left_out > 0 {
        let text = format!("only the first {count} files are in it, {left_out} are left out");
        collection.problem(Problem::Failed(text));
    }
    let Some(archive) = archive else {
        return Ok(());
    };
    let end = archive.into_inner().and_then(GzEncoder::finish);
    let end = end.and_then(|mut sender| sender.flush());
    if end.is_err() {
        return Err(Closed);
    }
    collection.files = 1;
    collection.send(Item::FileEnd)
}

/// Why a file of this size is not in an archive that has so many bytes already.
fn too_large(size: u64, bytes: u64, most: u64) -> String {
    let before = match bytes {
        0 => String::new(),
        bytes => format!(", of which {bytes} are taken"),
    };
    format!(
        "it has {size} bytes, and all files of one archive together may have {most}{before}; left out"
    )
}

/// Exactly as many bytes as the header says, whatever happens to the file meanwhile.
struct Exactly {
    file: File,
    left: u64,
    problem: Option<String>,
}

impl Exactly {
    fn new(file: File, size: u64) -> Self {
        Self {
            file,
            left: size,
            problem: None,
        }
    }
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let Some(buffer) = buffer.get_mut(..length).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let mut read = 0;
        if self.problem.is_none() {
            match self.file.read(buffer) {
                Ok(0) => {
                    let problem = "it shrank while it was read; filled with zeros";
                    self.problem = Some(problem.to_owned());
                }
                Ok(some) => read = some,
                Err(error) => self.problem = Some(format!("{error}; filled with zeros")),
            }
        }
        if self.problem.is_some() {
            buffer.fill(0);
            read = length;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Sends what is written in parts of a good size.
struct Sender {
    items: mpsc::Sender<Item>,
    buffer: Vec<u8>,
}

impl Sender {
    fn new(items: mpsc::Sender<Item>) -> Self {
        Self {
            items,
            buffer: Vec::new(),
        }
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MAX_ARTIFACT_DATA - self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.buffer.len() == MAX_ARTIFACT_DATA {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = Bytes::from(std::mem::take(&mut self.buffer));
        self.items
            .blocking_send(Item::Data(data))
            .map_err(|_closed| io::ErrorKind::BrokenPipe.into())
    }
}
