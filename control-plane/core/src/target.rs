//! Where an execution may run.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Labels for each of whose values there is one execution; [`Target::spread`] makes targets of
    /// them that have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicate: Vec<String>,
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

    /// One target for each combination of values that agents with these labels have of the labels
    /// to replicate over, in the order of the values. Agents that it does not accept, or that lack
    /// one of the labels, do not count.
    pub fn spread<'a>(
        &self,
        agents: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
    ) -> Vec<Self> {
        let values = |labels: &'a BTreeMap<String, String>| -> Option<Vec<&'a String>> {
            let values = self.replicate.iter().map(|label| labels.get(label));
            values.collect()
        };
        let agents = agents.into_iter().filter(|labels| self.accepts(labels));
        let combinations: BTreeSet<Vec<&String>> = agents.filter_map(values).collect();
        let target = |values: Vec<&String>| {
            let own = self.replicate.iter().cloned();
            let own = own.zip(values.into_iter().map(|value| vec![value.clone()]));
            let mut matches = self.matches.clone();
            matches.extend(own);
            Self {
                matches,
                not: self.not.clone(),
                replicate: Vec::new(),
            }
        };
        combinations.into_iter().map(target).collect()
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
            ..Target::default()
        };
        assert!(target.accepts(&labels(&[("zone", "b"), ("gpu", "yes"), ("x", "y")])));
        assert!(!target.accepts(&labels(&[("zone", "c"), ("gpu", "yes")])));
        assert!(!target.accepts(&labels(&[("zone", "a")])));
        assert!(Target::default().accepts(&labels(&[])));
    }

    #[test]
    fn an_unwanted_label_excludes_only_with_its_values() {
        let target = Target {
            not: values(&[("zone", &["a"])]),
            ..Target::default()
        };
        assert!(!target.accepts(&labels(&[("zone", "a")])));
        assert!(target.accepts(&labels(&[("zone", "b")])));
        assert!(target.accepts(&labels(&[])));
    }

    #[test]
    fn there_is_one_target_for_each_combination_that_agents_have() {
        let target = Target {
            not: values(&[("stage", &["old"])]),
            replicate: vec!["zone".to_owned(), "arch".to_owned()],
            ..Target::default()
        };
        let agents = [
            labels(&[("zone", "b"), ("arch", "arm")]),
            labels(&[("zone", "a"), ("arch", "amd"), ("name", "one")]),
            labels(&[("zone", "a"), ("arch", "amd"), ("name", "two")]),
            labels(&[("zone", "c")]),
            labels(&[("zone", "d"), ("arch", "arm"), ("stage", "old")]),
        ];
        let targets = target.spread(&agents);
        let matches: Vec<_> = targets.iter().map(|it| it.matches.clone()).collect();
        assert_eq!(
            matches,
            [
                values(&[("zone", &["a"]), ("arch", &["amd"])]),
                values(&[("zone", &["b"]), ("arch", &["arm"])]),
            ]
        );
        let plain = |it: &Target| it.replicate.is_empty() && it.not == target.not;
        assert!(targets.iter().all(plain));
    }
}
