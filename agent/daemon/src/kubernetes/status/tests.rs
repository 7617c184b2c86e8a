//! Statuses as kubelets write them.

use serde_json::{Value, json};

use super::*;

const LIMITS: Limits = Limits {
    image_pull: Duration::from_secs(120),
    start: Duration::from_secs(600),
};

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a pod")
}

fn waiting(name: &str, reason: &str, message: &str) -> Pod {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    pod(json!({"phase": "Pending", "containerStatuses": [told(name, state)]}))
}

fn told(name: &str, state: Value) -> Value {
    json!({"name": name, "state": state, "image": "i", "imageID": "", "ready": false, "restartCount": 0})
}

/// Whether the container is said to be over after this time.
fn is_over(pod: &Pod, after: Duration) -> bool {
    let now = Instant::now();
    let mut tracker = Tracker::new(now);
    tracker.observe(pod, now, LIMITS);
    let notices = [Duration::ZERO, after]
        .into_iter()
        .flat_map(|d| tracker.observe(pod, now + d, LIMITS))
        .collect::<Vec<_>>();
    // Once said it is not repeated, so look at the first observation too.
    let mut fresh = Tracker::new(now);
    let first = fresh.observe(pod, now, LIMITS);
    first
        .into_iter()
        .chain(notices)
        .any(|notice| matches!(notice, Notice::Container(said) if said.terminal))
}

#[test]
fn what_never_gets_better_ends_the_container_at_once() {
    for (reason, message) in [
        ("InvalidImageName", "couldn't parse image name"),
        ("ErrImageNeverPull", "not present with pull policy of Never"),
        ("ErrImagePull", "r/x:1: not found"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
    ] {
        assert!(
            is_over(&waiting("c1", reason, message), Duration::ZERO),
            "{reason}"
        );
    }
}

#[test]
fn what_may_get_better_has_its_deadline() {
    for (reason, message, deadline) in [
        ("ErrImagePull", "i/o timeout", 120),
        (
            "CreateContainerConfigError",
            "configmap \"x\" not found",
            30,
        ),
    ] {
        let pod = waiting("c1", reason, message);
        assert!(
            !is_over(&pod, Duration::from_secs(deadline - 1)),
            "{reason}"
        );
        assert!(is_over(&pod, Duration::from_secs(deadline)), "{reason}");
    }
}

#[test]
fn pull_and_back_off_are_one_wait() {
    let now = Instant::now();
    let mut tracker = Tracker::new(now);
    let pull = waiting("c1", "ErrImagePull", "i/o timeout");
    let back_off = waiting("c1", "ImagePullBackOff", "Back-off pulling image");
    tracker.observe(&pull, now, LIMITS);
    let later = now + Duration::from_secs(119);
    tracker.observe(&back_off, later, LIMITS);
    let notices = tracker.observe(&pull, later + Duration::from_secs(1), LIMITS);
    assert!(matches!(&notices[..], [Notice::Container(said)] if said.terminal));
}

#[test]
fn a_killed_container_is_told_with_the_clusters_words() {
    let state = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
    let conductor = told(CONDUCTOR, json!({"running": {}}));
    let pod = pod(json!({"phase": "Running", "containerStatuses": [conductor, told("c1", state)]}));
    let now = Instant::now();
    let notices = Tracker::new(now).observe(&pod, now, LIMITS);
    let expected = ContainerStatus {
        container: "c1".to_owned(),
        terminal: true,
        reason: "OOMKilled".to_owned(),
        message: String::new(),
        exit_code: Some(137),
    };
    assert_eq!(notices, [Notice::Container(expected)]);
}

#[test]
fn a_pod_without_a_node_waits_and_is_lost_at_its_deadline() {
    let message = "0/3 nodes are available: 3 Insufficient cpu.";
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    let pod = pod(json!({"phase": "Pending", "conditions": [condition]}));
    let now = Instant::now();
    let mut tracker = Tracker::new(now);
    let (reason, message) = ("UNSCHEDULABLE".to_owned(), message.to_owned());
    assert_eq!(
        tracker.observe(&pod, now, LIMITS),
        [Notice::Preparing {
            reason: reason.clone(),
            message: message.clone()
        }]
    );
    assert_eq!(
        tracker.observe(&pod, now + LIMITS.start, LIMITS),
        [Notice::Lost { reason, message }]
    );
}

#[test]
fn an_evicted_pod_is_named_as_such() {
    let pod = pod(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
    );
    let now = Instant::now();
    let notices = Tracker::new(now).observe(&pod, now, LIMITS);
    let expected = Notice::Lost {
        reason: "EVICTED".to_owned(),
        message: "The node was low on resource: memory.".to_owned(),
    };
    assert_eq!(notices, [expected]);
}

#[test]
fn a_conductor_that_ends_is_lost_for_the_reason_of_the_disruption() {
    let conductor = told(
        CONDUCTOR,
        json!({"terminated": {"reason": "Error", "exitCode": 137}}),
    );
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted"});
    let disrupted = pod(
        json!({"phase": "Failed", "conditions": [condition], "containerStatuses": [conductor]}),
    );
    let now = Instant::now();
    let notices = Tracker::new(now).observe(&disrupted, now, LIMITS);
    assert!(matches!(&notices[..], [Notice::Lost { reason, .. }] if reason == "PREEMPTED"));
}

#[test]
fn a_runner_image_that_is_not_there_loses_the_attempt() {
    let pod = waiting(CONDUCTOR, "ErrImagePull", "r/runner:1: not found");
    let now = Instant::now();
    let notices = Tracker::new(now).observe(&pod, now, LIMITS);
    assert!(
        matches!(&notices[..], [Notice::Lost { reason, message }] if reason == "IMAGE_PULL" && message.contains("not found"))
    );
}

#[test]
fn a_node_that_does_not_answer_is_lost_after_the_grace_time() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30},
        "status": {"phase": "Running", "containerStatuses": [told(CONDUCTOR, json!({"running": {}}))]},
    }))
    .expect("a pod");
    let now = Instant::now();
    let mut tracker = Tracker::new(now);
    assert!(tracker.observe(&pod, now, LIMITS).is_empty());
    let notices = tracker.observe(&pod, now + Duration::from_secs(90), LIMITS);
    assert!(matches!(&notices[..], [Notice::Lost { reason, .. }] if reason == "NODE_LOST"));
}

#[test]
fn words_of_kubernetes_become_reasons() {
    assert_eq!(upper_snake("SchedulingGated"), "SCHEDULING_GATED");
    assert_eq!(upper_snake("OutOfcpu"), "OUT_OFCPU");
}

#[test]
fn a_start_that_the_node_broke_off_is_no_end_of_a_step() {
    let ended = |message: &str| {
        let state =
            json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": message}});
        pod(json!({"phase": "Running", "containerStatuses": [told("step-1", state)]}))
    };
    let now = Instant::now();
    let broken =
        ended("failed to create containerd task: failed to create shim task: context canceled");
    let notices = Tracker::new(now).observe(&broken, now, LIMITS);
    let [Notice::Lost { reason, message }] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(reason, "DISRUPTED");
    assert!(
        message.contains("step-1") && message.contains("context canceled"),
        "{message}"
    );
    let ours = "exec: \"/.muster/bin/muster-runner\": stat /.muster/bin/muster-runner: no such file or directory";
    let notices = Tracker::new(now).observe(&ended(ours), now, LIMITS);
    assert!(
        matches!(&notices[..], [Notice::Lost { reason, .. }] if reason == "DISRUPTED"),
        "{notices:?}"
    );
    let wrong = ended("exec: \"/no/such\": stat /no/such: no such file or directory");
    assert!(is_over(&wrong, Duration::ZERO));
}
