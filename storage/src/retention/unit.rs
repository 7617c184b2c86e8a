//! Units of a workflow, the newest first, as a judge has to know them.

use std::collections::{BTreeMap, HashMap};

use muster_core::{
    execution::State,
    id::ExecutionId,
    retention::{Retention, Unit},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{CHUNK, GENERATIONS, Retained};
use crate::{
    Error, Page,
    entity::{execution as row, manifest as manifest_row},
    page, text, time,
    transaction::Failure,
};

/// Most units of one page: each may have thousands of children.
const MOST: u32 = 200;

/// An execution that has ended, with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The execution.
    pub id: ExecutionId,
    /// How many executions it is.
    pub executions: u64,
    /// What a judge has to know.
    pub unit: Unit,
}

/// What is read of an execution: id, parent, state, end, bytes, and what was done to it.
type Found = (
    Uuid,
    Option<Uuid>,
    String,
    Option<i64>,
    i64,
    i64,
    bool,
    Option<i64>,
    Option<i64>,
);

const COLUMNS: [row::Column; 9] = [
    row::Column::Id,
    row::Column::ParentId,
    row::Column::State,
    row::Column::FinishTime,
    row::Column::LogSize,
    row::Column::ArtifactBytes,
    row::Column::Pinned,
    row::Column::LogsDeleteTime,
    row::Column::ArtifactsDeleteTime,
];

impl Candidate {
    fn new(found: &Found) -> Result<Self, Failure> {
        let (id, _, state, finish, log, artifacts, pinned, no_logs, no_artifacts) = found;
        let state = State::from_name(state)
            .ok_or_else(|| Failure::internal("read a unit", format!("unknown state '{state}'")))?;
        let there = |bytes: &i64, gone: &Option<i64>| match gone {
            Some(_) => 0,
            None => u64::try_from(*bytes).unwrap_or(0),
        };
        Ok(Self {
            id: (*id).into(),
            executions: 1,
            unit: Unit {
                state,
                finish_time: finish.map(time::timestamp),
                log_bytes: there(log, no_logs),
                artifact_bytes: there(artifacts, no_artifacts),
                pinned: *pinned,
                has_logs: no_logs.is_none(),
                has_artifacts: no_artifacts.is_none(),
            },
        })
    }

    fn add(&mut self, child: &Self) {
        let (own, other) = (&mut self.unit, &child.unit);
        self.executions += child.executions;
        own.finish_time = own
            .finish_time
            .zip(other.finish_time)
            .map(|(a, b)| a.max(b));
        own.log_bytes = own.log_bytes.saturating_add(other.log_bytes);
        own.artifact_bytes = own.artifact_bytes.saturating_add(other.artifact_bytes);
        own.pinned |= other.pinned;
        own.has_logs |= other.has_logs;
        own.has_artifacts |= other.has_artifacts;
    }
}

impl Retained<'_> {
    /// Lists workflows of which something has ended, by name, with what their stored manifest says of
    /// retention.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn workflows(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<(String, Retention), String>, Error> {
        let limit = page::limit(limit);
        self.store
            .read("list_retained_workflows", || async {
                let db = self.store.reader();
                let mut names: Vec<String> = Vec::new();
                // One step of the index for each, whatever executions it has.
                while names.len() <= limit as usize {
                    let mut next = row::Entity::find()
                        .select_only()
                        .column(row::Column::Workflow)
                        .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                        .filter(row::Column::FinishTime.is_not_null())
                        .order_by_asc(row::Column::Workflow)
                        .limit(1);
                    if let Some(after) = names.last().map(String::as_str).or(after) {
                        next = next.filter(row::Column::Workflow.gt(after));
                    }
                    match next.into_tuple().one(db).await? {
                        Some(name) => names.push(name),
                        None => break,
                    }
                }
                let mut said = self.said(db, &names).await?;
                let items = names.into_iter().map(|name| {
                    let said = said.remove(&name).unwrap_or_default();
                    (name, said)
                });
                Ok(Page::new(items.collect(), limit, |item: &(String, _)| {
                    item.0.clone()
                }))
            })
            .await
    }

    /// What stored manifests of these names say.
    async fn said<C: ConnectionTrait>(
        &self,
        db: &C,
        names: &[String],
    ) -> Result<HashMap<String, Retention>, Failure> {
        let mut said = HashMap::new();
        for names in names.chunks(CHUNK) {
            let found: Vec<(String, String)> = manifest_row::Entity::find()
                .select_only()
                .columns([
                    manifest_row::Column::Name,
                    manifest_row::Column::RetentionJson,
                ])
                .filter(manifest_row::Column::ProjectId.eq(self.project.as_uuid()))
                .filter(manifest_row::Column::Kind.eq("workflow"))
                .filter(manifest_row::Column::DeleteTime.is_null())
                .filter(manifest_row::Column::Name.is_in(names.iter().map(String::as_str)))
                .into_tuple()
                .all(db)
                .await?;
            for (name, json) in found {
                said.insert(name, text::decode(&json)?);
            }
        }
        Ok(said)
    }

    /// Lists units of a workflow that have ended, the newest first; those that still run are left out,
    /// those of which a part still runs are not.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn units(
        &self,
        workflow: &str,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Page<Candidate, ExecutionId>, Error> {
        let limit = limit.clamp(1, MOST);
        self.store
            .read("list_units", || async {
                let db = self.store.reader();
                let mut query = row::Entity::find()
                    .select_only()
                    .columns(COLUMNS)
                    .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                    .filter(row::Column::Workflow.eq(workflow))
                    .filter(row::Column::FinishTime.is_not_null())
                    .filter(row::Column::ParentId.is_null())
                    .order_by_desc(row::Column::Id)
                    .limit(u64::from(limit) + 1);
                if let Some(before) = before {
                    query = query.filter(row::Column::Id.lt(before.as_uuid()));
                }
                let found: Vec<Found> = query.into_tuple().all(db).await?;
                let items = found.iter().map(Candidate::new).collect::<Result<_, _>>()?;
                let mut page = Page::new(items, limit, |item: &Candidate| item.id);
                add_descendants(db, &mut page.items).await?;
                Ok(page)
            })
            .await
    }

    /// Returns the names of executions for people.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn names(&self, ids: &[ExecutionId]) -> Result<BTreeMap<ExecutionId, String>, Error> {
        self.store
            .read("name_executions", || async {
                let mut names = BTreeMap::new();
                for ids in ids.chunks(CHUNK) {
                    let found: Vec<(Uuid, String)> = row::Entity::find()
                        .select_only()
                        .columns([row::Column::Id, row::Column::DisplayName])
                        .filter(row::Column::ProjectId.eq(self.project.as_uuid()))
                        .filter(row::Column::Id.is_in(ids.iter().map(|id| id.as_uuid())))
                        .into_tuple()
                        .all(self.store.reader())
                        .await?;
                    names.extend(found.into_iter().map(|(id, name)| (id.into(), name)));
                }
                Ok(names)
            })
            .await
    }
}

/// Adds to units what they have started, generation by generation.
async fn add_descendants<C: ConnectionTrait>(
    db: &C,
    units: &mut [Candidate],
) -> Result<(), Failure> {
    let mut roots: HashMap<Uuid, usize> = units
        .iter()
        .enumerate()
        .map(|(index, unit)| (unit.id.as_uuid(), index))
        .collect();
    for _ in 0..GENERATIONS {
        let parents: Vec<Uuid> = roots.keys().copied().collect();
        let mut next = HashMap::new();
        for parents in parents.chunks(CHUNK) {
            let found: Vec<Found> = row::Entity::find()
                .select_only()
                .columns(COLUMNS)
                .filter(row::Column::ParentId.is_in(parents.iter().copied()))
                .into_tuple()
                .all(db)
                .await?;
            for child in &found {
                let root = child.1.and_then(|parent| roots.get(&parent)).copied();
                if let Some((root, unit)) = root.and_then(|it| Some((it, units.get_mut(it)?))) {
                    unit.add(&Candidate::new(child)?);
                    next.insert(child.0, root);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        roots = next;
    }
    Ok(())
}
