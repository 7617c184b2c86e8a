//! Images of all kinds: without a shell, with an ENTRYPOINT, with a user, and one that is not there.

use anyhow::ensure;
use muster_proto::v1::{execution::State, step_result::State as Step};
use muster_tests::{run::step, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn image_without_a_shell_runs_programs_and_scripts() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: shell-less
spec:
  steps:
  - name: program
    run:
      image: muster/scratch:1
      command: ["/busybox", "echo", "started directly"]
  - name: script
    run:
      image: muster/scratch:1
      shell: |
        echo "from the bundled shell" | tr a-z A-Z
        test ! -e /bin/sh
"#,
        )
        .await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    let program = log.of_step(&step(&execution, "program")?.reference);
    ensure!(program == "started directly\n", "{program}");
    let script = log.of_step(&step(&execution, "script")?.reference);
    ensure!(script == "FROM THE BUNDLED SHELL\n", "{script}");
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn entrypoint_and_cmd_of_the_image_hold_where_a_step_gives_none() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: entrypoint
spec:
  steps:
  - name: both
    run:
      image: muster/entrypoint:1
  - name: arguments
    run:
      image: muster/entrypoint:1
      args: ["own-argument"]
  - name: command
    run:
      image: muster/entrypoint:1
      command: ["/bin/pwd"]
"#,
        )
        .await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    for (name, output) in [
        ("both", "from-entrypoint default-argument\n"),
        ("arguments", "from-entrypoint own-argument\n"),
        ("command", "/data\n"),
    ] {
        let printed = log.of_step(&step(&execution, name)?.reference);
        ensure!(printed == output, "{name} printed {printed}");
    }
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_directory_of_the_image_hold() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: nonroot
spec:
  container:
    image: muster/nonroot:1
  steps:
  - name: who
    shell: |
      echo "$(id -u) in $PWD"
      echo mine > /data/mine
  - name: files
    artifacts:
      workingDir: /data
      paths: [mine]
"#,
        )
        .await?;
    let execution = run.ends_as(State::Passed).await?;
    let log = run.whole_log().await?;
    let who = log.of_step(&step(&execution, "who")?.reference);
    ensure!(who == "1000 in /home/app\n", "{who}");
    ensure!(run.artifact("mine").await? == b"mine\n");
    site.namespace.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn image_that_can_not_be_pulled_fails_its_step_in_the_words_of_the_kubelet()
-> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let run = site
        .start(
            r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: no-image
spec:
  steps:
  - name: fine
    run:
      image: alpine:3.22.0
      shell: echo fine
  - name: missing
    run:
      image: muster/there-is-none:1
      command: ["true"]
  - name: later
    run:
      image: alpine:3.22.0
      shell: echo never
  after:
  - name: always
    condition: always
    run:
      image: alpine:3.22.0
      shell: echo after
"#,
        )
        .await?;
    let execution = run.ends_as(State::Failed).await?;
    ensure!(step(&execution, "fine")?.state() == Step::Passed);
    let missing = step(&execution, "missing")?;
    ensure!(missing.state() == Step::Failed, "{missing:?}");
    ensure!(missing.reason == "IMAGE_PULL", "{missing:?}");
    ensure!(
        missing.message.contains("muster/there-is-none:1"),
        "{missing:?}"
    );
    ensure!(missing.message.contains("not found"), "{missing:?}");
    ensure!(step(&execution, "later")?.state() == Step::Skipped);
    ensure!(step(&execution, "always")?.state() == Step::Passed);
    run.whole_log().await?;
    site.namespace.expect_clean().await
}
