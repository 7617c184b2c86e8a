//! The agent inside a cluster, installed by the manifests of `deploy/kubernetes`.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};

use crate::{
    agent::LABEL,
    cluster::Cluster,
    container,
    control_plane::ControlPlane,
    image,
    kubectl::{kubectl, manifest},
    namespace::Namespace,
    wait,
};

/// An agent that runs as a Deployment.
#[derive(Debug)]
pub struct Installation {
    /// Its name, which is also the value of its label [`LABEL`].
    pub name: String,
    /// Where the agent runs.
    pub own: Namespace,
    /// Where it makes Jobs.
    pub tests: Namespace,
}

impl Installation {
    /// Installs an agent as `deploy/kubernetes/README.md` says, with `kubectl` (or the program
    /// that `MUSTER_TEST_KUBECTL` names), and waits until it is connected.
    ///
    /// # Errors
    ///
    /// When the cluster refuses the manifests or the agent does not connect.
    pub async fn apply(
        server: &ControlPlane,
        name: &str,
        cluster: &Cluster,
    ) -> anyhow::Result<Self> {
        let token = server.client.create_agent(name, &[(LABEL, name)]).await?;
        let authority = server
            .authority()
            .context("the server has no certificate")?;
        let authority = std::fs::read_to_string(authority)?;
        let installation = Self::place(name, cluster, &server.url, &token, &authority).await?;
        let connected = server.client.agent_connected(name).await;
        if connected.is_err() {
            let state = installation.describe().await;
            connected.with_context(|| state)?;
        }
        Ok(installation)
    }

    /// Applies the manifests for an agent with this token, and waits for nothing.
    ///
    /// # Errors
    ///
    /// When the cluster refuses the manifests.
    pub async fn place(
        name: &str,
        cluster: &Cluster,
        url: &str,
        token: &str,
        authority: &str,
    ) -> anyhow::Result<Self> {
        let own = Namespace::create(cluster, "restricted").await?;
        let tests = Namespace::create(cluster, "baseline").await?;
        let folder = tempfile::tempdir()?;
        let (token_file, authority_file) = (folder.path().join("token"), folder.path().join("ca"));
        std::fs::write(&token_file, token)?;
        std::fs::write(&authority_file, authority)?;
        kubectl(
            cluster,
            &[
                "create",
                "secret",
                "generic",
                "muster-agent",
                "--namespace",
                &own.name,
                &format!("--from-file=token={}", token_file.display()),
                &format!("--from-file=ca.pem={}", authority_file.display()),
            ],
            "",
        )?;
        let manifest = manifest("agent.yaml")?;
        let manifest = substitute(&manifest, &own.name, &tests.name, url)?;
        kubectl(cluster, &["apply", "-f", "-"], &manifest)?;
        Ok(Self {
            name: name.to_owned(),
            own,
            tests,
        })
    }

    /// Kills the agent's pod without any grace; its Deployment makes another one.
    ///
    /// # Errors
    ///
    /// When the cluster refuses.
    pub async fn kill_pod(&self) -> anyhow::Result<()> {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        let all = ListParams::default();
        drop(
            self.own
                .api::<Pod>()
                .delete_collection(&parameters, &all)
                .await?,
        );
        Ok(())
    }

    /// Kills the agent's process with SIGKILL, with a helper pod in `helpers`; the kubelet starts it
    /// again in the same pod.
    ///
    /// # Errors
    ///
    /// When it does not run, or the helper fails.
    pub async fn kill_process(&self, helpers: &Namespace) -> anyhow::Result<()> {
        let running = container::running(&self.own, "agent").await?;
        container::kill_all_processes(&running, helpers).await
    }

    /// Sets how many pods the agent has, 0 or 1, and waits until it is so.
    ///
    /// # Errors
    ///
    /// When the cluster refuses, or it does not become so.
    pub async fn scale(&self, replicas: i32) -> anyhow::Result<()> {
        let scale = serde_json::json!({"spec": {"replicas": replicas}});
        let deployments = self.own.api::<Deployment>();
        let (how, patch) = (PatchParams::default(), Patch::Merge(&scale));
        deployments.patch("muster-agent", &how, &patch).await?;
        if replicas == 0 {
            self.kill_pod().await?;
        }
        wait::until("the agent's pods", async || {
            let pods = self.own.api::<Pod>().list(&ListParams::default()).await?;
            Ok((i32::try_from(pods.items.len())? == replicas).then_some(()))
        })
        .await
    }

    /// Waits until the Deployment is available.
    ///
    /// # Errors
    ///
    /// When it does not become so.
    pub async fn ready(&self) -> anyhow::Result<()> {
        wait::until("the agent is ready", async || {
            let deployment = self.own.api::<Deployment>().get("muster-agent").await?;
            let status = deployment.status.unwrap_or_default();
            Ok((status.ready_replicas == Some(1)).then_some(()))
        })
        .await
    }

    async fn describe(&self) -> String {
        let pods = self.own.api::<Pod>().list(&ListParams::default()).await;
        let status = pods.map(|pods| {
            let pods = pods.items.into_iter();
            pods.map(|pod| format!("{:?}", pod.status))
                .collect::<Vec<_>>()
        });
        let arguments = [
            "logs",
            "deployment/muster-agent",
            "--namespace",
            &self.own.name,
        ];
        let log = kubectl(&self.own.cluster, &arguments, "");
        format!("pods: {status:?}\nlog: {log:?}")
    }
}

/// Puts names of this test where the manifest has those of a usual installation.
fn substitute(manifest: &str, own: &str, tests: &str, url: &str) -> anyhow::Result<String> {
    let mut text = manifest.to_owned();
    let replacements = [
        ("namespace: muster-tests", format!("namespace: {tests}")),
        ("namespace: muster-agent", format!("namespace: {own}")),
        (
            "resourceNames: [muster-tests]",
            format!("resourceNames: [{tests}]"),
        ),
        ("--namespace=muster-tests", format!("--namespace={tests}")),
        ("https://muster-server.muster.svc:8443", url.to_owned()),
        ("muster/agent:0.1.0", image::agent()),
        ("muster/runner:0.1.0", image::runner()),
        ("muster/git:0.1.0", image::git()),
    ];
    for (from, to) in replacements {
        ensure!(text.contains(from), "the manifest does not hold '{from}'");
        text = text.replace(from, &to);
    }
    if let Some(registry) = image::registry() {
        let mark = "            # - --registry-mirror=*=http://registry.example:5000\n";
        ensure!(text.contains(mark), "the manifest does not hold '{mark}'");
        let flag = format!("            - --registry-mirror=*=http://{registry}\n");
        text = text.replace(mark, &flag);
    }
    Ok(text)
}
