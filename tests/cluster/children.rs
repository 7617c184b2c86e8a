//! Workers over several clusters, and suites whose members have services: one tree comes back.

use std::collections::BTreeSet;

use anyhow::ensure;
use muster_proto::v1::{Execution, child_origin::Role, execution::State};
use muster_tests::{
    agent::{Agent, LABEL},
    cluster::Clusters,
    control_plane::ControlPlane,
    namespace::Namespace,
    run::Run,
    site::Site,
};

const WORKERS: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: spread
spec:
  container:
    image: alpine:3.22.0
  steps:
  - name: prepare
    shell: |
      mkdir -p /data/in /data/out
      echo "given by the parent" > /data/in/given.txt
  - name: work
    parallel:
      count: 20
      target:
        match: {site: [first, second]}
      shards:
        numbers: 'range(100)'
      transfer:
      - from: /data/in
      fetch:
      - from: /data/out
      shell: |
        set -e
        grep -q "given by the parent" /data/in/given.txt
        mkdir -p /data/out
        echo "{{ join(shard.numbers, ' ') }}" > /data/out/{{ index }}.txt
        test {{ index }} != 7
  - name: report
    condition: always
    shell: |
      set -e
      cat /data/out/*.txt | tr ' ' '\n' | sort -n > /data/all.txt
      seq 0 99 > /data/expected.txt
      cmp /data/all.txt /data/expected.txt
      echo "all numbers came back"
    artifacts:
      workingDir: /data
      paths: [all.txt]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_workers_over_two_clusters_give_one_report() -> anyhow::Result<()> {
    let Some(clusters) = Clusters::from_environment()? else {
        return Ok(());
    };
    let server = ControlPlane::start_at(clusters.host).await?;
    let last = clusters.all.len() - 1;
    let here = Namespace::create(&clusters.all[0], "baseline").await?;
    let there = Namespace::create(&clusters.all[last], "baseline").await?;
    let limit = ["--capacity", "6"];
    let _first = Agent::with_arguments(&server, "first", &clusters, &here, &limit).await?;
    let _second = Agent::with_arguments(&server, "second", &clusters, &there, &limit).await?;
    let started = server.client.start(WORKERS, Some((LABEL, "first"))).await?;
    let execution = started.ends_as(State::Failed).await?;
    ensure!(
        execution.message.contains("1 of 20 workers did not pass"),
        "{}",
        execution.message
    );
    let log = started.whole_log().await?;
    ensure!(
        log.text().contains("all numbers came back"),
        "{}",
        log.text()
    );
    ensure!(started.artifact("all.txt").await?.len() == 290);

    ensure!(
        execution.children.len() == 20,
        "{}",
        execution.children.len()
    );
    let failed: Vec<_> = execution
        .children
        .iter()
        .filter(|child| child.state() != State::Passed)
        .collect();
    ensure!(failed.len() == 1 && failed[0].display_name.ends_with(".7"));
    let mut agents = BTreeSet::new();
    for child in &execution.children {
        let child = Run::of(&server.client, child.name.clone()).now().await?;
        agents.extend(child.attempts.into_iter().map(|attempt| attempt.agent));
    }
    ensure!(agents.len() == 2, "only on {agents:?}");
    here.expect_clean().await?;
    there.expect_clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_of_the_second_run_are_balanced_by_what_the_first_has_measured() -> anyhow::Result<()>
{
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let shards = include_str!("../../examples/shards.yaml");
    for expected in [
        [
            ["checkout.sh", "login.sh"].as_slice(),
            &["search.sh", "signup.sh"],
        ],
        [&["checkout.sh"], &["login.sh", "search.sh", "signup.sh"]],
    ] {
        let run = site.start(shards).await?;
        run.ends_as(State::Passed).await?;
        let mut found = Vec::new();
        for worker in run.children(2).await? {
            let log = worker.whole_log().await?.text();
            let ran = log.lines().filter_map(|line| line.strip_prefix("runs "));
            found.push(ran.map(str::to_owned).collect::<Vec<_>>());
        }
        found.sort();
        ensure!(found == expected, "{found:?} in place of {expected:?}");
        // Durations come from reports.
        run.test_cases().await?;
    }
    site.namespace.expect_clean().await
}

const SUITE: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: suite
spec:
  steps:
  - name: all
    execute:
      workflows:
      - selector:
          matchLabels: {suite: "yes"}
"#;

fn member(name: &str) -> String {
    format!(
        r#"---
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: {name}
  labels: {{suite: "yes"}}
spec:
  services:
    web:
      readinessProbe:
        httpGet: {{path: /hello.txt, port: 8080}}
        periodSeconds: 1
      shell: |
        mkdir -p /data/www
        echo "hello from {name}" > /data/www/hello.txt
        exec /bin/busybox httpd -f -p 8080 -h /data/www
  steps:
  - name: ask
    shell: |
      wget -q -O - http://{{{{ services.web.0.ip }}}}:8080/hello.txt
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_of_workflows_with_services_gives_one_tree() -> anyhow::Result<()> {
    let Some(site) = Site::open("baseline").await? else {
        return Ok(());
    };
    let names = ["one", "two", "three"];
    let members: String = names.into_iter().map(member).collect();
    let started = start(&site, &format!("{SUITE}{members}"), "suite").await?;
    let execution = started.ends_as(State::Passed).await?;
    ensure!(execution.children.len() == 3);
    for child in &execution.children {
        ensure!(role(child) == Some(Role::Member), "{child:?}");
        let run = Run::of(&site.server.client, child.name.clone());
        let child = run.now().await?;
        let log = run.whole_log().await?;
        let hello = format!("hello from {}\n", child.workflow);
        ensure!(log.text().contains(&hello), "{}", log.text());
        ensure!(child.children.len() == 1 && role(&child.children[0]) == Some(Role::Service));
        ensure!(child.children[0].state() == State::Passed);
    }
    site.namespace.expect_clean().await
}

fn role(execution: &Execution) -> Option<Role> {
    execution.origin.as_ref().map(|origin| origin.role())
}

async fn start(site: &Site, manifest: &str, workflow: &str) -> anyhow::Result<Run> {
    let run = site.server.client.start_one(manifest, workflow).await;
    Ok(run?)
}
