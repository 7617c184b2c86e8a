//! Children of an execution that is run again for what failed: those that passed are taken over, and the
//! others are started as reruns of theirs.

use muster_core::execution::State;
use muster_storage::execution::{Former, Origin, Role};
use sha2::{Digest as _, Sha256};

use super::{App, Error, NewChild, Parent, StartChildren};

/// What the children of one call were before.
#[derive(Debug, Default)]
pub(super) struct Formers(Vec<Former>);

impl App {
    /// The former children for those that are to be started; none when the parent is no rerun of what
    /// failed.
    pub(super) async fn formers(
        &self,
        parent: &Parent,
        start: &StartChildren,
        new: &[&NewChild],
    ) -> Result<Formers, Error> {
        let Some(rerun) = parent.execution.rerun.as_ref().filter(|rerun| rerun.failed) else {
            return Ok(Formers::default());
        };
        if new.is_empty() {
            return Ok(Formers::default());
        }
        let executions = self.store.executions(parent.execution.project);
        let indices: Vec<u32> = new.iter().map(|one| one.index).collect();
        let found = executions.former_children(rerun.execution, &start.step, &indices);
        Ok(Formers(found.await?))
    }
}

impl Formers {
    /// What a child was before: in the same place, and given the same. Services are begun anew, as
    /// nothing else is there for those that use them.
    pub(super) fn of(&self, origin: &Origin) -> Option<&Former> {
        if origin.role == Role::Service {
            return None;
        }
        self.0.iter().find(|former| former.origin.is_same(origin))
    }
}

/// Whether a former child stands for a new one: it has passed, and what it has put aside for its parent is
/// there.
pub(super) fn stands_for(former: &Former, instance: &NewChild) -> bool {
    let files = instance.given.send.is_empty() || former.execution.artifacts_delete_time.is_none();
    former.execution.state() == State::Passed && files
}

/// A digest of what an instance is given: which part of the whole it is, or which workflow. Values for the
/// workflow's parameters are left out: they may be secret, and come from the same manifest.
pub(super) fn inputs(instance: &NewChild) -> String {
    let variables = serde_json::to_vec(&instance.variables).unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(instance.workflow.as_bytes())
        .chain_update([0])
        .chain_update(variables)
        .finalize();
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
