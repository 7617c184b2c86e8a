//! What is wrong with the disk of a SQLite database: SQLite itself tells no more than that a file
//! could not be used.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::Unwritable;

/// What is written to see whether there is room: as much as a page of the database.
const PROBE: [u8; 4096] = [0; 4096];

/// Whether a file can be written beside the database, and why not. The database itself is left
/// alone: to close it once more would take away the locks of all who have it open here.
pub(super) async fn unwritable(database: &Path) -> Option<Unwritable> {
    let folder = database.parent()?.to_owned();
    let probed = tokio::task::spawn_blocking(move || probe(&folder)).await;
    match probed.ok()?.err()?.kind() {
        ErrorKind::ReadOnlyFilesystem => Some(Unwritable::ReadOnly),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Unwritable::Full),
        _ => None,
    }
}

fn probe(folder: &Path) -> std::io::Result<()> {
    let path: PathBuf = folder.join(format!(".muster-probe-{}", Uuid::new_v4().simple()));
    let mut file = fs::File::create_new(&path)?;
    let written = file.write_all(&PROBE);
    fs::remove_file(&path)?;
    written
}
