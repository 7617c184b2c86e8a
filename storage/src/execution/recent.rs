//! Rows of executions as this server has written them last, so that the next change of one need not
//! read it whole: its revision says whether anybody has changed it since.
//!
//! What is here was committed. A revision is never given twice, unless an older copy of the database
//! takes its place, which no connection outlives: a new one forgets all of this.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use muster_core::execution::State;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, Select};
use uuid::Uuid;

use crate::{
    entity::{self, execution as row},
    transaction::Failure,
};

/// Most rows of one generation; there are two.
const MOST: usize = 5000;
/// Rows with more text than this, and larger plans, are not kept.
const LARGEST: usize = 8 << 10;

/// The rows.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Generations>);

/// What is not asked for while a generation fills up is forgotten with the one before.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Uuid, Known>,
    old: HashMap<Uuid, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    row: Arc<row::Model>,
    /// It never changes.
    plan: Option<Bytes>,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.lock() = Generations::default();
    }

    /// Keeps a new execution, once it is committed.
    pub(super) fn keep_new(&self, row: Arc<row::Model>, plan: Bytes) {
        let plan = (plan.len() <= LARGEST).then_some(plan);
        self.lock().keep(Known { row, plan });
    }

    /// Keeps what was written, once it is committed. What is over is not changed again.
    pub(crate) fn keep_all(&self, rows: impl IntoIterator<Item = Arc<row::Model>>) {
        let mut all = self.lock();
        for row in rows {
            let known = all.forget(row.id);
            if State::from_name(&row.state).is_some_and(|state| !state.is_terminal()) {
                let plan = known.and_then(|known| known.plan);
                all.keep(Known { row, plan });
            }
        }
    }

    /// The row, when this is its revision.
    fn row(&self, id: Uuid, revision: i64) -> Option<Arc<row::Model>> {
        let all = self.lock();
        let known = all.get(id)?;
        (known.row.revision == revision).then(|| Arc::clone(&known.row))
    }

    /// Whether this is a row from here, which this server has written itself.
    pub(crate) fn has(&self, row: &Arc<row::Model>) -> bool {
        let all = self.lock();
        let known = all.get(row.id);
        known.is_some_and(|known| Arc::ptr_eq(&known.row, row))
    }

    /// The plan of an execution.
    pub(crate) fn plan(&self, id: Uuid) -> Option<Bytes> {
        self.lock().get(id)?.plan.clone()
    }

    /// Runs a query that locks executions, and reads those that are not known as they are now.
    pub(crate) async fn locked<C: ConnectionTrait>(
        &self,
        db: &C,
        query: Select<row::Entity>,
    ) -> Result<Vec<Arc<row::Model>>, Failure> {
        let found: Vec<(Uuid, i64)> = query
            .select_only()
            .columns([row::Column::Id, row::Column::Revision])
            .into_tuple()
            .all(db)
            .await?;
        let mut rows: HashMap<Uuid, Arc<row::Model>> = found
            .iter()
            .filter_map(|(id, revision)| Some((*id, self.row(*id, *revision)?)))
            .collect();
        let missing = found.iter().map(|(id, _)| *id);
        let missing = entity::padded(missing.filter(|id| !rows.contains_key(id)));
        if !missing.is_empty() {
            let read = row::Entity::find()
                .filter(row::Column::Id.is_in(missing))
                .all(db)
                .await?;
            rows.extend(read.into_iter().map(|row| (row.id, Arc::new(row))));
        }
        let found = found.into_iter();
        Ok(found.filter_map(|(id, _)| rows.remove(&id)).collect())
    }
}

impl Generations {
    fn get(&self, id: Uuid) -> Option<&Known> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    fn keep(&mut self, known: Known) {
        if known.size() > LARGEST {
            return;
        }
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(known.row.id, known);
    }

    fn forget(&mut self, id: Uuid) -> Option<Known> {
        let old = self.old.remove(&id);
        self.young.remove(&id).or(old)
    }
}

impl Known {
    /// Bytes of the texts that may be long.
    fn size(&self) -> usize {
        let row = &self.row;
        [
            &row.tags_json,
            &row.labels_json,
            &row.config_json,
            &row.target_json,
            &row.warnings_json,
            &row.message,
            &row.avoid_json,
        ]
        .into_iter()
        .map(String::len)
        .sum()
    }
}
