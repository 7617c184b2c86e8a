//! What is known of stored workflows: their documents, and what they compile to. Revisions never
//! change, so this can not be wrong; what is forgotten is worked out again.

use std::{
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use muster_spec::{
    compile::{Common, Undeclared},
    schema::Workflow,
};
use uuid::Uuid;

use super::NewRun;

/// How much is known at most; all is forgotten at once.
const MOST: usize = 2000;
/// The same of compiled ones, which are larger.
const MOST_COMPILED: usize = 200;
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
    compiled: HashMap<(Revision, u64), Ran>,
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

    /// What came of compiling a revision with these values before: nothing when it was not, or
    /// nothing is kept of it. The inner value is what other executions may have of it.
    pub(super) fn compiled(&self, revision: Revision, new: &NewRun) -> Option<Option<Arc<Common>>> {
        let key = (revision, self.hasher.hash_one((&new.config, &new.tags)));
        let all = self.lock();
        let known = all.compiled.get(&key)?;
        known.is_of(new).then(|| known.common.clone())
    }

    /// Keeps what came of compiling a revision with these values.
    pub(super) fn keep_compiled(
        &self,
        revision: Revision,
        workflow: &Workflow,
        new: &NewRun,
        common: Option<&Arc<Common>>,
    ) {
        let key = (revision, self.hasher.hash_one((&new.config, &new.tags)));
        let sensitive = workflow.spec.config.values().any(|it| it.sensitive);
        let values = new.config.iter().chain(&new.tags);
        let size: usize = values.map(|(name, value)| name.len() + value.len()).sum();
        if size > LARGEST {
            return;
        }
        let known = Ran {
            config: new.config.clone(),
            tags: new.tags.clone(),
            undeclared: new.undeclared,
            // Secrets are not kept longer than they are needed.
            common: common.filter(|_| !sensitive).map(Arc::clone),
        };
        let mut all = self.lock();
        if all.compiled.len() >= MOST_COMPILED {
            all.compiled.clear();
        }
        all.compiled.insert(key, known);
    }
}

/// A workflow that was compiled, and with which values.
#[derive(Debug)]
struct Ran {
    config: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    undeclared: Undeclared,
    common: Option<Arc<Common>>,
}

impl Ran {
    fn is_of(&self, new: &NewRun) -> bool {
        self.config == new.config && self.tags == new.tags && self.undeclared == new.undeclared
    }
}
