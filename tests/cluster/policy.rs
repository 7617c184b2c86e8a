//! What a cluster forbids.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{
    core::v1::{LimitRange, Node, Pod, ServiceAccount},
    scheduling::v1::PriorityClass,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use muster_proto::v1::execution::State;
use muster_tests::{
    agent::Agent, cluster::Clusters, control_plane::ControlPlane, namespace::Namespace, run::step,
    site::Site,
};

#[tokio::test(flavor = "multi_thread")]
async fn careful_workflow_runs_where_the_restricted_standard_is_enforced() -> anyhow::Result<()> {
    let Some(site) = Site::open("restricted").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: careful
spec:
  container:
    image: alpine:3.22.0
    securityContext:
      runAsNonRoot: true
      runAsUser: 4321
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
      seccompProfile:
        type: RuntimeDefault
  steps:
  - name: read-only root
    shell: |
      id -u
      ! touch /here 2>/dev/null
      echo kept > /data/kept
    artifacts:
      workingDir: /data
      paths: [kept]
  - name: shell-less
    run:
      image: muster/scratch:1
      shell: id -u
"#,
        )
        .await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    for name in ["read-only root", "shell-less"] {
        let printed = log.of_step(&step(&execution, name)?.reference);
        ensure!(printed == "4321\n", "{name} printed {printed}");
    }
    ensure!(run.artifact("kept").await? == b"kept\n");
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_denied_by_admission_ends_in_the_words_of_the_cluster() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let limits: LimitRange = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]},
    }))?;
    let api = site.namespace.api::<LimitRange>();
    api.create(&PostParams::default(), &limits).await?;
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: greedy
spec:
  steps:
  - name: too large
    run:
      image: alpine:3.22.0
      shell: echo never
      resources:
        limits:
          memory: 1Gi
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    let reasons = ["ADMISSION_DENIED", "QUOTA"];
    ensure!(reasons.contains(&execution.reason.as_str()), "{described}");
    ensure!(
        described.contains("maximum memory usage per Container is 256Mi"),
        "{described}"
    );
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn careless_workflow_is_denied_where_the_restricted_standard_is_enforced()
-> anyhow::Result<()> {
    let Some(site) = Site::open("restricted").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: careless
spec:
  steps:
  - name: as root
    run:
      image: alpine:3.22.0
      shell: echo never
      securityContext:
        runAsUser: 0
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    ensure!(execution.reason == "POLICY_DENIED", "{described}");
    ensure!(described.contains("runAsUser"), "{described}");
    ensure!(site.namespace.objects().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn privileged_container_is_denied_by_the_agent_before_anything_is_made() -> anyhow::Result<()>
{
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: privileged
spec:
  steps:
  - name: mighty
    run:
      image: alpine:3.22.0
      shell: echo never
      securityContext:
        privileged: true
"#,
        )
        .await?;
    let execution = run.end().await?;
    let described = muster_tests::run::describe(&execution);
    ensure!(execution.state() == State::Aborted, "{described}");
    ensure!(execution.reason == "POLICY_DENIED", "{described}");
    ensure!(
        described.contains("securityContext.privileged"),
        "{described}"
    );
    ensure!(site.namespace.objects().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_of_an_agent_allows_reaches_the_pod() -> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let own = Namespace::create(&clusters.all[0], "baseline").await?;
    let other = Namespace::create(&clusters.all[0], "baseline").await?;
    let class = other.name.clone();
    let classes = Api::<PriorityClass>::all(own.client.clone());
    let made: PriorityClass = serde_json::from_value(serde_json::json!({
        "metadata": {"name": class}, "value": 7,
    }))?;
    classes.create(&PostParams::default(), &made).await?;
    let outcome = allowed(&clusters, &own, &other, &class).await;
    classes.delete(&class, &DeleteParams::default()).await?;
    outcome
}

async fn allowed(
    clusters: &Clusters,
    own: &Namespace,
    other: &Namespace,
    class: &str,
) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(own.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?;
    let node = nodes.items.first().map(ResourceExt::name_any);
    let node = node.context("the cluster has a node")?;
    let account: ServiceAccount =
        serde_json::from_value(serde_json::json!({"metadata": {"name": "tester"}}))?;
    let accounts = other.api::<ServiceAccount>();
    accounts.create(&PostParams::default(), &account).await?;
    let server = ControlPlane::start_at(clusters.host).await?;
    let allow = [
        ["--allow-namespace", &other.name],
        ["--allow-service-account", "tester"],
        ["--allow-priority-class", class],
    ];
    let mut allow = allow.concat();
    allow.push("--allow-node-name");
    let _agent = Agent::with_arguments(&server, "open", clusters, own, &allow).await?;
    let manifest = format!(
        r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: allowed
spec:
  container: {{image: alpine:3.22.0}}
  job: {{namespace: {}}}
  pod: {{serviceAccountName: tester, priorityClassName: {class}, nodeName: {node}}}
  steps:
  - name: token
    shell: test -s /var/run/secrets/kubernetes.io/serviceaccount/token
  - name: namespace
    shell: test "{{{{ namespace }}}}" = {}
  - name: go on when seen
    paused: true
    shell: "true"
"#,
        other.name, other.name
    );
    let run = server.client.start(&manifest, None).await?;
    run.becomes(State::Paused).await?;
    let pods = other.api::<Pod>().list(&ListParams::default()).await?;
    let pod = pods.items.first().and_then(|pod| pod.spec.as_ref());
    let pod = pod.context("the pod is in the namespace that was asked for")?;
    ensure!(pod.service_account_name.as_deref() == Some("tester"));
    ensure!(pod.node_name.as_deref() == Some(&*node));
    ensure!((pod.priority_class_name.as_deref(), pod.priority) == (Some(class), Some(7)));
    run.resume().await?;
    run.ends_as(State::Passed).await?;
    other.expect_clean().await?;
    own.expect_clean().await
}
