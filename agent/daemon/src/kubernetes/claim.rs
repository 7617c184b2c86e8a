//! Claims of volumes of an attempt: made once its Job is there, and owned by it, so that they go
//! with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Api, api::PostParams};
use muster_spec::plan::Plan;
use serde_json::{Value, json};

use super::client::{Trouble, limited};

/// A claim as it is sent to the cluster.
pub(super) fn build(
    name: &str,
    spec: &Value,
    labels: &BTreeMap<String, String>,
    job: (&str, &str),
) -> Result<PersistentVolumeClaim, String> {
    let (job, uid) = job;
    let claim = json!({
        "metadata": {
            "name": name,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": job,
                "uid": uid,
            }],
        },
        "spec": spec,
    });
    serde_json::from_value(claim)
        .map_err(|error| format!("a field of the claim '{name}' has the wrong type: {error}"))
}

/// Makes the claims of a plan that are not there. The pod waits for them.
///
/// # Errors
///
/// What the cluster says; [`Trouble::Exists`] while one of an earlier attempt is still there.
pub(super) async fn create(
    api: &Api<PersistentVolumeClaim>,
    claims: &[PersistentVolumeClaim],
) -> Result<(), Trouble> {
    for claim in claims {
        match limited(api.create(&PostParams::default(), claim)).await {
            Ok(_) => {}
            Err(Trouble::Exists) => {
                let name = claim.metadata.name.as_deref().unwrap_or_default();
                let found = limited(api.get(name)).await?;
                let leaving = found.metadata.deletion_timestamp.is_some();
                if leaving || found.metadata.labels != claim.metadata.labels {
                    return Err(Trouble::Exists);
                }
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(())
}

/// All claims of a plan.
pub(super) fn all(
    plan: &Plan,
    labels: &BTreeMap<String, String>,
    job: (&str, &str),
) -> Result<Vec<PersistentVolumeClaim>, String> {
    let claims = plan.pod.claims.iter();
    claims
        .map(|(name, spec)| build(name, spec, labels, job))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_goes_with_its_job_and_wrong_fields_are_named() {
        let labels = BTreeMap::from([("muster.dev/attempt".to_owned(), "a".to_owned())]);
        let spec = json!({"accessModes": ["ReadWriteOnce"]});
        let claim = build("muster-e-cache", &spec, &labels, ("muster-a", "uid")).unwrap();
        let owners = claim.metadata.owner_references.unwrap();
        assert_eq!(
            (owners[0].kind.as_str(), owners[0].uid.as_str()),
            ("Job", "uid")
        );
        assert_eq!(claim.metadata.labels, Some(labels.clone()));
        let wrong = json!({"accessModes": "ReadWriteOnce"});
        let error = build("muster-e-cache", &wrong, &labels, ("j", "u")).unwrap_err();
        assert!(error.contains("muster-e-cache"), "{error}");
    }
}
