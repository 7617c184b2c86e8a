//! The log until it is durable: an append-only file of records in segments, with offsets, a
//! running SHA-256 and a limit. Above the limit writers wait; nothing is ever dropped. What a full disk does
//! not take whole is as if it had never come.
//!
//! A record on disk: length (u32), stream (u8), length of the step's reference (u8), time in
//! milliseconds (i64), the reference, the bytes.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use muster_proto::runner::v1::{Log, LogStream, MAX_LOG_DATA};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::mask::Secrets;
use crate::fail;

/// Size at which a segment is closed, in bytes of log.
const SEGMENT: u64 = 4 << 20;
/// Most bytes that wait for an acknowledgement, unless another limit is given.
pub(crate) const LIMIT: u64 = 256 << 20;
/// Bytes of remarks that may stand behind the longest log; the server allows some more.
const REMARKS: u64 = 8 << 20;
/// Bytes of a record before its reference.
const HEADER: usize = 14;

/// The log until it is durable.
pub(crate) struct Spool {
    inner: Mutex<Inner>,
    limit: u64,
    secrets: Arc<Secrets>,
    /// Something was appended or acknowledged.
    pub(crate) changed: Notify,
    freed: Notify,
}

struct Inner {
    directory: PathBuf,
    segments: VecDeque<Segment>,
    open: Option<File>,
    acknowledged: u64,
    end: u64,
    digest: Sha256,
    next_name: u64,
    /// Longest log, remarks apart.
    longest: u64,
    /// Bytes that came behind that, and are not kept.
    cut: u64,
}

struct Segment {
    path: PathBuf,
    start: u64,
    end: u64,
    /// Bytes of its whole records on the disk.
    size: u64,
}

/// Where a reader is.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    file: Option<(u64, BufReader<File>)>,
    offset: u64,
}

impl Cursor {
    /// A cursor at an offset of the log.
    pub(crate) fn at(offset: u64) -> Self {
        Self { file: None, offset }
    }
}

impl Spool {
    /// Makes the directory anew.
    pub(crate) fn open(directory: &Path, limit: u64, secrets: Arc<Secrets>) -> io::Result<Self> {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(directory)?,
        }
        Ok(Self {
            inner: Mutex::new(Inner {
                directory: directory.to_owned(),
                segments: VecDeque::new(),
                open: None,
                acknowledged: 0,
                end: 0,
                digest: Sha256::new(),
                next_name: 0,
                longest: u64::MAX,
                cut: 0,
            }),
            limit,
            secrets,
            changed: Notify::new(),
            freed: Notify::new(),
        })
    }

    /// Appends bytes of a step, which are masked already; waits while too much is not durable yet.
    ///
    /// # Errors
    ///
    /// When the disk does not take them.
    pub(crate) async fn append(
        &self,
        stream: LogStream,
        step: &str,
        data: &[u8],
    ) -> io::Result<()> {
        for piece in data.chunks(MAX_LOG_DATA) {
            loop {
                let freed = self.freed.notified();
                {
                    let mut inner = self.lock();
                    if inner.is_cut(stream, step, piece)? {
                        break;
                    }
                    if inner.end - inner.acknowledged + piece.len() as u64 <= self.limit {
                        inner.append(stream, step, piece)?;
                        break;
                    }
                }
                freed.await;
            }
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Sets how long the log may become; 0 for no limit.
    pub(crate) fn set_longest(&self, bytes: u64) {
        self.lock().longest = if bytes == 0 { u64::MAX } else { bytes };
    }

    /// Nothing follows: says at the end of a log that was cut how much is not kept.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        if inner.cut == 0 {
            return;
        }
        let text = format!("{} bytes of the log are not kept\n", inner.cut);
        if let Err(error) = inner.append(LogStream::System, "", text.as_bytes()) {
            fail::say(format_args!("the log can not be written: {error}"));
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Appends a few last bytes of a step without waiting for room.
    ///
    /// # Errors
    ///
    /// When the disk does not take them.
    pub(crate) fn append_rest(&self, stream: LogStream, step: &str, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(MAX_LOG_DATA) {
            let mut inner = self.lock();
            if !inner.is_cut(stream, step, piece)? {
                inner.append(stream, step, piece)?;
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// A remark of the conductor, a line; secrets in it are masked.
    pub(crate) async fn remark(&self, step: &str, text: &str) {
        let line = self.secrets.text(&format!("{text}\n"));
        if let Err(error) = self.append(LogStream::System, step, line.as_bytes()).await {
            fail::say(format_args!("the log can not be written: {error}"));
        }
    }

    /// Takes note that everything below `offset` is durable, and drops segments.
    pub(crate) fn acknowledge(&self, offset: u64) {
        let mut inner = self.lock();
        inner.acknowledged = inner.acknowledged.max(offset.min(inner.end));
        inner.drop_segments();
        drop(inner);
        self.freed.notify_waiters();
        self.changed.notify_waiters();
    }

    /// First byte that is still here, length of the log, and what is durable.
    pub(crate) fn range(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        let start = inner
            .segments
            .front()
            .map_or(inner.end, |first| first.start);
        (start, inner.end, inner.acknowledged)
    }

    /// Length and SHA-256 of the log so far.
    pub(crate) fn digest(&self) -> (u64, Vec<u8>) {
        let inner = self.lock();
        (inner.end, inner.digest.clone().finalize().to_vec())
    }

    /// The record at the cursor, `None` at the end of the log.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> io::Result<Option<Log>> {
        let inner = self.lock();
        if cursor.offset >= inner.end {
            return Ok(None);
        }
        let at_end = |start: u64| {
            inner
                .segments
                .iter()
                .find(|segment| segment.start == start)
                .is_none_or(|segment| cursor.offset >= segment.end)
        };
        if cursor.file.as_ref().is_none_or(|(start, _)| at_end(*start)) {
            let segment = inner
                .segments
                .iter()
                .find(|segment| segment.start <= cursor.offset && cursor.offset < segment.end)
                .ok_or_else(|| io::Error::other("the log is not here any more"))?;
            let file = BufReader::with_capacity(16 << 10, File::open(&segment.path)?);
            cursor.file = Some((segment.start, file));
            let wanted = cursor.offset;
            cursor.offset = segment.start;
            skip(cursor, wanted)?;
        }
        drop(inner);
        let part = read(cursor)?;
        Ok(Some(part))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether bytes are behind the longest log; then they are counted, the first time the log says so,
    /// and those before the limit are kept. Remarks are short, and are kept for a while.
    fn is_cut(&mut self, stream: LogStream, step: &str, data: &[u8]) -> io::Result<bool> {
        let longest = match stream {
            LogStream::System => self.longest.saturating_add(REMARKS),
            _ => self.longest,
        };
        let end = self.end.saturating_add(data.len() as u64);
        if end <= longest && (self.cut == 0 || stream == LogStream::System) {
            return Ok(false);
        }
        let mut kept = 0;
        if self.cut == 0 && stream != LogStream::System {
            kept = usize::try_from(longest.saturating_sub(self.end)).unwrap_or(0);
            if kept > 0 {
                self.append(stream, step, &data[..kept])?;
            }
            let text = format!(
                "\nthe log has reached its limit of {} bytes: what the test prints from here on is not kept\n",
                self.longest
            );
            self.append(LogStream::System, step, text.as_bytes())?;
        }
        self.cut += (data.len() - kept) as u64;
        Ok(true)
    }

    fn append(&mut self, stream: LogStream, step: &str, data: &[u8]) -> io::Result<()> {
        let step = &step.as_bytes()[..step.len().min(255)];
        let mut record = Vec::with_capacity(HEADER + step.len() + data.len());
        record.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        record.push(u8::try_from(i32::from(stream)).unwrap_or(0));
        record.push(u8::try_from(step.len()).unwrap_or(u8::MAX));
        record.extend(crate::clock::now_ms().to_be_bytes());
        record.extend(step);
        record.extend(data);
        if let Err(error) = self.write(&record) {
            // What is durable may make room.
            if self.drop_segments() == 0 {
                return Err(error);
            }
            self.write(&record)?;
        }
        self.digest.update(data);
        self.end += data.len() as u64;
        if let Some(last) = self.segments.back_mut() {
            last.end = self.end;
        }
        Ok(())
    }

    /// Writes a record, whole or not at all. Behind what failed a new segment begins.
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let full = self
            .segments
            .back()
            .is_none_or(|last| last.end - last.start >= SEGMENT);
        let file = match &mut self.open {
            Some(file) if !full => file,
            open => {
                let path = self.directory.join(format!("{:08}", self.next_name));
                self.next_name += 1;
                let file = open.insert(File::create(&path)?);
                self.segments.push_back(Segment {
                    path,
                    start: self.end,
                    end: self.end,
                    size: 0,
                });
                file
            }
        };
        let written = file.write_all(record);
        let Some(last) = self.segments.back_mut() else {
            return written;
        };
        let Err(error) = written else {
            last.size += record.len() as u64;
            return Ok(());
        };
        // Half a record is never read: its segment ends before it. Its room is for others.
        if last.size > 0 {
            if let Err(error) = file.set_len(last.size) {
                fail::say(format_args!("{}: {error}", last.path.display()));
            }
        } else if let Some(empty) = self.segments.pop_back() {
            remove(&empty.path);
        }
        self.open = None;
        Err(error)
    }

    /// Drops the segments of which all is durable, and nothing more comes; how many.
    fn drop_segments(&mut self) -> usize {
        let open = usize::from(self.open.is_some());
        let mut dropped = 0;
        while self.segments.len() > open
            && let Some(first) = self.segments.front()
            && first.end <= self.acknowledged
        {
            remove(&first.path);
            self.segments.pop_front();
            dropped += 1;
        }
        dropped
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        fail::say(format_args!("{}: {error}", path.display()));
    }
}

/// Moves the cursor to an offset inside of its segment.
fn skip(cursor: &mut Cursor, wanted: u64) -> io::Result<()> {
    while cursor.offset < wanted {
        let before = position(cursor)?;
        let start = cursor.offset;
        let record = read(cursor)?;
        if start + record.data.len() as u64 > wanted {
            // The offset is inside of this record: read it again, without its beginning.
            let Some((_, file)) = &mut cursor.file else {
                break;
            };
            file.seek(SeekFrom::Start(before))?;
            cursor.offset = start;
            return Ok(());
        }
    }
    Ok(())
}

fn position(cursor: &mut Cursor) -> io::Result<u64> {
    match &mut cursor.file {
        Some((_, file)) => file.stream_position(),
        None => Ok(0),
    }
}

fn read(cursor: &mut Cursor) -> io::Result<Log> {
    let Some((_, file)) = &mut cursor.file else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let (length, rest) = header.split_at(4);
    let length = u32::from_be_bytes(length.try_into().unwrap_or_default()) as usize;
    let time_ms = i64::from_be_bytes(rest[2..].try_into().unwrap_or_default());
    let mut step = vec![0; usize::from(rest[1])];
    file.read_exact(&mut step)?;
    let mut data = vec![0; length.min(MAX_LOG_DATA)];
    file.read_exact(&mut data)?;
    let offset = cursor.offset;
    cursor.offset += data.len() as u64;
    Ok(Log {
        offset,
        data: Bytes::from(data),
        stream: i32::from(rest[0]),
        step: String::from_utf8_lossy(&step).into_owned(),
        time_ms,
    })
}

#[cfg(test)]
mod tests {
    use muster_tests::disk::Disk;

    use super::*;

    fn spool(limit: u64) -> (tempfile::TempDir, Spool) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("spool");
        let spool = Spool::open(&directory, limit, Arc::default()).expect("it is writable");
        (root, spool)
    }

    fn all(spool: &Spool, from: u64) -> Vec<u8> {
        let mut cursor = Cursor::at(from);
        let mut bytes = Vec::new();
        let mut at = from;
        while let Some(log) = spool.next(&mut cursor).expect("it can be read") {
            let skip = usize::try_from(at.saturating_sub(log.offset)).expect("small");
            bytes.extend_from_slice(&log.data[skip..]);
            at = log.offset + log.data.len() as u64;
        }
        bytes
    }

    #[tokio::test]
    async fn what_is_read_equals_what_was_written_from_any_offset() {
        let (_root, spool) = spool(LIMIT);
        let mut written = Vec::new();
        for number in 0..200_u32 {
            let data = vec![u8::try_from(number % 251).expect("small"); 60_000];
            spool
                .append(LogStream::Stdout, "s1", &data)
                .await
                .expect("there is space");
            written.extend(data);
        }
        assert_eq!(all(&spool, 0), written);
        for from in [1_u64, 59_999, 60_000, 5_000_123] {
            let start = usize::try_from(from).expect("small");
            assert_eq!(all(&spool, from), written[start..], "from {from}");
        }
        assert_eq!(spool.digest().1, Sha256::digest(&written).to_vec());
    }

    #[tokio::test]
    async fn acknowledged_segments_leave_the_disk() {
        let (root, spool) = spool(LIMIT);
        for _ in 0..200 {
            spool
                .append(LogStream::Stdout, "s1", &[7; 60_000])
                .await
                .expect("space");
        }
        let count = || {
            fs::read_dir(root.path().join("spool"))
                .expect("it is there")
                .count()
        };
        let before = count();
        spool.acknowledge(11_000_000);
        assert!(count() < before);
        assert_eq!(all(&spool, 11_000_000).len(), 1_000_000);
    }

    #[tokio::test]
    async fn a_record_that_a_full_disk_takes_in_half_is_none_and_what_is_durable_makes_room() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let Some(disk) = Disk::mount(&root.path().join("disk"), 280_000).expect("it is allowed")
        else {
            return;
        };
        let spool = disk.path().join("spool");
        let spool = Spool::open(&spool, LIMIT, Arc::default()).expect("it is writable");
        let mut written = Vec::new();
        let piece = |number: usize| vec![u8::try_from(number % 251).expect("small"); 60_000];
        let full = loop {
            let piece = piece(written.len());
            match spool.append(LogStream::Stdout, "s1", &piece).await {
                Ok(()) => written.extend(piece),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(all(&spool, 0), written);
        assert_eq!(spool.digest().0, written.len() as u64);
        // What is shorter than the half one finds room, and stands right behind the others.
        let short = spool.append(LogStream::Stdout, "s2", b"short").await;
        short.expect("there is space");
        written.extend(b"short");
        assert_eq!(all(&spool, 0), written);
        // Not all of a segment is durable: there is no more room than before.
        spool.acknowledge(100_000);
        let more = spool.append(LogStream::Stdout, "s2", &piece(1)).await;
        more.expect_err("it is full");
        spool.acknowledge(written.len() as u64);
        let durable = written.len();
        for number in 0..4 {
            let more = spool.append(LogStream::Stdout, "s2", &piece(number)).await;
            more.expect("there is space again");
            written.extend(piece(number));
        }
        assert_eq!(all(&spool, durable as u64), written[durable..]);
        let digest = Sha256::digest(&written).to_vec();
        assert_eq!(spool.digest(), (written.len() as u64, digest));
    }

    #[tokio::test]
    async fn what_is_behind_the_longest_log_is_counted_and_the_log_says_so() {
        let (_root, spool) = spool(LIMIT);
        spool.set_longest(100);
        for _ in 0..3 {
            spool
                .append(LogStream::Stdout, "s1", &[b'a'; 70])
                .await
                .expect("space");
        }
        spool.remark("s1", "a remark").await;
        spool.end();
        let text = String::from_utf8(all(&spool, 0)).expect("text");
        let (kept, rest) = text.split_at(100);
        assert_eq!(kept, "a".repeat(100));
        assert_eq!(
            rest,
            "\nthe log has reached its limit of 100 bytes: what the test prints from here on is not \
             kept\na remark\n110 bytes of the log are not kept\n"
        );
        assert_eq!(spool.digest().1, Sha256::digest(&text).to_vec());
    }

    #[tokio::test]
    async fn a_full_spool_makes_its_writer_wait_and_loses_nothing() {
        let (_root, spool) = spool(100);
        spool
            .append(LogStream::Stdout, "s1", &[1; 100])
            .await
            .expect("space");
        let waiting = spool.append(LogStream::Stdout, "s1", &[2; 50]);
        tokio::pin!(waiting);
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("it is full"),
            () = tokio::task::yield_now() => {}
        }
        spool.acknowledge(60);
        waiting.await.expect("there is space now");
        assert_eq!(spool.range().1, 150);
    }
}
