//! Removes Jobs and Secrets of attempts that nobody knows any more.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::Timestamp,
};
use kube::{Api, api::ListParams};
use muster_core::{clock::Clock, id::AttemptId};
use tokio::time::interval;

use super::{Shared, client::limited, job, remove};
use crate::{Error, backend::Removal, context::Context};

const INTERVAL: Duration = Duration::from_secs(60);
/// What is younger may just be on its way into the list of attempts.
const YOUNG: i64 = 60;

/// Sweeps every minute.
pub(super) async fn run(context: Arc<Context>, shared: Arc<Shared>) {
    let mut ticks = interval(INTERVAL);
    loop {
        ticks.tick().await;
        if !context.attempts.is_reconciled() {
            ticks.reset_after(Duration::from_secs(2));
            continue;
        }
        for namespace in shared.namespaces() {
            if let Err(error) = sweep(&context, &shared, &namespace).await {
                tracing::warn!(
                    namespace,
                    error = &error as &dyn std::error::Error,
                    "cannot look for orphans"
                );
            }
        }
    }
}

async fn sweep(context: &Context, shared: &Shared, namespace: &str) -> Result<(), Error> {
    let params = ListParams::default().labels(&shared.selector());
    let jobs: Api<Job> = shared.api(namespace);
    let secrets: Api<Secret> = shared.api(namespace);
    let jobs = limited(jobs.list_metadata(&params))
        .await
        .map_err(|trouble| trouble.error("list Jobs"))?;
    let secrets = limited(secrets.list_metadata(&params))
        .await
        .map_err(|trouble| trouble.error("list Secrets"))?;
    let now = Clock::system().now().as_second();
    let metas = jobs.into_iter().map(|job| job.metadata);
    let metas = metas.chain(secrets.into_iter().map(|secret| secret.metadata));
    for meta in metas {
        let Some(orphan) = orphan(&meta, now).filter(|id| context.attempts.get(*id).is_none())
        else {
            continue;
        };
        tracing::info!(attempt = %orphan, namespace, "removing what is left of an attempt");
        remove(shared, orphan, namespace, Removal::Kill).await?;
    }
    Ok(())
}

/// The attempt of an object that is old enough.
fn orphan(meta: &ObjectMeta, now: i64) -> Option<AttemptId> {
    let made: Timestamp = meta.creation_timestamp.as_ref()?.0;
    if now - made.as_second() < YOUNG || meta.deletion_timestamp.is_some() {
        return None;
    }
    meta.labels.as_ref()?.get(job::ATTEMPT)?.parse().ok()
}
