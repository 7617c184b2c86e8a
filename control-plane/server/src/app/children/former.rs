//! Children of an execution that is run again for what failed: those that passed are taken over, and the
//! others are started as reruns of theirs.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::execution::State;
use muster_storage::execution::{Former, Origin, Role};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{App, Error, NewChild, Parent, StartChildren};
use crate::link::ingest::hexadecimal;

/// What of a parent stands in what it gives its children.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// Its id.
    pub(super) id: String,
    /// Its sensitive values.
    pub(super) masked: &'a BTreeSet<String>,
}

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
    /// What a child was before: in the same place, and given the same. With another config it may be
    /// known again if it did not pass, as what it failed is run with the new one then. Services are begun
    /// anew, as nothing else is there for those that use them.
    pub(super) fn of(&self, origin: &Origin) -> Option<&Former> {
        if origin.role == Role::Service {
            return None;
        }
        let is_it = |former: &&Former| {
            let passed = former.execution.state() == State::Passed;
            former.origin.is_same(origin) || !passed && former.origin.is_again(origin)
        };
        self.0.iter().find(is_it)
    }
}

/// Whether a former child stands for a new one: it has passed, and what it has put aside for its parent is
/// there.
pub(super) fn stands_for(former: &Former, instance: &NewChild) -> bool {
    let files = instance.given.send.is_empty() || former.execution.artifacts_delete_time.is_none();
    former.execution.state() == State::Passed && files
}

/// A digest of what an instance is given: which part of the whole it is, or which entry of a suite and
/// which workflow; behind a dot one of its config. Values that have a sensitive one of the parent in them
/// are left out. Addresses of files differ in each execution by its id, which is left out too.
pub(super) fn inputs(start: &StartChildren, instance: &NewChild, parent: &Given<'_>) -> String {
    let part = json!([
        start.operation,
        start.item,
        instance.workflow,
        instance.variables
    ]);
    if instance.config.is_empty() {
        return digest(&part);
    }
    let is_masked = |value: &str| {
        let mut masked = parent.masked.iter().filter(|masked| !masked.is_empty());
        masked.any(|masked| value.contains(masked.as_str()))
    };
    let config: BTreeMap<&str, Option<String>> = instance
        .config
        .iter()
        .map(|(name, value)| {
            let told = (!is_masked(value)).then(|| value.replace(&parent.id, ""));
            (name.as_str(), told)
        })
        .collect();
    format!("{}.{}", digest(&part), digest(&json!(config)))
}

fn digest(value: &Value) -> String {
    hexadecimal(&Sha256::digest(value.to_string().as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(operation: usize, item: usize) -> StartChildren {
        StartChildren {
            group: "s1".to_owned(),
            step: "s1".to_owned(),
            operation,
            item,
            variables: serde_json::Map::new(),
            instances: Vec::new(),
        }
    }

    fn child(workflow: &str, index: u32, config: &[(&str, &str)]) -> NewChild {
        let variables = json!({"index": index, "matrix": {"os": "linux"}});
        NewChild {
            index,
            variables: variables.as_object().cloned().unwrap_or_default(),
            description: "about 2m10s".to_owned(),
            given: muster_spec::plan::Given::default(),
            workflow: workflow.to_owned(),
            config: config
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn what_is_given_and_by_which_entry_makes_the_digest() {
        let masked = BTreeSet::from([String::new(), "s3cret".to_owned()]);
        let of = |id: &str, start: &StartChildren, child: &NewChild| {
            let parent = Given {
                id: id.to_owned(),
                masked: &masked,
            };
            inputs(start, child, &parent)
        };
        let given = [("env", "east"), ("key", "a-s3cret"), ("t", "muster:one/f")];
        let first = of("one", &start(0, 1), &child("shop", 2, &given));
        // In the rerun: another id, and another secret that is not noted.
        let given = [("env", "east"), ("key", "s3cret-b"), ("t", "muster:two/f")];
        assert_eq!(of("two", &start(0, 1), &child("shop", 2, &given)), first);
        let place = |digest: &str| digest.split('.').next().map(str::to_owned);
        let given = [("env", "west"), ("key", "a-s3cret"), ("t", "muster:one/f")];
        let other = of("one", &start(0, 1), &child("shop", 2, &given));
        assert!(other != first && place(&other) == place(&first), "{other}");
        let less = of("one", &start(0, 1), &child("shop", 2, &given[1..]));
        assert_ne!(less, other, "a name is missing");

        let plain = of("one", &start(0, 0), &child("shop", 2, &[]));
        for (what, start, child) in [
            ("entry", start(0, 1), child("shop", 2, &[])),
            ("operation", start(1, 0), child("shop", 2, &[])),
            ("workflow", start(0, 0), child("cart", 2, &[])),
            ("index", start(0, 0), child("shop", 3, &[])),
        ] {
            assert_ne!(of("one", &start, &child), plain, "{what}");
        }
        let described = NewChild {
            description: "about 3m".to_owned(),
            ..child("shop", 2, &[])
        };
        assert_eq!(of("one", &start(0, 0), &described), plain);
        let mut matrix = child("shop", 2, &[]);
        matrix
            .variables
            .insert("matrix".to_owned(), json!({"os": "mac"}));
        assert_ne!(of("one", &start(0, 0), &matrix), plain);
    }
}
