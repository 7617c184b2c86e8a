//! What pods get from Secrets and config maps of their cluster: variables, volumes, files, and what opens
//! repositories; and what is written on the Job itself.

use std::{
    collections::BTreeMap, fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use kube::{
    ResourceExt as _,
    api::{ListParams, ObjectMeta, PostParams},
};
use muster_proto::v1::execution::State;
use muster_tests::{port, process::Process, site::Site, wait};

const MANIFEST: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: references
spec:
  container:
    image: alpine:3.22.0
  job:
    labels: {kind: references}
    annotations: {example.com/note: kept}
  pod:
    imagePullSecrets: [{name: login}]
    volumes:
    - {name: settings, configMap: {name: settings}}
    - {name: login, secret: {secretName: login, items: [{key: odd, path: part}]}}
  content:
    git:
      uri: http://HOST:WEB/cgi-bin/git/tests.git
      username: robot
      tokenFrom: {secretKeyRef: {name: login, key: token}}
    files:
    - {path: /data/of-map, contentFrom: {configMapKeyRef: {name: settings, key: greeting}}}
    - {path: /data/of-secret, contentFrom: {secretKeyRef: {name: login, key: odd}}, mode: 0400}
  steps:
  - name: content
    shell: |
      test "$(cat /data/repo/file)" = kept
      test "$(cat /data/of-map)" = hello
      test "$(cat /data/of-secret)" = "$(cat /odd)"
      test "$(stat -c %a /data/of-secret)" = 400
    container: &odd
      volumeMounts: [{name: login, mountPath: /odd, subPath: part}]
  - name: variables
    container:
      <<: *odd
      env:
      - {name: ODD, valueFrom: {secretKeyRef: {name: login, key: odd}}}
      - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
      - {name: NONE, valueFrom: {secretKeyRef: {name: login, key: none}}}
      envFrom:
      - {prefix: S_, configMapRef: {name: settings}}
      - {secretRef: {name: login}}
      - {configMapRef: {name: none, optional: true}}
    shell: |
      test "$ODD" = "$(cat /odd)"
      test "$GREETING $S_greeting" = "hello hello"
      test -z "$NONE"
      test "$token" = TOKEN
      echo "shown: $token, $ODD."
      printf %s "$token" | base64
  - name: function
    container: *odd
    run:
      command: [sh, -ec]
      args: ['test "$0" = "$(cat /odd)"', '{{ secret("login", "odd") }}']
  - name: volume
    container: {volumeMounts: [{name: settings, mountPath: /settings}]}
    shell: test "$(cat /settings/greeting)" = hello && ! touch /settings/x 2>/dev/null
  - name: key
    content:
      git:
        uri: ssh://root@HOST:SSH/PATH
        sshKeyFrom: {secretKeyRef: {name: login, key: key}}
        mountPath: /data/by-key
    shell: test "$(cat /data/by-key/file)" = kept
"#;

const TOKEN: &str = "t0ken-that-nobody-may-see";
/// Reaches what asks for it as it is, or not at all.
const ODD: &str = "it's \"odd\" $HOME {{ 1 + 1 }} \\ `x`";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_maps_reach_steps_files_and_fetches() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let host = site.clusters.host;
    let (web, ssh) = (port::free(host)?, port::free(host)?);
    let served = Repositories::serve(folder.path(), host, web, ssh).await?;
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    };
    let settings = ConfigMap {
        metadata: named("settings"),
        data: Some(texts(&[("greeting", "hello")])),
        ..ConfigMap::default()
    };
    let values = texts(&[("token", TOKEN), ("odd", ODD), ("key", &served.key)]);
    let login = Secret {
        metadata: named("login"),
        data: Some(
            values
                .into_iter()
                .map(|(k, v)| (k, ByteString(v.into_bytes())))
                .collect(),
        ),
        ..Secret::default()
    };
    let parameters = PostParams::default();
    site.namespace
        .api::<ConfigMap>()
        .create(&parameters, &settings)
        .await?;
    site.namespace
        .api::<Secret>()
        .create(&parameters, &login)
        .await?;
    let manifest = MANIFEST
        .replace("HOST", &host.to_string())
        .replace("WEB", &web.to_string())
        .replace("SSH", &ssh.to_string())
        .replace("TOKEN", TOKEN)
        .replace("/PATH", &served.path);

    let run = site.start(&manifest).await?;
    expect_job(&site).await?;
    run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?.text();
    ensure!(
        !log.contains(TOKEN) && !log.contains("PRIVATE KEY") && !log.contains(ODD),
        "{log}"
    );
    ensure!(log.contains("shown: ***, ***.\n"), "{log}");
    ensure!(!log.contains("dDBrZW4tdGhhdC1ub2JvZHktbWF5LXNlZ"), "{log}");
    let left = site.namespace.objects().await?;
    ensure!(left.contains(&"secret/login".to_owned()), "{left:?}");
    site.namespace
        .api::<Secret>()
        .delete("login", &kube::api::DeleteParams::default())
        .await?;
    site.namespace.expect_clean().await
}

/// The Job bears what the workflow wants on it, and its pod may pull images with the Secret.
async fn expect_job(site: &Site) -> anyhow::Result<()> {
    let all = ListParams::default();
    let (jobs, pods) = (site.namespace.api::<Job>(), site.namespace.api::<Pod>());
    let pod = wait::until("the pod", async || {
        Ok(pods.list(&all).await?.items.into_iter().next())
    })
    .await?;
    let job = jobs
        .list(&all)
        .await?
        .items
        .into_iter()
        .next()
        .context("no Job")?;
    ensure!(
        job.labels().get("kind").map(String::as_str) == Some("references"),
        "{:?}",
        job.labels()
    );
    let note = job.annotations().get("example.com/note");
    ensure!(
        note.map(String::as_str) == Some("kept"),
        "{:?}",
        job.annotations()
    );
    let pull = pod
        .spec
        .and_then(|spec| spec.image_pull_secrets)
        .unwrap_or_default();
    ensure!(pull.iter().any(|secret| secret.name == "login"), "{pull:?}");
    Ok(())
}

/// A repository behind a token by HTTP, and behind a key by ssh.
struct Repositories {
    /// Where it is on this machine.
    path: String,
    /// What opens it by ssh.
    key: String,
    _servers: [Process; 2],
}

impl Repositories {
    async fn serve(folder: &Path, host: IpAddr, web: u16, ssh: u16) -> anyhow::Result<Self> {
        let at = |name: &str| folder.join(name).display().to_string();
        let script = "
            set -e
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
            git init -q -b main work; cd work; echo kept > file; git add .; git commit -q -m first; cd ..
            mkdir -p served cgi-bin; git clone -q --bare work served/tests.git
            for name in host user; do ssh-keygen -q -t ed25519 -N '' -f $name; done";
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder)
            .status()?;
        ensure!(made.success(), "the repository was not made");
        let backend = format!(
            "#!/bin/sh\nexport GIT_PROJECT_ROOT='{}' GIT_HTTP_EXPORT_ALL=1\n\
             export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n\
             exec git http-backend\n",
            at("served")
        );
        fs::write(at("cgi-bin/git"), backend)?;
        fs::set_permissions(at("cgi-bin/git"), fs::Permissions::from_mode(0o755))?;
        fs::write(at("httpd.conf"), format!("/:robot:{TOKEN}\n"))?;
        let listen = format!("{host}:{web}");
        let arguments = [
            "httpd",
            "-f",
            "-p",
            &listen,
            "-h",
            &at("."),
            "-c",
            &at("httpd.conf"),
        ];
        let web_server = Process::start("web", Path::new("busybox"), arguments, &[], folder)?;
        let settings = format!(
            "ListenAddress {host}:{ssh}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            at("host"),
            at("user.pub"),
        );
        fs::write(at("sshd.conf"), settings)?;
        if fs::metadata("/run/sshd").is_err() {
            fs::create_dir_all("/run/sshd")?;
        }
        let arguments = ["-D", "-e", "-f", &at("sshd.conf")];
        let program = Path::new("/usr/sbin/sshd");
        let ssh_server = Process::start("sshd", program, arguments, &[], folder)?;
        for port in [web, ssh] {
            wait::until("the servers listen", async || {
                Ok(std::net::TcpStream::connect((host, port)).ok().map(drop))
            })
            .await?;
        }
        Ok(Self {
            path: at("served/tests.git"),
            key: fs::read_to_string(at("user"))?,
            _servers: [web_server, ssh_server],
        })
    }
}
