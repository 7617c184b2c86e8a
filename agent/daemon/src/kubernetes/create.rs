//! Making the Job of an attempt: checked, with its Secret, once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::Job,
        core::v1::{Namespace, PersistentVolumeClaim, Secret},
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Shared, claim,
    client::{Trouble, limited},
    job::{self, Blueprint},
    policy,
    security::Level,
};
use crate::{
    attempt::{Attempt, Work},
    backend::Denied,
    backoff::Backoff,
    begin::{Permit, begin},
    config::PodSecurity,
    context::Context,
};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// How long the API server may say that the agent's own role does not allow what it needs.
const FORBIDDEN_PATIENCE: Duration = Duration::from_secs(20);

/// Makes the Job of an attempt, unless it is there. Retries what may pass.
pub(super) async fn create(
    context: &Context,
    shared: &Arc<Shared>,
    attempt: &Arc<Attempt>,
    work: &Work,
) -> Result<(), Denied> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
    let begin = Instant::now();
    while !attempt.is_done() {
        match Box::pin(try_create(context, shared, attempt, work)).await {
            Ok(()) => return Ok(()),
            Err(Failed::Denied(denied)) => {
                let patience = patience(denied.reason, shared.settings.start_deadline);
                if begin.elapsed() >= patience {
                    return Err(denied);
                }
                attempt.preparing(denied.reason, &denied.message);
            }
            Err(Failed::Passing(message)) => {
                tracing::warn!(attempt = %attempt.id, message, "cannot make a Job yet");
                attempt.preparing("CLUSTER_UNAVAILABLE", &message);
            }
        }
        backoff.wait().await;
    }
    Ok(())
}

enum Failed {
    Denied(Denied),
    Passing(String),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        let denied = |reason, message| Self::Denied(Denied { reason, message });
        match trouble {
            Trouble::Missing(message) => denied("NAMESPACE_NOT_FOUND", message),
            Trouble::Refused { code, message } => denied(refusal(code, &message), message),
            Trouble::Exists => Self::Passing("an object of that name is there already".to_owned()),
            Trouble::Passing(source) => Self::Passing(source.to_string()),
        }
    }
}

/// How long a refusal of this kind may last: room comes when others end, and an API server that has
/// just started does not know yet what its roles allow.
fn patience(reason: &str, start_deadline: Duration) -> Duration {
    match reason {
        "QUOTA" => start_deadline,
        "FORBIDDEN" => FORBIDDEN_PATIENCE,
        _ => Duration::ZERO,
    }
}

/// Whether a pod that the Job's controller may not make now may come later: that controller tries
/// again, and no role of ours decides what it may do.
pub(super) fn may_pass(refusal: &str) -> bool {
    matches!(refusal, "QUOTA" | "FORBIDDEN")
}

/// The kind of a refusal, by the API server's words.
pub(super) fn refusal(code: u16, message: &str) -> &'static str {
    if message.contains("exceeded quota") {
        "QUOTA"
    } else if message.contains("violates PodSecurity")
        || message.contains("denied the request")
        || message.contains("admission webhook")
    {
        "ADMISSION_DENIED"
    } else if code == 422 || message.contains("is invalid") {
        "INVALID_POD"
    } else if message.contains("cannot ") && message.contains(" resource") {
        "FORBIDDEN"
    } else {
        // A plug-in of the API server: LimitRanger, ServiceAccount, ….
        "ADMISSION_DENIED"
    }
}

async fn try_create(
    context: &Context,
    shared: &Arc<Shared>,
    attempt: &Arc<Attempt>,
    work: &Work,
) -> Result<(), Failed> {
    let namespace = shared.namespace(&work.plan);
    let level = level(shared, namespace).await?;
    policy::check(&work.plan, &shared.settings, level).map_err(Failed::Denied)?;
    let invalid = |message: String| {
        Failed::Denied(Denied {
            reason: "INVALID_POD",
            message,
        })
    };
    let blueprint = Blueprint {
        attempt: attempt.id,
        epoch: attempt.epoch,
        execution: &work.execution,
        project: &work.project,
        display_name: &work.display_name,
        plan: &work.plan,
        settings: &shared.settings,
        agent: shared.agent,
        certificate: &shared.certificate,
        level,
    };
    let made = blueprint.job().map_err(invalid)?;
    let made: Job = serde_json::from_value(made)
        .map_err(|error| invalid(format!("a field of the pod has the wrong type: {error}")))?;

    // First of all, so that a Job whose creation was cut short is looked for.
    shared.jobs().insert(attempt.id, namespace.to_owned());
    let secrets: Api<Secret> = shared.api(namespace);
    let secret = token_secret(shared, attempt);
    match limited(secrets.create(&PostParams::default(), &secret)).await {
        Ok(_) | Err(Trouble::Exists) => {}
        Err(trouble) => return Err(trouble.into()),
    }
    let jobs: Api<Job> = shared.api(namespace);
    // Not before: as long as the API server can not be reached, nothing has begun.
    match begin(context, attempt).await.map_err(Failed::Denied)? {
        Permit::Given => {}
        Permit::Over => return Ok(()),
    }
    let uid = match limited(jobs.create(&PostParams::default(), &made)).await {
        Ok(job) => job.metadata.uid,
        Err(Trouble::Exists) => existing(&jobs, attempt).await?,
        Err(trouble) => return Err(trouble.into()),
    };
    own(&secrets, attempt, uid.as_deref()).await;
    claims(shared, attempt, work, uid.as_deref(), namespace).await
}

/// Makes the claims of the plan; after the Job, whose they are.
async fn claims(
    shared: &Shared,
    attempt: &Attempt,
    work: &Work,
    uid: Option<&str>,
    namespace: &str,
) -> Result<(), Failed> {
    if work.plan.pod.claims.is_empty() {
        return Ok(());
    }
    let labels = job::labels(attempt.id, attempt.epoch, shared.agent);
    let name = job::name(attempt.id);
    let made = claim::all(&work.plan, &labels, (&name, uid.unwrap_or_default()));
    let made = made.map_err(|message| {
        Failed::Denied(Denied {
            reason: "INVALID_POD",
            message,
        })
    })?;
    let api: Api<PersistentVolumeClaim> = shared.api(namespace);
    claim::create(&api, &made)
        .await
        .map_err(|trouble| match trouble {
            Trouble::Exists => {
                Failed::Passing("a claim of an earlier attempt is still being removed".to_owned())
            }
            other => other.into(),
        })
}

/// The Job that is there already, if it is the attempt's.
async fn existing(jobs: &Api<Job>, attempt: &Attempt) -> Result<Option<String>, Failed> {
    let job = limited(jobs.get(&job::name(attempt.id))).await?;
    let labels = job.metadata.labels.unwrap_or_default();
    if labels.get(job::ATTEMPT) == Some(&attempt.id.to_string()) {
        return Ok(job.metadata.uid);
    }
    Err(Failed::Denied(Denied {
        reason: "JOB_EXISTS",
        message: format!(
            "a Job {} that is not this agent's is there already",
            job::name(attempt.id)
        ),
    }))
}

fn token_secret(shared: &Shared, attempt: &Attempt) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(job::name(attempt.id));
    secret.metadata.labels = Some(job::labels(attempt.id, attempt.epoch, shared.agent));
    let token = ByteString(shared.key.token(attempt.id).into_bytes());
    secret.data = Some(BTreeMap::from([(job::TOKEN.to_owned(), token)]));
    secret.immutable = Some(true);
    secret
}

/// Makes the Secret go with its Job. Without that the agent deletes it.
async fn own(secrets: &Api<Secret>, attempt: &Attempt, uid: Option<&str>) {
    let name = job::name(attempt.id);
    let owner = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": name,
        "uid": uid,
    }]}});
    let patch = Patch::Merge(&owner);
    if let Err(trouble) = limited(secrets.patch(&name, &PatchParams::default(), &patch)).await {
        tracing::warn!(attempt = %attempt.id, ?trouble, "cannot give a Secret to its Job");
    }
}

/// What holds for the pods of a namespace.
async fn level(shared: &Shared, namespace: &str) -> Result<Level, Failed> {
    match shared.settings.policy.level {
        PodSecurity::Restricted => return Ok(Level::Restricted),
        PodSecurity::Baseline => return Ok(Level::Baseline),
        PodSecurity::Privileged => return Ok(Level::Privileged),
        PodSecurity::Auto => {}
    }
    let namespaces: Api<Namespace> = Api::all(shared.client.clone());
    let labels = match limited(namespaces.get(namespace)).await {
        Ok(found) => found.metadata.labels.unwrap_or_default(),
        Err(Trouble::Refused { message, .. }) => {
            tracing::warn!(
                namespace,
                message,
                "cannot read the labels of the namespace, so its pods follow the baseline standard; \
                 allow 'get' of namespaces, or say --pod-security"
            );
            BTreeMap::new()
        }
        Err(trouble) => return Err(trouble.into()),
    };
    match labels.get(ENFORCE).map(String::as_str) {
        Some("restricted") => Ok(Level::Restricted),
        _ => Ok(Level::Baseline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_the_words_of_the_cluster() {
        let cases = [
            (
                403,
                "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1",
                "QUOTA",
            ),
            (
                403,
                "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": …",
                "ADMISSION_DENIED",
            ),
            (
                400,
                "admission webhook \"w\" denied the request: no",
                "ADMISSION_DENIED",
            ),
            (
                403,
                "pods \"x\" is forbidden: maximum memory usage per Container is 256Mi",
                "ADMISSION_DENIED",
            ),
            (422, "Job.batch \"x\" is invalid: spec: …", "INVALID_POD"),
            (
                403,
                "jobs.batch is forbidden: User \"u\" cannot create resource",
                "FORBIDDEN",
            ),
        ];
        for (code, message, reason) in cases {
            assert_eq!(refusal(code, message), reason, "{message}");
        }
    }
}
