//! Where an execution may run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels that an agent must have and must not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Labels that an agent must have, all of them, with one of the values.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub matches: BTreeMap<String, Vec<String>>,
    /// Labels that an agent must not have with any of the values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not: BTreeMap<String, Vec<String>>,
}

impl Target {
    /// Whether an agent with these labels may run it.
    #[must_use]
    pub fn accepts(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, values): (&String, &Vec<String>)| {
            labels.get(key).is_some_and(|value| values.contains(value))
        };
        self.matches.iter().all(has) && !self.not.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn values(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        pairs
            .iter()
            .map(|(key, values)| {
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                ((*key).to_owned(), values)
            })
            .collect()
    }

    #[test]
    fn every_matched_label_must_have_one_of_its_values() {
        let target = Target {
            matches: values(&[("zone", &["a", "b"]), ("gpu", &["yes"])]),
            not: BTreeMap::new(),
        };
        assert!(target.accepts(&labels(&[("zone", "b"), ("gpu", "yes"), ("x", "y")])));
        assert!(!target.accepts(&labels(&[("zone", "c"), ("gpu", "yes")])));
        assert!(!target.accepts(&labels(&[("zone", "a")])));
        assert!(Target::default().accepts(&labels(&[])));
    }

    #[test]
    fn an_unwanted_label_excludes_only_with_its_values() {
        let target = Target {
            matches: BTreeMap::new(),
            not: values(&[("zone", &["a"])]),
        };
        assert!(!target.accepts(&labels(&[("zone", "a")])));
        assert!(target.accepts(&labels(&[("zone", "b")])));
        assert!(target.accepts(&labels(&[])));
    }
}
