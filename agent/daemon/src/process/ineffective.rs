//! Settings of a plan that have no effect on processes of this machine: each is named, never
//! passed over in silence.

use muster_spec::plan::{Container, Plan, Tool};

/// One sentence for each kind of setting that the plan uses and that has no effect.
pub(super) fn settings(plan: &Plan) -> Vec<String> {
    let any = |uses: fn(&Container) -> bool| plan.containers.iter().any(uses);
    let pod = &plan.pod;
    let found = [
        ("image", any(|container| container.image.is_some())),
        (
            "imagePullPolicy",
            any(|container| container.image_pull_policy.is_some()),
        ),
        (
            "resources",
            any(|container| {
                !container.resources.limits.is_empty() || !container.resources.requests.is_empty()
            }),
        ),
        (
            "securityContext",
            any(|container| {
                container
                    .security_context
                    .as_ref()
                    .is_some_and(is_ineffective)
            }) || pod.spec.contains_key("securityContext"),
        ),
        (
            "volumeMounts",
            any(|container| !container.volume_mounts.is_empty()),
        ),
        (
            "valueFrom",
            any(|container| {
                container.tool != Some(Tool::Values) && !container.env_from_cluster.is_empty()
            }),
        ),
        (
            "…From` of `content",
            any(|container| container.tool == Some(Tool::Values)),
        ),
        ("envFrom", any(|container| !container.env_from.is_empty())),
        ("pvcs", !pod.claims.is_empty()),
        ("namespace", pod.namespace.is_some()),
        (
            "activeDeadlineSeconds",
            pod.active_deadline_seconds.is_some(),
        ),
    ];
    let mut warnings: Vec<String> = found
        .into_iter()
        .filter(|(_, used)| *used)
        .map(|(name, _)| sentence(name))
        .collect();
    let rest = pod.spec.keys().filter(|key| *key != "securityContext");
    warnings.extend(rest.map(|key| sentence(&format!("pod.{key}"))));
    warnings
}

/// Whether a security context asks for more than a user and a group, which sandboxes can have.
fn is_ineffective(context: &serde_json::Value) -> bool {
    let fields = context.as_object().into_iter().flatten();
    let mut names = fields.map(|(name, _)| name.as_str());
    names.any(|name| !matches!(name, "runAsUser" | "runAsGroup"))
}

fn sentence(name: &str) -> String {
    format!("`{name}` has no effect here: steps run as processes of the agent's machine")
}

#[cfg(test)]
mod tests {
    use muster_spec::plan::{PLAN_VERSION, Pod, Resources};

    use super::*;

    fn plan(container: Container) -> Plan {
        Plan {
            version: PLAN_VERSION,
            context: [].into(),
            env: Vec::new(),
            containers: vec![container],
            pod: Pod::default(),
            credentials: std::collections::BTreeSet::new(),
            masked: std::collections::BTreeSet::new(),
            service: None,
            steps: Vec::new(),
        }
    }

    fn container() -> Container {
        Container {
            name: "step-1".to_owned(),
            image: None,
            tool: None,
            image_pull_policy: None,
            needs_image_config: false,
            env_from_cluster: Vec::new(),
            env_from: Vec::new(),
            resources: Resources::default(),
            security_context: None,
            volume_mounts: Vec::new(),
        }
    }

    #[test]
    fn a_plain_plan_is_not_warned_of() {
        assert!(settings(&plan(container())).is_empty());
    }

    #[test]
    fn each_setting_without_effect_is_named_once() {
        let mut plan = plan(Container {
            image: Some("alpine".to_owned()),
            security_context: Some(serde_json::json!({"privileged": true})),
            ..container()
        });
        plan.containers.push(plan.containers[0].clone());
        let selector = serde_json::json!({"disk": "ssd"});
        plan.pod.spec.insert("nodeSelector".to_owned(), selector);
        let warnings = settings(&plan);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        for (warning, name) in warnings
            .iter()
            .zip(["image", "securityContext", "nodeSelector"])
        {
            assert!(warning.contains(name), "{warning}");
        }
    }
}
