//! Jobs as they are sent to the cluster.

use k8s_openapi::api::batch::v1::Job;
use muster_spec::plan::{PLAN_VERSION, Pod};

use super::*;

pub(in crate::kubernetes) fn container(name: &str, image: Option<&str>) -> Container {
    Container {
        name: name.to_owned(),
        image: image.map(str::to_owned),
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

pub(in crate::kubernetes) fn plan_of(containers: Vec<Container>) -> Plan {
    Plan {
        version: PLAN_VERSION,
        context: BTreeMap::new(),
        env: Vec::new(),
        containers,
        pod: Pod::default(),
        credentials: std::collections::BTreeSet::new(),
        masked: std::collections::BTreeSet::new(),
        service: None,
        steps: Vec::new(),
    }
}

fn job(plan: &Plan, level: Level) -> Value {
    let mut settings = config::Kubernetes::new(
        "tests",
        "runner:1",
        "10.0.0.1:8444",
        std::path::Path::new("/nowhere"),
    );
    settings.image_pull_secrets = vec!["mirror".to_owned()];
    let blueprint = Blueprint {
        attempt: "0198b7a2-0000-7000-8000-000000000001"
            .parse()
            .expect("an id"),
        epoch: 2,
        execution: "0198b7a2-0000-7000-8000-000000000002",
        project: "default",
        display_name: "smoke-7",
        plan,
        settings: &settings,
        agent: "0198b7a2-0000-7000-8000-000000000003"
            .parse()
            .expect("an id"),
        certificate: "PEM",
        level,
    };
    blueprint.job().expect("the plan is good")
}

#[test]
fn the_smallest_plan() {
    let plan = plan_of(vec![container("c1", None)]);
    insta::assert_json_snapshot!(job(&plan, Level::Baseline));
}

#[test]
fn a_plan_with_everything() {
    let mut first = container("web", Some("example.com/web:1"));
    first.image_pull_policy = Some("Always".to_owned());
    first
        .resources
        .requests
        .insert("cpu".to_owned(), "2".to_owned());
    first
        .resources
        .limits
        .insert("memory".to_owned(), "1Gi".to_owned());
    first.security_context = Some(json!({"runAsUser": 1000, "readOnlyRootFilesystem": true}));
    let key = json!({"secretKeyRef": {"name": "db", "key": "password", "optional": true}});
    first.env_from_cluster = vec![json!({"name": "PASSWORD", "valueFrom": key})];
    first.env_from = vec![
        json!({"secretRef": {"name": "login", "optional": true}}),
        json!({"configMapRef": {"name": "settings"}}),
        json!({"prefix": "DB_", "secretRef": {"name": "db"}}),
    ];
    first.volume_mounts = vec![json!({"name": "cache", "mountPath": "/tmp/"})];
    let mut plan = plan_of(vec![first, container("tools", None)]);
    plan.pod.active_deadline_seconds = Some(600);
    plan.pod
        .job_labels
        .insert("team".to_owned(), "web".to_owned());
    plan.pod.spec = json!({
        "labels": {"mesh": "off"},
        "annotations": {"note": "x"},
        "nodeSelector": {"pool": "tests"},
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"runAsGroup": 1000},
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "disableFsGroupDefaulting": true,
    })
    .as_object()
    .cloned()
    .expect("an object");
    insta::assert_json_snapshot!(job(&plan, Level::Restricted));
}

#[test]
fn containers_of_tools_have_images_of_the_agent_and_all_share_the_folders() {
    let mut git = container("git-1", None);
    git.tool = Some(Tool::Git);
    git.security_context = Some(json!({"runAsUser": 1000}));
    let mut values = container("values-2", None);
    values.tool = Some(Tool::Values);
    let mut own = container("step-3", Some("alpine"));
    own.volume_mounts = vec![json!({"name": "cache", "mountPath": "/repo/"})];
    let mut plan = plan_of(vec![git, values, own]);
    plan.pod.folders = vec!["/fixtures".to_owned(), "/repo".to_owned()];
    let made = job(&plan, Level::Baseline);
    let pod = &made["spec"]["template"]["spec"];
    let images: Vec<_> = (0..4)
        .map(|index| &pod["containers"][index]["image"])
        .collect();
    assert_eq!(images, ["runner:1", "git:1", "runner:1", "alpine"]);
    assert_eq!(pod["containers"][1]["securityContext"]["runAsUser"], 1000);
    assert_eq!(
        pod["containers"][2]["securityContext"],
        security::conductor()
    );
    let mounts = |index: usize| -> Vec<String> {
        let mounts = list(pod["containers"][index].get("volumeMounts"));
        let new = mounts.iter().skip(VOLUMES.len());
        new.map(|mount| format!("{}={}", mount["name"], mount["mountPath"]).replace('"', ""))
            .collect()
    };
    let both = ["muster-folder-0=/fixtures", "muster-folder-1=/repo"];
    assert_eq!(mounts(0), both);
    assert_eq!(mounts(1), both);
    assert_eq!(mounts(3), [both[0], "cache=/repo/"]);
    let volumes = list(pod.get("volumes"));
    let named = |name: &str| volumes.iter().filter(|one| one["name"] == name).count();
    assert_eq!((named("muster-folder-0"), named("muster-folder-1")), (1, 1));
}

#[test]
fn the_image_with_git_is_beside_the_runners_unless_that_has_another_name() {
    for (runner, git) in [
        ("muster/runner:0.1.0", Some("muster/git:0.1.0")),
        ("registry:5000/a/runner", Some("registry:5000/a/git")),
        ("registry:5000/my-runner:1", None),
        ("muster/runner@sha256:00", None),
        ("muster/runner:1@sha256:00", None),
    ] {
        assert_eq!(config::git_image_beside(runner).as_deref(), git, "{runner}");
    }
}

#[test]
fn a_job_is_what_kubernetes_knows() {
    let plan = plan_of(vec![container("c1", Some("alpine"))]);
    let made = job(&plan, Level::Restricted);
    let typed: Job = serde_json::from_value(made).expect("all fields have their types");
    let pod = typed
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a pod");
    assert_eq!(pod.containers.len(), 2);
    assert_eq!(pod.containers[0].name, CONDUCTOR);
}

#[test]
fn labels_of_a_workflow_do_not_replace_those_of_the_agent() {
    let mut plan = plan_of(vec![container("c1", None)]);
    plan.pod
        .job_labels
        .insert(ATTEMPT.to_owned(), "x".to_owned());
    plan.pod
        .spec
        .insert("labels".to_owned(), json!({AGENT: "x"}));
    let made = job(&plan, Level::Baseline);
    assert_ne!(made["metadata"]["labels"][ATTEMPT], "x");
    assert_ne!(made["spec"]["template"]["metadata"]["labels"][AGENT], "x");
}

#[test]
fn a_name_leads_back_to_its_attempt() {
    let attempt = AttemptId::generate();
    assert_eq!(attempt_of(&name(attempt)), Some(attempt));
    assert_eq!(attempt_of("muster-agent-relay"), None);
}
