//! `secret(name, key)`: only the cluster can resolve it, so a text of a step comes to name a
//! variable, which is put into the container of that step and into no other.

use serde_json::json;

use super::credential;
use crate::expression::{Template, Value, text};
use crate::problem::{Problem, Problems};
use crate::schema::{Container, EnvValue, Text};

/// Name of the function.
pub(super) const FUNCTION: &str = "secret";

/// What the variable's name begins with.
const PREFIX: &str = "SECRET_";
/// The same for a value that is a template of its own, which the conductor resolves.
pub(crate) const COMPUTED: &str = "COMPUTED_SECRET_";
/// Longest name of a Secret, and of a key in it; a rule of Kubernetes.
const LONGEST: usize = 253;

/// Where secrets and credentials may be used, for people.
pub(super) const PLACES: &str = "can stand in `shell`, `command`, `args`, `env`, `workingDir`, the \
    content of files and the credentials of `content.git`";

/// Whether a text asks for a secret or a credential.
pub(super) fn is_in(text: &str) -> bool {
    [FUNCTION, credential::FUNCTION].into_iter().any(|name| {
        text.contains(name)
            && Template::parse(text).is_ok_and(|template| {
                let mut expressions = template.expressions();
                expressions.any(|expression| expression.functions().contains(name))
            })
    })
}

/// The values of Secrets that the texts of one process name.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Names that are taken.
    taken: Vec<String>,
    /// References with the names of their variables.
    found: Vec<(Reference, String)>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    name: String,
    key: String,
    computed: bool,
}

impl Reference {
    fn new(arguments: Option<&[Value]>) -> Result<Self, &'static str> {
        let Some(arguments) = arguments else {
            return Err("the arguments of `secret` must be known when the execution is made");
        };
        let (name, key) = match arguments {
            [name, key] | [name, key, Value::Bool(_)] => (text(name), text(key)),
            [_, _, _] => return Err("the third argument of `secret` is `true` or `false`"),
            _ => return Err("`secret` takes the name of a Secret and a key in it"),
        };
        let is_name = |text: &str, more: &[u8]| {
            let plain = |c: u8| c.is_ascii_alphanumeric() || more.contains(&c);
            !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)
        };
        if !is_name(&name, b"-.") || name.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err("the first argument of `secret` is no name of a Secret");
        }
        if !is_name(&key, b"-._") {
            return Err("the second argument of `secret` is no key of a Secret");
        }
        Ok(Self {
            name,
            key,
            computed: arguments.get(2) == Some(&Value::Bool(true)),
        })
    }

    /// What the cluster is asked for; a missing key gives an empty value.
    pub(super) fn from(&self) -> Value {
        let reference = json!({"name": self.name, "key": self.key, "optional": true});
        json!({"secretKeyRef": reference})
    }

    /// What the name of a variable for it begins with, where that is not made of its name.
    pub(super) fn prefix(&self) -> &'static str {
        if self.computed { COMPUTED } else { "VALUE_" }
    }
}

impl Secrets {
    /// For a process with these variables of its own.
    pub(super) fn beside<'a>(taken: impl IntoIterator<Item = &'a String>) -> Self {
        Self {
            taken: taken.into_iter().cloned().collect(),
            found: Vec::new(),
        }
    }

    /// The text with variables in place of the calls.
    pub(super) fn replace(&mut self, text: &Text, problems: &mut Problems) -> String {
        replace(text, problems, &mut |reference| self.name(reference))
    }

    /// The same for all texts of a container's settings.
    pub(super) fn replace_all(&mut self, settings: &mut Container, problems: &mut Problems) {
        let lists = [&mut settings.command, &mut settings.args];
        let lists = lists.into_iter().flatten().flatten();
        let values = settings.env.iter_mut();
        let values = values.filter_map(|variable| match &mut variable.value {
            EnvValue::Plain(text) => Some(text),
            EnvValue::From(_) => None,
        });
        for text in lists.chain(values).chain(&mut settings.working_dir) {
            text.text = self.replace(text, problems);
        }
    }

    fn name(&mut self, reference: Reference) -> String {
        if let Some((_, name)) = self.found.iter().find(|(known, _)| *known == reference) {
            return name.clone();
        }
        let prefix = if reference.computed { COMPUTED } else { PREFIX };
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        };
        let words = format!("{}_{}", reference.name, reference.key);
        let base: String = prefix.chars().chain(words.chars().map(plain)).collect();
        let mut name = base.clone();
        let mut number = 1;
        while self.taken.contains(&name) {
            number += 1;
            name = format!("{base}_{number}");
        }
        self.taken.push(name.clone());
        self.found.push((reference, name.clone()));
        name
    }

    /// The variables for the cluster, in the order of their names.
    pub(super) fn into_variables(mut self) -> Vec<Value> {
        self.found.sort_by(|left, right| left.1.cmp(&right.1));
        let variables = self.found.into_iter();
        variables
            .map(|(reference, name)| json!({"name": name, "valueFrom": reference.from()}))
            .collect()
    }
}

/// The text with variables of these names in place of the calls.
pub(super) fn replace(
    text: &Text,
    problems: &mut Problems,
    name_of: &mut dyn FnMut(Reference) -> String,
) -> String {
    if !text.text.contains(FUNCTION) {
        return text.text.clone();
    }
    let Ok(mut template) = Template::parse(&text.text) else {
        return text.text.clone();
    };
    let mut found = false;
    template.replace_calls(FUNCTION, &mut |arguments| {
        found = true;
        match Reference::new(arguments.as_deref()) {
            Ok(reference) => name_of(reference),
            Err(message) => {
                let cure = "write for example `secret(\"database\", \"password\")`";
                problems.push(Problem::new(&text.place, message).with_cure(cure));
                String::new()
            }
        }
    });
    match found {
        true => template.print(),
        false => text.text.clone(),
    }
}
