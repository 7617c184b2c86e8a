//! The folders that the paths of artifacts tell of. There are no rows of folders: an execution has at
//! most [`LIMIT`](super::LIMIT) artifacts, and they are counted where they are asked for.

use muster_core::id::ExecutionId;
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::{ARCHIVES, Artifacts};
use crate::{Error, Page, page};

/// What is below a folder, at any depth. Files with one path of different attempts count each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Its path, without a slash at the end.
    pub path: String,
    /// How many artifacts are below it.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
}

/// Which part of the tree is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// Path of a folder, without a slash at the end; empty for all.
    pub folder: String,
    /// Only what is in the folder itself.
    pub direct: bool,
}

impl Below {
    /// Whether a path is in this part.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let below = match self.folder.as_str() {
            "" => Some(path),
            folder => path
                .strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/')),
        };
        below.is_some_and(|below| !self.direct || !below.contains('/'))
    }

    /// What the paths begin with, and the first text behind all of them.
    pub(super) fn range(&self) -> Option<(String, String)> {
        // `0` comes right after `/`.
        (!self.folder.is_empty())
            .then(|| (format!("{}/", self.folder), format!("{}0", self.folder)))
    }

    /// Where in a path the name below the folder begins, in characters from 1.
    fn start(&self) -> usize {
        match self.folder.as_str() {
            "" => 1,
            folder => folder.chars().count() + 2,
        }
    }

    /// A condition of SQL: the file is in no folder below this one.
    pub(super) fn is_direct(&self, backend: DbBackend) -> String {
        format!("{} = 0", self.slash(backend))
    }

    /// An expression of SQL: where in the name below the folder the first slash is; 0 for none.
    fn slash(&self, backend: DbBackend) -> String {
        let find = match backend {
            DbBackend::Postgres => "strpos",
            _ => "instr",
        };
        format!("{find}(substr(path, {}), '/')", self.start())
    }
}

impl Artifacts<'_> {
    /// Lists the folders in a folder of an execution, by path, after the one named `after`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn folders(
        &self,
        execution: ExecutionId,
        folder: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Folder, String>, Error> {
        let limit = page::limit(limit);
        let below = Below {
            folder: folder.to_owned(),
            direct: false,
        };
        self.store
            .read("list_artifact_folders", || async {
                let db = self.store.reader();
                self.store
                    .executions(self.project)
                    .require(db, execution)
                    .await?;
                let backend = db.get_database_backend();
                let (first, end) = below.range().unwrap_or_default();
                let sql = statement(&below, backend);
                let values: Vec<Value> = vec![
                    execution.as_uuid().into(),
                    first.into(),
                    end.into(),
                    after.unwrap_or_default().into(),
                    (i64::from(limit) + 1).into(),
                ];
                let statement = Statement::from_sql_and_values(backend, sql, values);
                let rows = db.query_all_raw(statement).await?;
                let items = rows.iter().map(|row| {
                    Ok(Folder {
                        path: row.try_get_by_index(0)?,
                        files: row.try_get_by_index(1)?,
                        bytes: row.try_get_by_index(2)?,
                    })
                });
                let items = items.collect::<Result<Vec<_>, sea_orm::DbErr>>()?;
                Ok(Page::new(items, limit, |item: &Folder| item.path.clone()))
            })
            .await
    }
}

/// Groups by the path up to the first slash below the folder.
fn statement(below: &Below, backend: DbBackend) -> String {
    let (slash, before) = (below.slash(backend), below.start() - 1);
    // Without a folder both ends are empty, and the second says nothing.
    format!(
        "SELECT folder, COUNT(*), CAST(SUM(size) AS bigint) FROM (\
           SELECT substr(path, 1, {before} + {slash} - 1) AS folder, size FROM artifacts \
           WHERE execution_id = $1 AND path >= $2 AND ($3 = '' OR path < $3) \
             AND {slash} > 0 AND path NOT LIKE '{ARCHIVES}%'\
         ) AS below WHERE folder > $4 GROUP BY folder ORDER BY folder LIMIT $5"
    )
}
