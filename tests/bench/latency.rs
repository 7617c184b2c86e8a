//! From submit to the first line of the step's output, one run at a time.

use std::time::Instant;

use anyhow::{Context as _, bail};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use muster_proto::v1::{ReadLogRequest, read_log_response::Item};
use muster_tests::{
    control_plane::ControlPlane,
    namespace::Namespace,
    wait::{self, PATIENCE, within},
};

use crate::{
    batch::no_op,
    by_hand::{self, Shape},
};

/// Seconds from submit to the first line of output.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Latency {
    /// Through Muster, as a client that follows the log sees it.
    pub(crate) muster: Vec<f64>,
    /// The same pod by hand, with its log followed through the API server.
    pub(crate) by_hand: Vec<f64>,
}

/// Times `count` runs of each kind, in turn.
pub(crate) async fn measure(
    server: &ControlPlane,
    namespace: &Namespace,
    count: usize,
) -> anyhow::Result<Latency> {
    let mut latency = Latency::default();
    for _ in 0..count {
        let by_hand = bare(namespace);
        let by_hand = within(PATIENCE, "first line of a pod by hand", by_hand).await?;
        latency.by_hand.push(by_hand);
        let run = muster(server, namespace);
        let run = within(PATIENCE, "first line through Muster", run).await?;
        latency.muster.push(run);
    }
    Ok(latency)
}

async fn muster(server: &ControlPlane, namespace: &Namespace) -> anyhow::Result<f64> {
    let manifest = no_op("first-line");
    let begin = Instant::now();
    let run = server.client.start(&manifest, None).await?;
    let request = ReadLogRequest {
        name: run.name.clone(),
        follow: true,
        ..ReadLogRequest::default()
    };
    let mut stream = server.client.logs().read_log(request).await?.into_inner();
    let remark = muster_proto::v1::log_chunk::Stream::System;
    let seconds = loop {
        let response = stream.message().await?.context("the log has no line")?;
        match response.item {
            Some(Item::Chunk(chunk)) if chunk.stream() != remark => {
                break begin.elapsed().as_secs_f64();
            }
            Some(Item::End(_)) => bail!("the log ended without a line"),
            _ => {}
        }
    };
    run.end().await?;
    namespace.expect_clean().await?;
    Ok(seconds)
}

async fn bare(namespace: &Namespace) -> anyhow::Result<f64> {
    let job = by_hand::job("first-line", Shape::Two)?;
    let pods = namespace.api::<Pod>();
    let begin = Instant::now();
    by_hand::create(namespace, &job).await?;
    let parameters = LogParams {
        container: Some("step".to_owned()),
        follow: true,
        ..LogParams::default()
    };
    let seconds = loop {
        let pod = pods.list(&ListParams::default()).await?.items.pop();
        // Refused until the container runs.
        if let Some(name) = pod.and_then(|pod| pod.metadata.name)
            && let Ok(log) = pods.log_stream(&name, &parameters).await
            && let Ok(Some(_)) = log.lines().try_next().await
        {
            break begin.elapsed().as_secs_f64();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    wait::until("the job is complete", async || {
        Ok((by_hand::completed(namespace).await? == 1).then_some(()))
    })
    .await?;
    by_hand::delete_all(namespace).await?;
    Ok(seconds)
}
