//! What became of an attempt whose pod is not there: asked, not guessed.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::Pod,
};
use kube::{Api, api::ListParams};
use tokio::time::Instant;

use super::lose;
use crate::{
    attempt::Attempt,
    kubernetes::{
        Shared,
        client::{Trouble, limited},
        job,
    },
};

/// How long a Job that was just made may not be seen.
const YOUNG: Duration = Duration::from_secs(3);

/// What is known of a missing pod.
pub(super) struct Absence {
    /// It was there once.
    pub(super) seen: bool,
    /// Since when the attempt is watched.
    pub(super) since: Instant,
    /// Why it was disrupted.
    pub(super) disruption: Option<(String, String)>,
}

/// What is known of a pod that is being deleted.
pub(super) struct Deletion {
    /// When that was asked for, by the cluster's clock.
    pub(super) asked: Option<Timestamp>,
    /// Why it was disrupted.
    pub(super) disruption: Option<(String, String)>,
}

/// When the deletion of a pod was asked for, by the cluster's clock; none when it was not.
pub(super) fn deletion_asked(pod: &Pod) -> Option<Timestamp> {
    let metadata = &pod.metadata;
    let end = metadata.deletion_timestamp.as_ref()?.0;
    let grace = metadata.deletion_grace_period_seconds.unwrap_or(0);
    end.checked_sub(SignedDuration::from_secs(grace)).ok()
}

/// Finds out why a pod is being deleted, while it still ends in an orderly way.
pub(super) async fn why(
    shared: Arc<Shared>,
    namespace: String,
    attempt: Arc<Attempt>,
    deletion: Deletion,
) {
    let (reason, message) = match deletion.disruption {
        Some(known) => known,
        None => {
            let jobs: Api<Job> = shared.api(&namespace);
            let found = limited(jobs.get(&job::name(attempt.id))).await;
            cause(found.ok().as_ref(), deletion.asked)
        }
    };
    attempt.stopped(&reason, &message);
}

/// Why a pod was deleted, as far as its Job tells. The Job's controller deletes the pod of a Job
/// whose time is over before it says so: then the time of the deletion tells.
fn cause(found: Option<&Job>, asked: Option<Timestamp>) -> (String, String) {
    if let Some(job) = found
        && failed(job).is_none()
        && asked
            .zip(time_is_over(job))
            .is_some_and(|(at, end)| at >= end)
    {
        let message = "the Job was active longer than specified deadline";
        return ("DEADLINE_EXCEEDED".to_owned(), message.to_owned());
    }
    let (reason, message) = match found.and_then(failed) {
        Some(condition) if condition.reason.as_deref() == Some("DeadlineExceeded") => {
            let words = condition.message.as_deref();
            (
                "DEADLINE_EXCEEDED",
                words.unwrap_or("the Job took too long"),
            )
        }
        _ => ("POD_DELETED", "the pod was deleted while it ran"),
    };
    (reason.to_owned(), message.to_owned())
}

/// Looks for the pod, then for its Job, and tells the attempt when both say that it is over. An
/// API server that does not answer says nothing.
pub(super) async fn look(
    shared: Arc<Shared>,
    namespace: String,
    attempt: Arc<Attempt>,
    absence: Absence,
) {
    let pods: Api<Pod> = shared.api(&namespace);
    let selector = format!("{}={}", job::ATTEMPT, attempt.id);
    let params = ListParams::default().labels(&selector);
    match limited(pods.list_metadata(&params)).await {
        Ok(list) if list.items.is_empty() => {}
        // It is there after all: the watch will tell.
        Ok(_) | Err(_) => return,
    }
    let jobs: Api<Job> = shared.api(&namespace);
    let found = match limited(jobs.get(&job::name(attempt.id))).await {
        Ok(job) => Some(job),
        Err(Trouble::Missing(_)) => None,
        Err(_) => return,
    };
    let waited = absence.since.elapsed();
    let deadline = shared.settings.start_deadline;
    if let Some((reason, message)) = verdict(found.as_ref(), absence, waited, deadline) {
        lose(attempt, reason, message).await;
    }
}

/// Why the attempt is lost, if it is.
fn verdict(
    found: Option<&Job>,
    absence: Absence,
    waited: Duration,
    start_deadline: Duration,
) -> Option<(String, String)> {
    let words = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    let cause = cause(found, None);
    if cause.0 == "DEADLINE_EXCEEDED" {
        return Some(cause);
    }
    if absence.disruption.is_some() {
        return absence.disruption;
    }
    if absence.seen {
        return Some(cause);
    }
    match found {
        None if waited >= YOUNG => {
            words("JOB_DELETED", "the Job was deleted before its pod was seen")
        }
        None => None,
        Some(job) if failed(job).is_some() => words(
            "POD_DELETED",
            "the Job failed, and its pod is not there any more",
        ),
        Some(_) if waited >= start_deadline => words(
            "POD_NOT_CREATED",
            "the cluster made no pod for the Job in time",
        ),
        Some(_) => None,
    }
}

/// When `activeDeadlineSeconds` of a Job are over, by the cluster's clock; none without them.
fn time_is_over(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.active_deadline_seconds?;
    let start = job.status.as_ref()?.start_time.as_ref()?.0;
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn failed(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Failed" | "FailureTarget") && c.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn absence(seen: bool) -> Absence {
        Absence {
            seen,
            since: Instant::now(),
            disruption: None,
        }
    }

    fn job(reason: &str) -> Job {
        let condition =
            json!({"type": "Failed", "status": "True", "reason": reason, "message": "m"});
        serde_json::from_value(json!({"status": {"conditions": [condition]}})).expect("a Job")
    }

    fn reason(found: Option<&Job>, absence: Absence, waited: u64) -> Option<String> {
        let waited = Duration::from_secs(waited);
        verdict(found, absence, waited, Duration::from_secs(600)).map(|(reason, _)| reason)
    }

    #[test]
    fn a_deadline_is_named_before_the_deletion_that_follows_from_it() {
        let found = reason(Some(&job("DeadlineExceeded")), absence(true), 0);
        assert_eq!(found.as_deref(), Some("DEADLINE_EXCEEDED"));
        let found = reason(Some(&job("BackoffLimitExceeded")), absence(true), 0);
        assert_eq!(found.as_deref(), Some("POD_DELETED"));
    }

    #[test]
    fn a_pod_that_is_deleted_when_its_time_is_over_has_met_its_deadline() {
        let job: Job = serde_json::from_value(json!({
            "spec": {"activeDeadlineSeconds": 30, "template": {}},
            "status": {"startTime": "2026-11-27T10:00:00Z"},
        }))
        .expect("a Job");
        let pod = |at: &str, grace| -> Pod {
            let metadata = json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": grace});
            serde_json::from_value(json!({"metadata": metadata})).expect("a pod")
        };
        let reason = |pod: &Pod| cause(Some(&job), deletion_asked(pod)).0;
        assert_eq!(
            reason(&pod("2026-11-27T10:01:00Z", 30)),
            "DEADLINE_EXCEEDED"
        );
        // It ends after the deadline; what deleted it did so before.
        assert_eq!(reason(&pod("2026-11-27T10:00:59Z", 30)), "POD_DELETED");
        assert_eq!(reason(&Pod::default()), "POD_DELETED");
    }

    #[test]
    fn a_job_without_a_pod_is_given_time() {
        assert_eq!(reason(Some(&Job::default()), absence(false), 599), None);
        assert_eq!(reason(None, absence(false), 2), None);
        let found = reason(Some(&Job::default()), absence(false), 600);
        assert_eq!(found.as_deref(), Some("POD_NOT_CREATED"));
    }
}
