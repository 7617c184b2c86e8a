//! What is refused, and with which words.

use serde_json::json;

use super::*;
use crate::kubernetes::job::tests::{container, plan_of};

fn settings() -> config::Kubernetes {
    config::Kubernetes::new(
        "tests",
        "runner:1",
        "10.0.0.1:8444",
        std::path::Path::new("/nowhere"),
    )
}

fn plan(spec: &Value, security_context: Option<Value>) -> Plan {
    let mut container = container("c1", Some("alpine"));
    container.security_context = security_context;
    let mut plan = plan_of(vec![container]);
    plan.pod.spec = spec.as_object().cloned().unwrap_or_default();
    plan
}

fn verdict(spec: &Value, context: Option<Value>, level: Level) -> String {
    match check(&plan(spec, context), &settings(), level) {
        Ok(()) => "allowed".to_owned(),
        Err(denied) => denied.message,
    }
}

#[test]
fn what_gives_power_over_the_node_is_refused_with_path_and_cure() {
    let token = json!([{"serviceAccountToken": {"path": "t"}}]);
    let cases = [
        json!({"hostPID": true}),
        json!({"hostNetwork": true}),
        json!({"hostIPC": true}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        json!({"volumes": [{"name": "v", "nfs": {"server": "s"}}]}),
        json!({"volumes": [{"name": "v", "projected": {"sources": token}}]}),
        json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
        json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
        json!({"securityContext": {"windowsOptions": {}}}),
        json!({"nodeName": "n"}),
        json!({"serviceAccountName": "admin"}),
        json!({"priorityClassName": "system-node-critical"}),
        json!({"priority": 2_000_000_000}),
        json!({"inventedTomorrow": 1}),
        json!({"containers": [{}]}),
        json!({"labels": {"muster.dev/attempt": "x"}}),
        json!({"volumes": [{"name": "v", "secret": {"secretName": "muster-agent-relay"}}]}),
        json!({"volumes": [{"name": "muster-data", "emptyDir": {}}]}),
    ];
    let verdicts: Vec<_> = cases
        .iter()
        .map(|spec| (spec.to_string(), verdict(spec, None, Level::Baseline)))
        .collect();
    assert!(verdicts.iter().all(|(_, verdict)| verdict != "allowed"));
    insta::assert_json_snapshot!(verdicts);
}

#[test]
fn containers_can_not_gain_privileges() {
    let cases = [
        (json!({"privileged": true}), Level::Baseline),
        (
            json!({"capabilities": {"add": ["SYS_ADMIN"]}}),
            Level::Baseline,
        ),
        (
            json!({"capabilities": {"add": ["CHOWN"]}}),
            Level::Restricted,
        ),
        (json!({"procMount": "Unmasked"}), Level::Baseline),
        (json!({"runAsUser": 0}), Level::Restricted),
        (json!({"runAsNonRoot": false}), Level::Restricted),
        (json!({"allowPrivilegeEscalation": true}), Level::Restricted),
        (
            json!({"seccompProfile": {"type": "Unconfined"}}),
            Level::Restricted,
        ),
        (json!({"inventedTomorrow": 1}), Level::Privileged),
    ];
    let verdicts: Vec<_> = cases
        .into_iter()
        .map(|(context, level)| {
            let text = context.to_string();
            (text, verdict(&json!({}), Some(context), level))
        })
        .collect();
    assert!(verdicts.iter().all(|(_, verdict)| verdict != "allowed"));
    insta::assert_json_snapshot!(verdicts);
}

#[test]
fn ordinary_pods_are_allowed() {
    let spec = json!({
        "nodeSelector": {"pool": "tests"},
        "tolerations": [{"key": "tests", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
        "labels": {"team": "web"},
    });
    for level in [Level::Baseline, Level::Restricted] {
        let context = json!({"runAsUser": 1000, "readOnlyRootFilesystem": true});
        assert_eq!(verdict(&spec, Some(context), level), "allowed");
    }
    let root = json!({"runAsUser": 0, "capabilities": {"add": ["CHOWN"]}});
    assert_eq!(verdict(&spec, Some(root), Level::Baseline), "allowed");
    let host = json!({"hostPID": true});
    let all = json!({"privileged": true});
    assert_eq!(verdict(&host, Some(all), Level::Privileged), "allowed");
}

#[test]
fn the_runner_can_not_be_replaced_by_a_mount() {
    for path in [
        "/.muster",
        "/.muster/bin",
        "/x/../.muster",
        "/",
        "//.muster",
        "/./.muster/",
    ] {
        let mut plan = plan(&json!({}), None);
        plan.containers[0].volume_mounts = vec![json!({"name": "v", "mountPath": path})];
        assert!(
            check(&plan, &settings(), Level::Privileged).is_err(),
            "{path}"
        );
    }
}

#[test]
fn the_token_of_another_run_can_not_be_read() {
    let mut plan = plan(&json!({}), None);
    let from = json!({"secretKeyRef": {"name": "muster-1", "key": "token"}});
    plan.containers[0].env_from_cluster = vec![json!({"name": "T", "valueFrom": from})];
    assert!(check(&plan, &settings(), Level::Privileged).is_err());
}

#[test]
fn a_namespace_must_be_one_of_the_agent() {
    let mut plan = plan(&json!({}), None);
    plan.pod.namespace = Some("kube-system".to_owned());
    let denied = check(&plan, &settings(), Level::Privileged).expect_err("it is foreign");
    assert!(
        denied.message.contains("it has tests"),
        "{}",
        denied.message
    );
}

#[test]
fn a_repository_needs_an_image_with_git() {
    let mut git = container("git-1", None);
    git.tool = Some(Tool::Git);
    let plan = plan_of(vec![git]);
    let mut settings = settings();
    assert!(check(&plan, &settings, Level::Baseline).is_ok());
    settings.git_image = None;
    let denied = check(&plan, &settings, Level::Baseline).unwrap_err();
    assert!(denied.message.contains("--git-image"), "{}", denied.message);
}

#[test]
fn a_folder_of_the_plan_is_not_where_the_runner_is() {
    let mut plan = plan_of(vec![container("c1", None)]);
    plan.pod.folders = vec!["/repo".to_owned()];
    assert!(check(&plan, &settings(), Level::Baseline).is_ok());
    plan.pod.folders = vec!["/.muster/bin".to_owned()];
    assert!(check(&plan, &settings(), Level::Baseline).is_err());
}

#[test]
fn claims_of_other_runs_can_not_be_mounted() {
    let volume = |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
    let own = volume("muster-e-cache");
    assert!(verdict(&own, None, Level::Baseline).contains("other runs"));
    assert_eq!(
        verdict(&volume("team-cache"), None, Level::Baseline),
        "allowed"
    );
    let mut plan = plan(&own, None);
    plan.pod
        .claims
        .insert("muster-e-cache".to_owned(), json!({}));
    assert!(check(&plan, &settings(), Level::Baseline).is_ok());
    let copy = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "muster-f-cache"}});
    plan.pod.claims.insert("muster-e-copy".to_owned(), copy);
    assert!(check(&plan, &settings(), Level::Baseline).is_err());
    plan.pod.claims.remove("muster-e-copy");
    plan.pod.claims.insert("team-cache".to_owned(), json!({}));
    assert!(check(&plan, &settings(), Level::Baseline).is_err());
    plan.pod.claims.clear();
    plan.pod.claims_above.insert("muster-e-cache".to_owned());
    assert!(check(&plan, &settings(), Level::Baseline).is_ok());
}
