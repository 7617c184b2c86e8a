//! Which of some blobs no row names. A key has the id of what it belongs to in it, so that it is found by
//! the indexes that are there anyway: `logs/{attempt}/…` and `artifacts/{execution}/…`.

use std::collections::{BTreeSet, HashSet};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::Keeper;
use crate::{
    Error,
    entity::{
        artifact as artifact_row, doomed_blob as doomed_row, log_segment as segment_row,
        sealed_log as sealed_row,
    },
    transaction::Failure,
};

/// Folders whose blobs rows name.
const FOLDERS: [&str; 2] = ["logs", "artifacts"];

/// The folder of a key, and the id in it; `None` for one of another form.
fn owner(key: &str) -> Option<(&'static str, Uuid)> {
    let mut parts = key.split('/');
    let (folder, id) = (parts.next()?, parts.next()?);
    let folder = FOLDERS.into_iter().find(|known| *known == folder)?;
    let is_whole = parts.next().is_some_and(|last| !last.is_empty()) && parts.next().is_none();
    is_whole.then_some((folder, id.parse().ok()?))
}

impl Keeper<'_> {
    /// Returns those of some keys that no row names, not even as one that is to go. Keys that Muster does
    /// not make are left out: they are somebody else's. The caller bounds their number.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unnamed_blobs(&self, keys: &[String]) -> Result<Vec<String>, Error> {
        let owned: Vec<(&String, &str, Uuid)> = keys
            .iter()
            .filter_map(|key| owner(key).map(|(folder, id)| (key, folder, id)))
            .collect();
        self.store
            .read("find_unnamed_blobs", || async {
                let db = self.store.reader();
                let ids = |wanted: &str| -> BTreeSet<Uuid> {
                    let of = owned.iter().filter(|(_, folder, _)| *folder == wanted);
                    of.map(|(.., id)| *id).collect()
                };
                let mut named: HashSet<String> = HashSet::new();
                named.extend(of_logs(db, ids("logs")).await?);
                named.extend(of_artifacts(db, ids("artifacts")).await?);
                let doomed: Vec<String> = doomed_row::Entity::find()
                    .select_only()
                    .column(doomed_row::Column::Key)
                    .filter(doomed_row::Column::Key.is_in(owned.iter().map(|(key, ..)| *key)))
                    .into_tuple()
                    .all(db)
                    .await?;
                named.extend(doomed);
                let unnamed = owned.iter().filter(|(key, ..)| !named.contains(*key));
                Ok(unnamed.map(|(key, ..)| (*key).clone()).collect())
            })
            .await
    }
}

async fn of_logs<C: ConnectionTrait>(
    db: &C,
    attempts: BTreeSet<Uuid>,
) -> Result<Vec<String>, Failure> {
    if attempts.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys: Vec<String> = segment_row::Entity::find()
        .select_only()
        .column(segment_row::Column::Blob)
        .filter(segment_row::Column::AttemptId.is_in(attempts.iter().copied()))
        .into_tuple()
        .all(db)
        .await?;
    let sealed: Vec<String> = sealed_row::Entity::find()
        .select_only()
        .column(sealed_row::Column::Blob)
        .filter(sealed_row::Column::AttemptId.is_in(attempts))
        .into_tuple()
        .all(db)
        .await?;
    keys.extend(sealed);
    Ok(keys)
}

async fn of_artifacts<C: ConnectionTrait>(
    db: &C,
    executions: BTreeSet<Uuid>,
) -> Result<Vec<String>, Failure> {
    if executions.is_empty() {
        return Ok(Vec::new());
    }
    let keys = artifact_row::Entity::find()
        .select_only()
        .column(artifact_row::Column::Blob)
        .filter(artifact_row::Column::ExecutionId.is_in(executions));
    Ok(keys.into_tuple().all(db).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_known_form_have_an_owner() {
        let id = Uuid::now_v7();
        assert_eq!(owner(&format!("logs/{id}/x")), Some(("logs", id)));
        assert_eq!(owner(&format!("artifacts/{id}/x")), Some(("artifacts", id)));
        for other in [
            format!("logs/{id}"),
            format!("logs/{id}/"),
            format!("logs/{id}/x/y"),
            format!("others/{id}/x"),
            "logs/mine/x".to_owned(),
        ] {
            assert_eq!(owner(&other), None, "{other}");
        }
    }
}
