//! The environment of a process: the container's, then the step's, with `$(NAME)` references
//! as Kubernetes resolves them.

use std::ffi::{OsStr, OsString};

use muster_proto::runner::v1::SECRET_PREFIX;

use super::ADDRESS;
use crate::reference;

/// Variables of this program itself, which no step sees; but see [`ADDRESS`].
const OWN: &str = "MUSTER_";
/// What a container without PATH has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables, each name once.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment(Vec<(OsString, OsString)>);

/// Values of whole Secrets: the agent lets the pod have them a second time, under names of our own, as
/// nothing else tells them from what the image and the cluster have set.
pub(super) fn secrets() -> Vec<String> {
    let variables = std::env::vars_os();
    let secret = variables.filter(|(name, _)| name.to_string_lossy().starts_with(SECRET_PREFIX));
    secret
        .filter_map(|(_, value)| value.into_string().ok())
        .collect()
}

impl Environment {
    /// What image and pod gave, without what is only for this program.
    pub(super) fn of_container() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            if name == ADDRESS || !name.to_string_lossy().starts_with(OWN) {
                environment.set(name, value);
            }
        }
        if environment.get(OsStr::new("PATH")).is_none() {
            environment.set("PATH".into(), PATH.into());
        }
        environment.set("CI".into(), "1".into());
        environment
    }

    /// This one with `NAME=value` lines above it; later ones win, and see the earlier ones.
    pub(super) fn with(&self, lines: &[String]) -> Self {
        let mut environment = self.clone();
        for line in lines {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let value = environment.expand(value);
            environment.set(name.into(), value.into());
        }
        environment
    }

    pub(super) fn get(&self, name: &OsStr) -> Option<&OsStr> {
        let found = self.0.iter().find(|variable| variable.0 == name);
        found.map(|variable| variable.1.as_os_str())
    }

    pub(super) fn set(&mut self, name: OsString, value: OsString) {
        match self.0.iter_mut().find(|variable| variable.0 == name) {
            Some(variable) => variable.1 = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.0.iter()
    }

    /// `NAME=value` lines of what is UTF-8.
    pub(super) fn lines(&self) -> Vec<String> {
        let texts = self.0.iter().filter_map(|(name, value)| {
            let (name, value) = (name.to_str()?, value.to_str()?);
            Some(format!("{name}={value}"))
        });
        texts.collect()
    }

    /// Resolves `$(NAME)` in a text.
    pub(super) fn expand(&self, text: &str) -> String {
        reference::expand(text, |name| self.get(OsStr::new(name))?.to_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_kubernetes_does() {
        let lines = ["A=1".to_owned(), "B=$(A)2".to_owned(), "A=3".to_owned()];
        let environment = Environment::default().with(&lines);
        for (text, expected) in [
            ("$(B)-$(A)", "12-3"),
            ("$(NONE) $$(A) $$ $A ${A} $", "$(NONE) $(A) $ $A ${A} $"),
            ("$(A", "$(A"),
            ("plain", "plain"),
            ("$(A)$(A)ü", "33ü"),
        ] {
            assert_eq!(environment.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn later_lines_win_and_keep_equal_signs() {
        let lines = ["A=1".to_owned(), "A=x=y".to_owned(), "EMPTY".to_owned()];
        let environment = Environment::default().with(&lines);
        assert_eq!(environment.lines(), ["A=x=y", "EMPTY="]);
    }

    #[test]
    fn container_has_a_path_and_ci_and_nothing_of_ours() {
        let lines = Environment::of_container().lines();
        assert!(lines.contains(&"CI=1".to_owned()));
        assert!(lines.iter().any(|line| line.starts_with("PATH=")));
        assert!(!lines.iter().any(|line| line.starts_with("MUSTER_")));
    }
}
