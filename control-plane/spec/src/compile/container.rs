//! Which steps share a container: those that the kubelet need not tell apart.

use std::sync::LazyLock;

use regex::Regex;

use crate::expression::Value;
use crate::plan::{self, Resources, Tool};
use crate::problem::{Problem, Problems};
use crate::schema::{Container, Text};

use super::MAX_CONTAINERS;
use super::environment::Environment;

/// What makes a container a different one.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    tool: Option<Tool>,
    image: Option<String>,
    image_pull_policy: Option<String>,
    env_from_cluster: Vec<Value>,
    env_from: Vec<Value>,
    resources: Resources,
    security_context: Option<Value>,
    volume_mounts: Vec<Value>,
    /// Steps of the `after` list outlive the containers of the others.
    after: bool,
    /// The step that has it for itself.
    owner: Option<String>,
}

/// The containers of a plan as they are found to be needed.
#[derive(Debug, Default)]
pub(super) struct Containers {
    keys: Vec<Key>,
    containers: Vec<plan::Container>,
}

/// Who asks for a container.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    /// It is for a step of the `after` list.
    pub(super) after: bool,
    /// The step that wants it for itself.
    pub(super) owner: Option<String>,
}

impl Containers {
    /// The container for these settings, made when there is none yet.
    pub(super) fn index(
        &mut self,
        settings: &Container,
        environment: &Environment,
        demand: &Demand,
        problems: &mut Problems,
    ) -> usize {
        let key = key(settings, environment, demand, problems);
        self.make(key, settings, problems)
    }

    /// The container with a program of the agent's own, beside those of the steps.
    pub(super) fn tool(
        &mut self,
        tool: Tool,
        settings: &Container,
        after: bool,
        problems: &mut Problems,
    ) -> usize {
        let settings = Container {
            limits: settings.limits.clone(),
            requests: settings.requests.clone(),
            security_context: settings.security_context.clone(),
            volume_mounts: match tool {
                Tool::Git => settings.volume_mounts.clone(),
                Tool::Values => Vec::new(),
            },
            ..Container::default()
        };
        let demand = Demand { after, owner: None };
        let key = Key {
            tool: Some(tool),
            ..key(&settings, &Environment::default(), &demand, problems)
        };
        self.make(key, &settings, problems)
    }

    /// Puts a value that the cluster resolves into the container for such values; gives its
    /// index and the variable's name.
    pub(super) fn value(
        &mut self,
        from: &Value,
        prefix: &str,
        after: bool,
        problems: &mut Problems,
    ) -> (usize, String) {
        let index = self.tool(Tool::Values, &Container::default(), after, problems);
        let Some(container) = self.containers.get_mut(index) else {
            return (index, String::new());
        };
        let known = |variable: &&Value| {
            let name = variable.get("name").and_then(Value::as_str);
            variable.get("valueFrom") == Some(from)
                && name.is_some_and(|name| name.starts_with(prefix))
        };
        if let Some(name) = container.env_from_cluster.iter().find(known) {
            let name = name.get("name").and_then(Value::as_str).unwrap_or_default();
            return (index, name.to_owned());
        }
        let name = format!("{prefix}{}", container.env_from_cluster.len() + 1);
        let variable = serde_json::json!({"name": name, "valueFrom": from});
        container.env_from_cluster.push(variable);
        (index, name)
    }

    fn make(&mut self, key: Key, settings: &Container, problems: &mut Problems) -> usize {
        if let Some(index) = self.keys.iter().position(|known| *known == key) {
            return index;
        }
        let index = self.keys.len();
        if index >= MAX_CONTAINERS {
            let place = settings.image.as_ref().map(|image| (*image.place).clone());
            let message = format!("the steps need more than {MAX_CONTAINERS} containers");
            let cure = "give them the same image, resources and secrets, or less isolation";
            problems.push(Problem::new(&place.unwrap_or_default(), message).with_cure(cure));
            return 0;
        }
        self.containers.push(plan::Container {
            name: match key.tool {
                None => format!("step-{}", index + 1),
                Some(Tool::Git) => format!("git-{}", index + 1),
                Some(Tool::Values) => format!("values-{}", index + 1),
            },
            image: key.image.clone(),
            tool: key.tool,
            image_pull_policy: key.image_pull_policy.clone(),
            needs_image_config: false,
            env_from_cluster: key.env_from_cluster.clone(),
            env_from: key.env_from.clone(),
            resources: key.resources.clone(),
            security_context: key.security_context.clone(),
            volume_mounts: key.volume_mounts.clone(),
        });
        self.keys.push(key);
        index
    }

    /// The container whose files these settings mean, if any step has made it.
    pub(super) fn find(
        &self,
        settings: &Container,
        environment: &Environment,
        after: bool,
    ) -> Option<usize> {
        let mut ignored = Problems::default();
        let demand = Demand { after, owner: None };
        let mut wanted = key(settings, environment, &demand, &mut ignored);
        let same = |known: &Key, wanted: &Key| {
            Key {
                owner: None,
                ..known.clone()
            } == *wanted
        };
        let position = |wanted: &Key| self.keys.iter().rposition(|known| same(known, wanted));
        position(&wanted).or_else(|| {
            wanted.after = false;
            position(&wanted)
        })
    }

    /// Notes that a step relies on the image's ENTRYPOINT or CMD.
    pub(super) fn need_image_config(&mut self, index: usize) {
        if let Some(container) = self.containers.get_mut(index) {
            container.needs_image_config = true;
        }
    }

    pub(super) fn into_inner(self) -> Vec<plan::Container> {
        self.containers
    }
}

fn key(
    settings: &Container,
    environment: &Environment,
    demand: &Demand,
    problems: &mut Problems,
) -> Key {
    let values =
        |list: &[crate::schema::Json]| list.iter().map(|json| json.value.clone()).collect();
    Key {
        tool: None,
        image: settings
            .image
            .as_ref()
            .and_then(|text| image(text, problems)),
        image_pull_policy: settings
            .image_pull_policy
            .as_ref()
            .and_then(|text| pull_policy(text, problems)),
        env_from_cluster: environment.cluster.clone(),
        env_from: values(&settings.env_from),
        resources: Resources {
            limits: quantities(&settings.limits, problems),
            requests: quantities(&settings.requests, problems),
        },
        security_context: settings.security_context.as_ref().map(|json| {
            let mut value = json.value.clone();
            super::pod::whole_numbers(&mut value);
            value
        }),
        volume_mounts: values(&settings.volume_mounts),
        after: demand.after,
        owner: demand.owner.clone(),
    }
}

/// An image; an empty one, as templates give it, is none.
fn image(text: &Text, problems: &mut Problems) -> Option<String> {
    let image = text.text.trim();
    if image.is_empty() {
        return None;
    }
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if image.contains(odd) || image.len() > 1024 {
        let short: String = image.chars().take(80).collect();
        let message = format!("`{}` is not a reference of an image", short.escape_debug());
        problems.push(Problem::new(&text.place, message));
    }
    Some(image.to_owned())
}

fn pull_policy(text: &Text, problems: &mut Problems) -> Option<String> {
    let allowed = ["Always", "IfNotPresent", "Never"];
    if text.text.is_empty() {
        return None;
    }
    if !allowed.contains(&text.text.as_str()) {
        let short: String = text.text.chars().take(60).collect();
        let mut problem = Problem::new(&text.place, format!("unknown pull policy `{short}`"));
        problem.cure = crate::suggest::advice(&text.text, &allowed);
        problems.push(problem);
    }
    Some(text.text.clone())
}

#[expect(
    clippy::unwrap_used,
    reason = "a constant pattern, compiled by the tests"
)]
static QUANTITY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$",
    )
    .unwrap()
});

fn quantities(
    texts: &indexmap::IndexMap<String, Text>,
    problems: &mut Problems,
) -> std::collections::BTreeMap<String, String> {
    let mut quantities = std::collections::BTreeMap::new();
    for (name, text) in texts {
        let quantity = text.text.trim();
        if quantity.len() > 40 || !QUANTITY.is_match(quantity) {
            let short: String = quantity.chars().take(60).collect();
            let message = format!("`{short}` is not a quantity");
            let cure = "write for example `250m`, `2`, `64Mi` or `1Gi`";
            problems.push(Problem::new(&text.place, message).with_cure(cure));
        }
        quantities.insert(name.clone(), quantity.to_owned());
    }
    quantities
}
