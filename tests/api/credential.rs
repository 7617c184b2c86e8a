//! Credentials on an agent that runs steps as processes: stored at the server, given to the run
//! that names them, and found nowhere else.

use std::path::Path;

use anyhow::ensure;
use muster_proto::v1::{UpdateCredentialRequest, execution::State, step_result::State as Step};
use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    run::{Client, PROJECT, Run, step},
};

/// Stands in no manifest here: steps print what it comes to.
const VALUE: &str = "correct-horse-battery-staple";

async fn set(client: &Client, name: &str, value: &str) -> anyhow::Result<()> {
    let request = UpdateCredentialRequest {
        name: format!("{PROJECT}/credentials/{name}"),
        value: value.to_owned(),
        allow_missing: true,
        ..UpdateCredentialRequest::default()
    };
    client.credentials().update_credential(request).await?;
    Ok(())
}

const EVERYWHERE: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: everywhere
spec:
  config:
    stage: {type: string, default: test}
  container:
    env:
    - {name: TOKEN, value: '{{ credential("token") }}'}
  content:
    files:
    - {path: /data/conf, content: 'password={{ credential("login-" + config.stage, true) }}'}
  services:
    helper:
      env: [{name: T, value: '{{ credential("token") }}'}]
      readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
      shell: |
        test ${#T} = {{ len(credential("token")) }} && touch /tmp/ready
        exec sleep 600
  steps:
  - name: variable
    shell: printf %s "$TOKEN" | wc -c
  - name: file
    shell: |
      test "$(cat /data/conf)" = "password=me:$TOKEN"
  - name: argument
    run:
      command: [sh, -c, 'test "$1" = "$TOKEN"', sh]
      args: ['{{ credential("token") }}']
  - name: text
    shell: |
      test '{{ credential("token") }}' = "$TOKEN"
  - name: workers
    parallel:
      matrix: {user: [ann, bob]}
      shell: test '{{ credential("user-" + matrix.user) }}' = 'of {{ matrix.user }}' && test -n "$TOKEN"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_reaches_each_place_that_names_it_and_no_other() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    set(&server.client, "token", VALUE).await?;
    let login = "me:{{ credential('token') }}";
    set(&server.client, "login-test", login).await?;
    set(&server.client, "user-ann", "of ann").await?;
    set(&server.client, "user-bob", "of bob").await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(EVERYWHERE, None).await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    let counted = log.of_step(&step(&execution, "variable")?.reference);
    ensure!(counted.trim() == VALUE.len().to_string(), "{counted}");
    ensure!(!format!("{execution:?}").contains(VALUE));
    // Database, blobs, logs of server and agent, and what the agent has left.
    // The folders of an attempt are removed behind its end.
    let mut found = Vec::new();
    for _ in 0..100 {
        found.clear();
        holding(server.folder(), VALUE, &mut found)?;
        if found.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("{found:?}")
}

/// Every file below a folder that has these bytes.
fn holding(folder: &Path, text: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        // Removed meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            holding(&path, text, found)?;
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        if bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}

const ASKING: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: asking
spec:
  steps:
  - name: missing
    shell: echo never {{ credential("missing") }}
  - name: made up
    condition: always
    shell: echo never {{ eval("credential('" + env.WHICH + "')") }}
    container: {env: [{name: WHICH, value: token}]}
  - name: after
    condition: always
    shell: test '{{ credential("other") }}' = x
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_not_named_fails_its_step_with_the_cure() -> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    set(&server.client, "token", VALUE).await?;
    set(&server.client, "other", "x").await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run: Run = server.client.start(ASKING, None).await?;
    let execution = run.ends_as(State::Failed).await?;
    for (name, cure) in [
        ("missing", "muster credentials set missing"),
        ("made up", "does not name the credential 'token'"),
    ] {
        let step = step(&execution, name)?;
        ensure!(step.state() == Step::Failed, "{step:?}");
        ensure!(step.reason == "CREDENTIAL", "{step:?}");
        ensure!(step.message.contains(cure), "{step:?}");
    }
    ensure!(step(&execution, "after")?.state() == Step::Passed);
    ensure!(!run.printed().await?.contains("never"));
    Ok(())
}
