//! A limit on what the library reads on its own between two entries: it keeps long names and
//! extended headers in memory, whole and as long as an archive says that they are.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// How much may still be read; none while an entry is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Room(Rc<Cell<Option<u64>>>);

impl Room {
    /// Lets so many bytes through.
    pub(super) fn limit(&self, bytes: u64) {
        self.0.set(Some(bytes));
    }

    /// Lets everything through.
    pub(super) fn open(&self) {
        self.0.set(None);
    }

    /// Whether all of it was used up.
    pub(super) fn is_spent(&self) -> bool {
        self.0.get() == Some(0)
    }
}

/// A source with a limit.
pub(super) struct Gate<R> {
    pub(super) source: R,
    pub(super) room: Room,
}

impl<R: Read> Read for Gate<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(room) = self.room.0.get() else {
            return self.source.read(buffer);
        };
        if room == 0 {
            return Err(io::Error::other("its headers are too long"));
        }
        let most = usize::try_from(room).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let read = match buffer.get_mut(..length) {
            Some(buffer) => self.source.read(buffer)?,
            None => 0,
        };
        self.room.limit(room.saturating_sub(read as u64));
        Ok(read)
    }
}
