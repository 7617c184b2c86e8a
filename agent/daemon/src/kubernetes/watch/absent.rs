//! What became of an attempt whose pod is not there: asked, not guessed.

use std::{sync::Arc, time::Duration};

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

/// Finds out why a pod is being deleted, while it still ends in an orderly way.
pub(super) async fn why(
    shared: Arc<Shared>,
    namespace: String,
    attempt: Arc<Attempt>,
    disruption: Option<(String, String)>,
) {
    let (reason, message) = match disruption {
        Some(known) => known,
        None => {
            let jobs: Api<Job> = shared.api(&namespace);
            let found = limited(jobs.get(&job::name(attempt.id))).await;
            deletion(found.ok().as_ref())
        }
    };
    attempt.stopped(&reason, &message);
}

/// Why a pod was deleted, as far as its Job tells.
fn deletion(found: Option<&Job>) -> (String, String) {
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
    let deletion = deletion(found);
    if deletion.0 == "DEADLINE_EXCEEDED" {
        return Some(deletion);
    }
    if absence.disruption.is_some() {
        return absence.disruption;
    }
    if absence.seen {
        return Some(deletion);
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
    fn a_job_without_a_pod_is_given_time() {
        assert_eq!(reason(Some(&Job::default()), absence(false), 599), None);
        assert_eq!(reason(None, absence(false), 2), None);
        let found = reason(Some(&Job::default()), absence(false), 600);
        assert_eq!(found.as_deref(), Some("POD_NOT_CREATED"));
    }
}
