//! Telling a log that was deleted from one that has a gap: before it is read, and when that happens
//! meanwhile.

use jiff::Timestamp;

use super::Reader;
use crate::app::Error;

/// The log was deleted, its execution is there.
pub(super) fn by_retention(at: Timestamp) -> Error {
    Error::Deleted(format!(
        "the log was deleted by retention at {at:.0}; `muster projects set --keep-logs` says how long logs are kept"
    ))
}

impl Reader {
    /// Refuses to go on when the log was deleted while it was read: what is missing is no gap.
    pub(super) async fn refuse_deleted(&self) -> Result<(), Error> {
        let executions = self.app.store.executions(self.project);
        match executions.get(self.execution).await?.logs_delete_time {
            Some(at) => Err(by_retention(at)),
            None => Ok(()),
        }
    }

    /// What an error means: what was found before and is gone now was deleted.
    pub(super) async fn explain(&self, error: Error) -> Error {
        if !matches!(error, Error::NotFound(_)) {
            return error;
        }
        let executions = self.app.store.executions(self.project);
        match executions.get(self.execution).await {
            Ok(found) => found.logs_delete_time.map_or(error, by_retention),
            Err(gone) if gone.is_not_found() => Error::Deleted(
                "the execution was deleted, by retention or by somebody, while its log was read"
                    .to_owned(),
            ),
            Err(_) => error,
        }
    }
}
