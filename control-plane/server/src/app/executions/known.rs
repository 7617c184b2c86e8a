//! What is known of stored workflows: their documents, and that they compile. Revisions never
//! change, so this can not be wrong; what is forgotten is worked out again.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_spec::schema::Workflow;
use uuid::Uuid;

/// How much is known at most; all is forgotten at once.
const MOST: usize = 2000;
/// Documents that are kept have at most so many bytes.
const LARGEST: usize = 64 << 10;

/// A revision of a stored workflow.
pub(in crate::app) type Revision = (Uuid, i64);

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Known {
    all: Mutex<All>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct All {
    workflows: HashMap<Revision, Arc<Workflow>>,
    compiled: HashSet<(Revision, u64)>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document of a revision.
    pub(super) fn workflow(&self, revision: Revision) -> Option<Arc<Workflow>> {
        self.lock().workflows.get(&revision).map(Arc::clone)
    }

    /// Keeps the document of a revision, of a text with so many bytes.
    pub(super) fn keep(&self, revision: Revision, workflow: &Arc<Workflow>, size: usize) {
        if size > LARGEST {
            return;
        }
        let mut all = self.lock();
        if all.workflows.len() >= MOST {
            all.workflows.clear();
        }
        all.workflows.insert(revision, Arc::clone(workflow));
    }

    /// Whether a revision was compiled with these values before. Two values that only look the same
    /// cost a number that stays unused, no more.
    pub(super) fn has_compiled(
        &self,
        revision: Revision,
        config: &BTreeMap<String, String>,
        tags: &BTreeMap<String, String>,
    ) -> bool {
        let values = self.hasher.hash_one((config, tags));
        self.lock().compiled.contains(&(revision, values))
    }

    /// Takes note that it was.
    pub(super) fn compiled(
        &self,
        revision: Revision,
        config: &BTreeMap<String, String>,
        tags: &BTreeMap<String, String>,
    ) {
        let values = self.hasher.hash_one((config, tags));
        let mut all = self.lock();
        if all.compiled.len() >= MOST {
            all.compiled.clear();
        }
        all.compiled.insert((revision, values));
    }
}
