//! Artifacts: complete files that executions left behind. Their bytes are blobs.
//! What the paths tell of folders is in `folder`.

mod folder;
mod preview;

use jiff::Timestamp;
use muster_core::id::{ArtifactId, AttemptId, ExecutionId, ProjectId};

use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use crate::{
    Error, Page, Store,
    entity::{artifact as row, attempt as attempt_row, missing_artifact as missing_row},
    error::Kind,
    page, text, time,
};

pub use folder::{Below, Folder};
pub use preview::Preview;

/// How many artifacts one execution may have.
pub const LIMIT: u32 = 10_000;

/// Why an execution gets no further file.
#[must_use]
pub fn too_many() -> String {
    format!(
        "the execution has {LIMIT} artifacts, which is the limit; choose fewer files, or put them into one \
         by `compress`"
    )
}

/// Why a file does not fit into what the artifacts of one execution may have in bytes.
#[must_use]
pub fn too_long(limit: i64) -> String {
    format!(
        "the artifacts of the execution would have more than {limit} bytes, which is the limit \
         (--max-artifacts-size of the server)"
    )
}

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// Its project.
    pub project: ProjectId,
    /// Its execution.
    pub execution: ExecutionId,
    /// Attempt that collected it.
    pub attempt: AttemptId,
    /// Path, relative.
    pub path: String,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Media type.
    pub content_type: String,
    /// How it can be shown.
    pub preview: Preview,
    /// Permission bits.
    pub mode: u32,
    /// Reference of the step that collected it.
    pub step: String,
    /// Key of its blob.
    pub blob: String,
    /// When it became complete.
    pub create_time: Timestamp,
}

/// A file that could not be collected, or whose upload did not come to its end. There is nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its execution.
    pub execution: ExecutionId,
    /// Attempt that wanted to leave it.
    pub attempt: AttemptId,
    /// Path, relative.
    pub path: String,
    /// Reference of the step that collected it.
    pub step: String,
    /// Why it is missing, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// When its last upload ended, or was given up.
    pub create_time: Timestamp,
}

/// What is to be noted of a file that could not be collected, or whose upload did not come to its end.
#[derive(Debug, Clone)]
pub struct NewMissing {
    /// Path, relative, normalised by the caller.
    pub path: String,
    /// Reference of the step that collected it.
    pub step: String,
    /// Why it is missing, `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

/// An artifact whose blob is durable already.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// Path, relative, normalised by the caller.
    pub path: String,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Media type.
    pub content_type: String,
    /// How it can be shown.
    pub preview: Preview,
    /// Permission bits.
    pub mode: u32,
    /// Reference of the step that collects it.
    pub step: String,
    /// Key of its blob.
    pub blob: String,
    /// Name of the format, when it is a report of a test tool.
    pub report: Option<&'static str>,
}

/// Where a list of artifacts goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Path of the last one.
    pub path: String,
    /// Its id.
    pub id: ArtifactId,
}

/// How many missing files of one execution are noted.
pub const MOST_MISSING: u64 = 1000;

/// The artifacts of one project.
#[derive(Debug)]
pub struct Artifacts<'a> {
    pub(crate) store: &'a Store,
    pub(crate) project: ProjectId,
}

/// Folder of archives that executions put aside for each other; they are no results, and are not
/// listed.
pub const ARCHIVES: &str = ".muster/";

impl Artifacts<'_> {
    /// Returns the newest file of an execution at a path, listed or not.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn find(&self, execution: ExecutionId, path: &str) -> Result<Artifact, Error> {
        self.store
            .read("find_artifact", || async {
                row::Entity::find()
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(row::Column::ExecutionId.eq(execution.as_uuid()))
                    .filter(row::Column::Path.eq(path))
                    .order_by_desc(row::Column::Id)
                    .limit(1)
                    .one(self.store.reader())
                    .await?
                    .map(record)
                    .ok_or_else(|| Error::not_found(Kind::Artifact, path).into())
            })
            .await
    }

    /// Returns one artifact.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn get(&self, id: ArtifactId) -> Result<Artifact, Error> {
        self.store
            .read("get_artifact", || async {
                row::Entity::find_by_id(id.as_uuid())
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .one(self.store.reader())
                    .await?
                    .map(record)
                    .ok_or_else(|| Error::not_found(Kind::Artifact, id).into())
            })
            .await
    }

    /// Lists the files of an execution that are missing, at most 1,000, by path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn missing(&self, execution: ExecutionId) -> Result<Vec<Missing>, Error> {
        self.store
            .read("list_missing_artifacts", || async {
                let db = self.store.reader();
                self.store
                    .executions(self.project)
                    .require(db, execution)
                    .await?;
                let rows = missing_row::Entity::find()
                    .filter(missing_row::Column::ExecutionId.eq(execution.as_uuid()))
                    .order_by_asc(missing_row::Column::Path)
                    .limit(MOST_MISSING)
                    .all(db)
                    .await?;
                Ok(rows.into_iter().map(missing).collect())
            })
            .await
    }

    /// Lists the artifacts of an execution, or of a part of its tree, by path.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the execution.
    pub async fn list(
        &self,
        execution: ExecutionId,
        below: &Below,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<Artifact, Cursor>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_artifacts", || async {
                let db = self.store.reader();
                self.store
                    .executions(self.project)
                    .require(db, execution)
                    .await?;
                let mut query = row::Entity::find()
                    .filter(row::Column::ExecutionId.eq(execution.as_uuid()))
                    .filter(row::Column::Path.not_like(format!("{ARCHIVES}%")))
                    .order_by_asc(row::Column::Path)
                    .order_by_asc(row::Column::Id)
                    .limit(u64::from(limit) + 1);
                if let Some((first, end)) = below.range() {
                    query = query
                        .filter(row::Column::Path.gte(first))
                        .filter(row::Column::Path.lt(end));
                }
                if below.direct {
                    let direct = below.is_direct(db.get_database_backend());
                    query = query.filter(Expr::cust(direct));
                }
                if let Some(after) = after {
                    let last = Expr::tuple([
                        Expr::value(after.path.clone()),
                        Expr::value(after.id.as_uuid()),
                    ]);
                    let columns = [row::Column::Path, row::Column::Id];
                    query = query.filter(Expr::tuple(columns.map(Expr::col)).gt(last));
                }
                let rows = query.all(db).await?;
                let items = rows.into_iter().map(record).collect();
                Ok(Page::new(items, limit, |item: &Artifact| Cursor {
                    path: item.path.clone(),
                    id: item.id,
                }))
            })
            .await
    }
}

pub(crate) fn new_row(
    id: ArtifactId,
    attempt: &attempt_row::Model,
    new: &NewArtifact,
    now: Timestamp,
) -> row::Model {
    row::Model {
        id: id.as_uuid(),
        project_id: attempt.project_id,
        execution_id: attempt.execution_id,
        attempt_id: attempt.id,
        path: new.path.clone(),
        size: new.size,
        sha256: new.sha256.clone(),
        content_type: text::reason(&new.content_type),
        mode: i32::try_from(new.mode & 0o7777).unwrap_or(0),
        step: text::reason(&new.step),
        blob: new.blob.clone(),
        create_time: time::millis(now),
        preview: new.preview.code().to_owned(),
    }
}

fn missing(row: missing_row::Model) -> Missing {
    Missing {
        execution: row.execution_id.into(),
        attempt: row.attempt_id.into(),
        path: row.path,
        step: row.step,
        reason: row.reason,
        message: row.message,
        create_time: time::timestamp(row.create_time),
    }
}

pub(crate) fn record(row: row::Model) -> Artifact {
    let preview = Preview::of_code(&row.preview);
    Artifact {
        preview: preview.unwrap_or_else(|| Preview::of_type(&row.content_type)),
        id: row.id.into(),
        project: row.project_id.into(),
        execution: row.execution_id.into(),
        attempt: row.attempt_id.into(),
        path: row.path,
        size: row.size,
        sha256: row.sha256,
        content_type: row.content_type,
        mode: u32::try_from(row.mode).unwrap_or(0),
        step: row.step,
        blob: row.blob,
        create_time: time::timestamp(row.create_time),
    }
}
