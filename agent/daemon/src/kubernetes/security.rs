//! Security settings of pods and containers: careful defaults, and what a workflow gives wins.
//! Whether it may is checked in [`super::policy`].

use serde_json::{Map, Value, json};

/// What holds for the pods of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Every container is set up for the `restricted` standard.
    Restricted,
    /// The `baseline` standard.
    Baseline,
    /// No standard.
    Privileged,
}

/// User and group of the conductor.
const RUNNER_USER: u32 = 65_532;
/// Group of the shared volumes.
const SHARED_GROUP: u32 = 1001;

/// Settings of a container that needs nothing.
pub(super) fn conductor() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": RUNNER_USER,
        "runAsGroup": RUNNER_USER,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// Settings of a container of the plan.
pub(super) fn container(given: Option<&Value>, level: Level) -> Value {
    let given = given
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let mut settings = Map::new();
    if !needs_escalation(&given) {
        settings.insert("allowPrivilegeEscalation".to_owned(), json!(false));
    }
    if level == Level::Restricted {
        settings.insert("runAsNonRoot".to_owned(), json!(true));
        settings.insert("capabilities".to_owned(), json!({"drop": ["ALL"]}));
        settings.insert(
            "seccompProfile".to_owned(),
            json!({"type": "RuntimeDefault"}),
        );
    }
    for (field, value) in given {
        if field == "capabilities" && level == Level::Restricted {
            let add = value["add"].as_array().cloned().unwrap_or_default();
            settings.insert(field, json!({"drop": ["ALL"], "add": add}));
        } else {
            settings.insert(field, number(value));
        }
    }
    Value::Object(settings)
}

/// Kubernetes refuses such a container when it may not gain privileges.
fn needs_escalation(given: &Map<String, Value>) -> bool {
    let adds = given.get("capabilities").map(|c| &c["add"]);
    given.get("privileged") == Some(&Value::Bool(true))
        || adds
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|name| matches!(name.as_str(), Some("SYS_ADMIN" | "CAP_SYS_ADMIN")))
}

/// A user may be given as text.
fn number(value: Value) -> Value {
    let parsed = value.as_str().and_then(|text| text.parse::<i64>().ok());
    parsed.map_or(value, Value::from)
}

/// Settings of the pod.
pub(super) fn pod(given: Option<&Value>, own_group: bool) -> Value {
    let mut settings = Map::new();
    if own_group {
        settings.insert("fsGroup".to_owned(), json!(SHARED_GROUP));
    }
    settings.insert(
        "seccompProfile".to_owned(),
        json!({"type": "RuntimeDefault"}),
    );
    for (field, value) in given.and_then(Value::as_object).into_iter().flatten() {
        settings.insert(field.clone(), number(value.clone()));
    }
    Value::Object(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_workflow_gives_wins() {
        let given = json!({"runAsUser": "1000", "allowPrivilegeEscalation": true});
        let settings = container(Some(&given), Level::Baseline);
        assert_eq!(
            settings,
            json!({"allowPrivilegeEscalation": true, "runAsUser": 1000})
        );
    }

    #[test]
    fn a_restricted_container_drops_all_and_keeps_what_it_may_add() {
        let given = json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}});
        let settings = container(Some(&given), Level::Restricted);
        assert_eq!(
            settings["capabilities"],
            json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})
        );
        assert_eq!(settings["runAsNonRoot"], json!(true));
    }

    #[test]
    fn a_privileged_container_is_not_made_impossible() {
        let settings = container(Some(&json!({"privileged": true})), Level::Privileged);
        assert_eq!(settings, json!({"privileged": true}));
    }
}
