//! Deleting a unit, or its logs and artifacts: the rows go in one transaction, which notes the keys of
//! their blobs. Whatever happens after it, no row names a blob that is gone, and each blob is either
//! named by a row or noted.

use muster_core::{execution::State, id::ExecutionId};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value,
    sea_query::{Expr, Query},
};
use uuid::Uuid;

use super::{CHUNK, Deleted, GENERATIONS, Kept, Outcome, Part, Retained, execute, places};
use crate::{
    Error, Request,
    audit::{self, Done},
    entity::{
        attempt as attempt_row, execution as row, execution_event as event_row,
        execution_plan as plan_row, execution_steps as steps_row, taken_over as taken_row,
    },
    error::Kind,
    execution::Change,
    project, request, time,
    transaction::{Failure, Tx},
};

/// What is read of an execution: id, state, name, pinned, bytes of log and artifacts, and when they were
/// deleted.
type Found = (
    Uuid,
    String,
    String,
    bool,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
);

/// Locks executions, ordered by id.
async fn lock<C: ConnectionTrait>(
    db: &C,
    query: sea_orm::Select<row::Entity>,
) -> Result<Vec<Found>, Failure> {
    Ok(query
        .select_only()
        .columns([
            row::Column::Id,
            row::Column::State,
            row::Column::DisplayName,
            row::Column::Pinned,
            row::Column::LogSize,
            row::Column::ArtifactBytes,
            row::Column::LogsDeleteTime,
            row::Column::ArtifactsDeleteTime,
        ])
        .order_by_asc(row::Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(db)
        .await?)
}

impl Retained<'_> {
    /// Whether a request was done before, so that what it deleted is not looked for.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] when the content was another.
    pub async fn has_done(&self, request: &Request) -> Result<bool, Error> {
        self.store
            .read("find_request", || async {
                let replay = request::replay(Some(request), self.store.reader()).await?;
                Ok(replay.is_some())
            })
            .await
    }

    /// Deletes an execution with all that belongs to it, or only its files. `force` also deletes what is
    /// pinned; nothing deletes what is under hold.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::RequestIdReused`].
    pub async fn delete(
        &self,
        id: ExecutionId,
        part: Part,
        force: bool,
        request: Option<&Request>,
    ) -> Result<Outcome, Error> {
        let now = self.store.clock().now();
        self.store
            .transaction("delete_execution", |tx| async move {
                if request::replay(request, &*tx).await?.is_some() {
                    return Ok(Outcome::Repeated);
                }
                let unit = match self.lock_unit(&tx, id).await? {
                    Ok(unit) => unit,
                    Err(kept) => return Ok(Outcome::Kept(kept)),
                };
                let project = project::load(&*tx, self.project).await?;
                if let Some(hold) = project.settings.hold_at(now) {
                    return Ok(Outcome::Kept(Kept::Held {
                        until: hold.until,
                        message: hold.message.clone(),
                    }));
                }
                if !force && unit.iter().any(|found| found.3) {
                    return Ok(Outcome::Kept(Kept::Pinned));
                }
                let ids: Vec<Uuid> = unit.iter().map(|found| found.0).collect();
                let Some(attempts) = lock_attempts(&tx, &ids).await? else {
                    return Ok(Outcome::Kept(Kept::LogOpen));
                };
                request::record(request, &*tx, id.as_uuid(), 0, now).await?;
                let done = Done {
                    project: Some(self.project),
                    before: audit::json(&serde_json::json!({
                        "display_name": unit.first().map(|found| &found.2),
                        "executions": unit.len(),
                        "pinned": unit.iter().any(|found| found.3),
                    }))?,
                    ..Done::default()
                };
                audit::record(request, &*tx, done, now).await?;
                let mut deleted = told(&unit, part);
                let (logs, artifacts) = match part {
                    Part::All => (true, true),
                    Part::Files { logs, artifacts } => (logs, artifacts),
                };
                if logs {
                    deleted.blobs += self.doom_logs(&tx, &attempts).await?;
                }
                if artifacts {
                    deleted.blobs += self.doom_artifacts(&tx, &ids).await?;
                }
                match part {
                    Part::All => delete_rows(&tx, &ids, &attempts).await?,
                    Part::Files { .. } => {
                        self.note_files(&tx, id, &ids, logs, artifacts).await?;
                    }
                }
                Ok(Outcome::Deleted(deleted))
            })
            .await
    }

    /// Locks an execution and its descendants, the execution first, when all of them have ended.
    async fn lock_unit(
        &self,
        tx: &Tx,
        id: ExecutionId,
    ) -> Result<Result<Vec<Found>, Kept>, Failure> {
        let parent: Option<Option<Uuid>> = row::Entity::find_by_id(id.as_uuid())
            .select_only()
            .column(row::Column::ParentId)
            .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
            .into_tuple()
            .one(&**tx)
            .await?;
        let parent = parent.ok_or_else(|| Error::not_found(Kind::Execution, id))?;
        if let Some(parent) = parent {
            let root = root(tx, parent).await?.into();
            return Ok(Err(Kept::Child { root }));
        }
        let own = row::Entity::find_by_id(id.as_uuid());
        let mut unit = lock(&**tx, own).await?;
        if unit.is_empty() {
            return Err(Error::not_found(Kind::Execution, id).into());
        }
        let mut parents = vec![id.as_uuid()];
        for _ in 0..GENERATIONS {
            let mut next = Vec::new();
            for parents in parents.chunks(CHUNK) {
                let parents = parents.iter().copied();
                let children = row::Entity::find().filter(row::Column::ParentId.is_in(parents));
                let children = lock(&**tx, children).await?;
                next.extend(children.iter().map(|found| found.0));
                unit.extend(children);
            }
            if next.is_empty() {
                break;
            }
            parents = next;
        }
        let ended = |found: &Found| State::from_name(&found.1).is_some_and(State::is_terminal);
        if !unit.iter().all(ended) {
            return Ok(Err(Kept::Unfinished));
        }
        let ids: Vec<Uuid> = unit.iter().map(|found| found.0).collect();
        match is_taken_over(tx, &ids).await? {
            true => Ok(Err(Kept::TakenOver)),
            false => Ok(Ok(unit)),
        }
    }

    /// Notes and deletes what logs consist of.
    async fn doom_logs(&self, tx: &Tx, attempts: &[Uuid]) -> Result<u64, Failure> {
        let mut blobs = 0;
        for table in ["log_segments", "sealed_logs"] {
            blobs += self.doom(tx, table, "attempt_id", attempts).await?;
            delete_from(tx, table, "attempt_id", attempts).await?;
        }
        Ok(blobs)
    }

    /// Notes and deletes artifacts, and the notes of those that are missing.
    async fn doom_artifacts(&self, tx: &Tx, ids: &[Uuid]) -> Result<u64, Failure> {
        let blobs = self.doom(tx, "artifacts", "execution_id", ids).await?;
        for table in ["artifacts", "missing_artifacts"] {
            delete_from(tx, table, "execution_id", ids).await?;
        }
        Ok(blobs)
    }

    /// Notes the blobs that rows of a table name.
    async fn doom(&self, tx: &Tx, table: &str, column: &str, ids: &[Uuid]) -> Result<u64, Failure> {
        let now = time::millis(self.store.clock().now());
        let mut blobs = 0;
        for ids in ids.chunks(CHUNK) {
            let sql = format!(
                "INSERT INTO doomed_blobs (key, project_id, create_time, next_time) \
                 SELECT blob, $1, $2, $2 FROM {table} WHERE {column} IN ({}) \
                 ON CONFLICT (key) DO NOTHING",
                places(3, ids.len())
            );
            let mut values: Vec<Value> = vec![self.project.as_uuid().into(), now.into()];
            values.extend(ids.iter().map(|id| Value::from(*id)));
            blobs += execute(&**tx, sql, values).await?.rows_affected();
        }
        Ok(blobs)
    }

    /// Notes on executions that their files are gone, and in the history of the first of them.
    async fn note_files(
        &self,
        tx: &Tx,
        id: ExecutionId,
        ids: &[Uuid],
        logs: bool,
        artifacts: bool,
    ) -> Result<(), Failure> {
        let now = self.store.clock().now();
        let mut change = Change::of_project(&**tx, self.project, id, now).await?;
        for (wanted, column, kind, text) in [
            (
                logs,
                row::Column::LogsDeleteTime,
                "LOGS_DELETED",
                "its logs were deleted by retention",
            ),
            (
                artifacts,
                row::Column::ArtifactsDeleteTime,
                "ARTIFACTS_DELETED",
                "its artifacts were deleted by retention",
            ),
        ] {
            if !wanted {
                continue;
            }
            for ids in ids.chunks(CHUNK) {
                row::Entity::update_many()
                    .col_expr(column, Expr::value(time::millis(now)))
                    .filter(row::Column::Id.is_in(ids.iter().copied()))
                    .filter(column.is_null())
                    .exec(&**tx)
                    .await?;
            }
            change.event(kind, text);
        }
        change.save(&**tx).await?;
        Ok(())
    }
}

/// Whether something that has not ended has taken over one of these: its conductor waits to hear of it.
async fn is_taken_over(tx: &Tx, ids: &[Uuid]) -> Result<bool, Failure> {
    for ids in ids.chunks(CHUNK) {
        let takers = Query::select()
            .column(taken_row::Column::ExecutionId)
            .from(taken_row::Entity)
            .and_where(taken_row::Column::FormerId.is_in(ids.iter().copied()))
            .to_owned();
        let alive: Option<Uuid> = row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(row::Column::Id.in_subquery(takers))
            .filter(row::Column::FinishTime.is_null())
            .limit(1)
            .into_tuple()
            .one(&**tx)
            .await?;
        if alive.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The execution that another one descends from.
async fn root(tx: &Tx, mut id: Uuid) -> Result<Uuid, Failure> {
    for _ in 0..GENERATIONS {
        let parent: Option<Option<Uuid>> = row::Entity::find_by_id(id)
            .select_only()
            .column(row::Column::ParentId)
            .into_tuple()
            .one(&**tx)
            .await?;
        match parent.flatten() {
            Some(parent) => id = parent,
            None => break,
        }
    }
    Ok(id)
}

/// What goes.
fn told(unit: &[Found], part: Part) -> Deleted {
    let sum = |bytes: fn(&Found) -> (i64, Option<i64>)| {
        let there = unit.iter().map(bytes).filter(|(_, gone)| gone.is_none());
        there
            .map(|(bytes, _)| u64::try_from(bytes).unwrap_or(0))
            .sum()
    };
    let (logs, artifacts) = match part {
        Part::All => (true, true),
        Part::Files { logs, artifacts } => (logs, artifacts),
    };
    Deleted {
        ids: unit.iter().map(|found| found.0.into()).collect(),
        display_name: unit
            .first()
            .map(|found| found.2.clone())
            .unwrap_or_default(),
        log_bytes: if logs { sum(|it| (it.4, it.6)) } else { 0 },
        artifact_bytes: if artifacts { sum(|it| (it.5, it.7)) } else { 0 },
        blobs: 0,
    }
}

/// Locks the attempts of executions; nothing when a log of one is not finished.
async fn lock_attempts(tx: &Tx, executions: &[Uuid]) -> Result<Option<Vec<Uuid>>, Failure> {
    let mut attempts = Vec::new();
    for ids in executions.chunks(CHUNK) {
        let found: Vec<(Uuid, bool)> = attempt_row::Entity::find()
            .select_only()
            .columns([attempt_row::Column::Id, attempt_row::Column::LogEnded])
            .filter(attempt_row::Column::ExecutionId.is_in(ids.iter().copied()))
            .order_by_asc(attempt_row::Column::Id)
            .lock_exclusive()
            .into_tuple()
            .all(&**tx)
            .await?;
        if found.iter().any(|(_, log_ended)| !log_ended) {
            return Ok(None);
        }
        attempts.extend(found.into_iter().map(|(id, _)| id));
    }
    Ok(Some(attempts))
}

async fn delete_from(tx: &Tx, table: &str, column: &str, ids: &[Uuid]) -> Result<(), Failure> {
    for ids in ids.chunks(CHUNK) {
        let sql = format!(
            "DELETE FROM {table} WHERE {column} IN ({})",
            places(1, ids.len())
        );
        let values = ids.iter().map(|id| Value::from(*id)).collect();
        execute(&**tx, sql, values).await?;
    }
    Ok(())
}

/// Deletes executions with all rows that hang on them. PostgreSQL knows of no reference from plans, steps
/// and events; the rest follows by itself.
async fn delete_rows(tx: &Tx, ids: &[Uuid], attempts: &[Uuid]) -> Result<(), Failure> {
    for ids in ids.chunks(CHUNK) {
        let wanted = || ids.iter().copied();
        plan_row::Entity::delete_many()
            .filter(plan_row::Column::ExecutionId.is_in(wanted()))
            .exec(&**tx)
            .await?;
        steps_row::Entity::delete_many()
            .filter(steps_row::Column::ExecutionId.is_in(wanted()))
            .exec(&**tx)
            .await?;
        event_row::Entity::delete_many()
            .filter(event_row::Column::ExecutionId.is_in(wanted()))
            .exec(&**tx)
            .await?;
    }
    delete_from(tx, "attempts", "id", attempts).await?;
    // Children before their parents.
    for ids in ids.rchunks(CHUNK) {
        delete_from(tx, "executions", "id", ids).await?;
    }
    Ok(())
}
