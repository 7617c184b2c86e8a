//! The control plane inside a cluster, installed by the manifests of `deploy/kubernetes`.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::StatefulSet;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    cluster::Cluster,
    image,
    kubectl::{kubectl, manifest},
    namespace::Namespace,
    wait,
};

/// A control plane that runs as a `StatefulSet`.
#[derive(Debug)]
pub struct ServerInstallation {
    /// Where it runs.
    pub own: Namespace,
    /// By which agents in the cluster reach it.
    pub url: String,
    /// The authority of its certificate, PEM.
    pub authority: String,
}

impl ServerInstallation {
    /// Installs it as `deploy/kubernetes/README.md` says, with a volume that needs no storage
    /// class, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When the cluster refuses the manifests or the server does not become ready.
    pub async fn apply(cluster: &Cluster) -> anyhow::Result<Self> {
        let own = Namespace::create(cluster, "restricted").await?;
        let host = format!("muster-server.{}.svc", own.name);
        let authority = secrets(&own, &host)?;
        let text = substitute(&manifest("server.yaml")?, &own.name)?;
        kubectl(cluster, &["apply", "-f", "-"], &text)?;
        let installation = Self {
            own,
            url: format!("https://{host}:8443"),
            authority,
        };
        let ready = wait::until("the server is ready", async || {
            let api = installation.own.api::<StatefulSet>();
            let status = api.get("muster-server").await?.status.unwrap_or_default();
            Ok((status.ready_replicas == Some(1)).then_some(()))
        })
        .await;
        if ready.is_err() {
            let arguments = ["describe", "pods", "--namespace", &installation.own.name];
            let state = kubectl(cluster, &arguments, "");
            ready.with_context(|| format!("{state:?}"))?;
        }
        Ok(installation)
    }

    /// Runs a command of the command line in the server's pod, as its administrator, and returns
    /// what it prints.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub fn muster(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut words = vec![
            "exec",
            "--stdin",
            "--namespace",
            &self.own.name,
            "statefulset/muster-server",
            "--",
            "/muster",
            "--server=https://localhost:8443",
            "--ca-file=/etc/muster/ca/ca.pem",
            "--token-file=/var/lib/muster/admin-token",
        ];
        words.extend(arguments);
        kubectl(&self.own.cluster, &words, input)
    }
}

/// Makes an authority and a certificate for `host`, gives them to the server, and returns the
/// authority.
fn secrets(own: &Namespace, host: &str) -> anyhow::Result<String> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec![host.to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;

    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: String| -> anyhow::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let pem = authority.pem();
    let ca = file("ca.pem", pem.clone())?;
    let certificate = file("tls.crt", certificate.pem())?;
    let key = file("tls.key", key.serialize_pem())?;
    let tls = [
        "create",
        "secret",
        "tls",
        "muster-server-tls",
        "--namespace",
        &own.name,
        &format!("--cert={certificate}"),
        &format!("--key={key}"),
    ];
    kubectl(&own.cluster, &tls, "")?;
    let map = [
        "create",
        "configmap",
        "muster-ca",
        "--namespace",
        &own.name,
        &format!("--from-file={ca}"),
    ];
    kubectl(&own.cluster, &map, "")?;
    Ok(pem)
}

/// Puts names of this test where the manifest has those of a usual installation, and the volume
/// that it offers where there is no storage class.
fn substitute(manifest: &str, own: &str) -> anyhow::Result<String> {
    let (text, _claims) = manifest
        .split_once("  volumeClaimTemplates:\n")
        .context("the manifest has no volumeClaimTemplates at its end")?;
    let mut text = text.to_owned();
    let replacements = [
        ("namespace: muster\n", format!("namespace: {own}\n")),
        ("muster/server:0.1.0", image::server()),
        (
            "        # - name: data\n        #   emptyDir: {}\n",
            "        - name: data\n          emptyDir: {}\n".to_owned(),
        ),
    ];
    for (from, to) in replacements {
        ensure!(text.contains(from), "the manifest does not hold '{from}'");
        text = text.replace(from, &to);
    }
    Ok(text)
}
