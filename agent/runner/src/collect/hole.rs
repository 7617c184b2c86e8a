//! Holes of sparse files: they are zeros that nobody has written, and need not be read to be known.

use std::{fs::File, io};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// What stands in a file from a place on, and up to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Bytes that are to be read.
    Data(u64),
    /// A hole.
    Hole(u64),
}

impl Stretch {
    /// The stretch that begins at `at`, of the first `whole` bytes of a file. Reading goes on there, or
    /// behind the hole. Where the file system knows of no holes all is data.
    pub(super) fn find(file: &File, at: u64, whole: u64) -> io::Result<Self> {
        let found = match seek(file, SeekFrom::Data(at)) {
            Ok(data) if data > at => Self::Hole(data.min(whole)),
            Ok(_) => match seek(file, SeekFrom::Hole(at)) {
                Ok(hole) if hole > at => Self::Data(hole.min(whole)),
                Ok(_) | Err(_) => Self::Data(whole),
            },
            // Nothing but a hole up to its end, unless it has become shorter than that.
            Err(Errno::NXIO) => match file.metadata()?.len().min(whole) {
                end if end > at => Self::Hole(end),
                _ => Self::Data(whole),
            },
            Err(_) => Self::Data(whole),
        };
        let next = match found {
            Self::Data(_) => at,
            Self::Hole(end) => end,
        };
        seek(file, SeekFrom::Start(next))?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn stretches(file: &File, whole: u64) -> Vec<Stretch> {
        let (mut at, mut found) = (0, Vec::new());
        while at < whole {
            let stretch = Stretch::find(file, at, whole).unwrap();
            let (Stretch::Data(end) | Stretch::Hole(end)) = stretch;
            assert!(end > at && end <= whole, "{stretch:?} from {at}");
            found.push(stretch);
            at = end;
        }
        found
    }

    #[test]
    fn holes_are_found_in_the_middle_and_at_the_end() {
        const MIB: u64 = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 1 << 20], MIB).unwrap();
        file.set_len(4 * MIB).unwrap();
        let all = [
            Stretch::Hole(MIB),
            Stretch::Data(2 * MIB),
            Stretch::Hole(4 * MIB),
        ];
        assert_eq!(stretches(&file, 4 * MIB), all);
        assert_eq!(stretches(&file, MIB / 2), [Stretch::Hole(MIB / 2)]);
        // What is behind the end is no hole: reading tells that it ends.
        assert_eq!(
            stretches(&file, 5 * MIB)[2..],
            [Stretch::Hole(4 * MIB), Stretch::Data(5 * MIB)]
        );
        let full = tempfile::tempfile().unwrap();
        full.write_all_at(&[7; 5000], 0).unwrap();
        assert_eq!(stretches(&full, 5000), [Stretch::Data(5000)]);
    }
}
