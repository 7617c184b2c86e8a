//! Files of a run on an agent that runs steps as processes, from the step to the store.

use anyhow::{Context as _, ensure};
use muster_proto::v1::execution::State;
use muster_tests::{
    agent::Agent,
    control_plane::ControlPlane,
    peak::Peak,
    proxy::{Proxy, Wire},
    run::Run,
};

/// A large file that is all hole but its end, many small ones, and some that nobody should keep.
const FILES: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: files
spec:
  steps:
  - name: Make
    shell: |
      mkdir -p /data/out/many && cd /data/out
      truncate -s 512M large && echo end >> large
      i=0; while [ $i -lt 500 ]; do echo $i > many/$i; i=$((i+1)); done
      echo odd > "$(printf 'new\nline')"
      ln -s /etc/passwd escape && mkfifo pipe
    artifacts:
      workingDir: /data/out
      paths: ["**"]
"#;
/// Bytes of the large file.
const LARGE: i64 = (512 << 20) + 4;
/// `sha256sum` of it.
const DIGEST: &str = "458275b13f381159d4f8122f516b2061bc3b403ce222314e16101fb7421711e8";
/// Most memory of a process that such a file passes through, in KiB; by far less than the file.
const MOST_MEMORY: u64 = 200 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_sparse_file_and_many_small_ones_come_whole_through_little_memory()
-> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let agent = Agent::on_this_machine(&server, "here").await?;
    let ids = [
        server.id().context("the server's process")?,
        agent.id().context("the agent's process")?,
    ];
    let peak = Peak::watch(ids);
    let run = server.client.start(FILES, None).await?;
    run.ends_as(State::Passed).await?;
    for (name, peak) in ["server", "agent", "run"].iter().zip(peak.end().await) {
        ensure!(peak > 0 && peak < MOST_MEMORY, "{name}: {peak} KiB");
    }
    let artifacts = run.artifacts().await?;
    let large = artifacts.iter().find(|file| file.path == "large");
    let large = large.context("the large file")?;
    ensure!(
        large.size_bytes == LARGE && large.sha256 == DIGEST,
        "{large:?}"
    );
    let many = artifacts
        .iter()
        .filter(|file| file.path.starts_with("many/"));
    ensure!(
        many.count() == 500 && artifacts.len() == 501,
        "{}",
        artifacts.len()
    );
    ensure!(run.artifact("many/77").await? == b"77\n");
    let log = run.printed().await?;
    for told in [
        r"new\nline: the path has control characters",
        "escape: a link",
        "pipe: not a plain",
    ] {
        ensure!(log.contains(told), "{told}: {log}");
    }
    let missing = run.missing().await?;
    let [odd] = &missing[..] else {
        anyhow::bail!("{missing:?}");
    };
    let told = (odd.path.as_str(), odd.reason.as_str(), odd.step.as_str());
    ensure!(
        told == (r"new\nline", "BAD_NAME", large.step.as_str()),
        "{odd:?}"
    );
    Ok(())
}

/// Leaves files that can not be kept, in many ways. The step fails: that changes nothing of it.
const HOSTILE: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: hostile
spec:
  steps:
  - name: Make
    shell: |
      mkdir -p /data/out /data/deep && cd /data/out
      head -c 3000000 /dev/urandom > random
      cd /data/deep && truncate -s 1T huge && echo small > small && : > "$(printf 'esc\033[2J')"
      i=0; while [ $i -lt 210 ]; do mkdir d && cd d; i=$((i+1)); done; exit 3
    artifacts:
      workingDir: /data/out
      paths: ["**"]
  - name: Packed
    condition: always
    artifacts:
      workingDir: /data/out
      paths: [random]
      compress: {name: packed.tar.gz}
  - name: Deep
    condition: always
    artifacts:
      workingDir: /data/deep
      paths: ["**"]
      compress: {name: deep.tar.gz}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_kept_is_named_with_its_reason() -> anyhow::Result<()> {
    let server = ControlPlane::start_with(&["--max-artifact-size", "1MiB"]).await?;
    let _agent = Agent::on_this_machine(&server, "here").await?;
    let run = server.client.start(HOSTILE, None).await?;
    run.ends_as(State::Failed).await?;
    let missing = run.missing().await?;
    let reason = |path: &str| {
        let found = missing.iter().find(|file| file.path == path);
        found.map(|file| (file.reason.as_str(), file.message.as_str()))
    };
    for (path, expected, words) in [
        ("random", "TOO_LARGE", "--max-artifact-size"),
        ("packed.tar.gz", "TOO_LARGE", "--max-artifact-size"),
        ("huge", "TOO_LARGE", "107374182400"),
        (r"esc\u{1b}[2J", "BAD_NAME", "control characters"),
    ] {
        let (found, message) = reason(path).with_context(|| path.to_owned())?;
        ensure!(
            found == expected && message.contains(words),
            "{path}: {message}"
        );
    }
    let of = |wanted| missing.iter().filter(move |file| file.reason == wanted);
    let deep: Vec<_> = of("TOO_DEEP").collect();
    ensure!(
        deep.len() == 1 && deep[0].path.starts_with("d/d/"),
        "{deep:?}"
    );
    let artifacts = run.artifacts().await?;
    let paths: Vec<_> = artifacts.iter().map(|file| file.path.as_str()).collect();
    ensure!(
        paths == ["deep.tar.gz"] && missing.len() == 5,
        "{missing:?}"
    );
    let (_, said) = server
        .muster(&["artifacts", &name_of(&run).await?, "--path", "huge"])
        .await?;
    ensure!(
        said.contains("missing: huge: it has 1099511627776 bytes"),
        "{said}"
    );
    Ok(())
}

/// The name by which people know a run.
async fn name_of(run: &Run) -> anyhow::Result<String> {
    Ok(run.now().await?.display_name)
}

/// A file of a hundred megabytes that nothing on its way makes smaller.
const NOISE: &str = r#"
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: noise
spec:
  steps:
  - name: Make
    shell: |
      mkdir -p /data/out && cd /data/out
      head -c 100000000 /dev/urandom > noise
      sha256sum < noise
    artifacts:
      workingDir: /data/out
      paths: ["**"]
"#;
const NOISE_SIZE: u64 = 100_000_000;
/// After so many bytes the line between agent and server breaks, every time.
const LINE: u64 = 30_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_longer_than_the_line_ever_holds_comes_and_goes_on_where_it_broke()
-> anyhow::Result<()> {
    let server = ControlPlane::start().await?;
    let address = server.url.split_once("://").context("a URL")?.1;
    let wire = Proxy::before(address.parse()?).await?;
    wire.set(Wire::CutEach(LINE));
    let _agent = Agent::by_a_wire_on_this_machine(&server, "here", &wire).await?;
    let run = server.client.start(NOISE, None).await?;
    run.ends_as(State::Passed).await?;
    let artifacts = run.artifacts().await?;
    let [noise] = artifacts.as_slice() else {
        anyhow::bail!("{artifacts:?}")
    };
    ensure!(u64::try_from(noise.size_bytes)? == NOISE_SIZE, "{noise:?}");
    let log = run.printed().await?;
    ensure!(log.contains(&noise.sha256), "{noise:?}: {log}");
    // Three connections can not bring it, and what came was not sent again.
    let (cuts, carried) = (wire.cuts(), wire.carried());
    ensure!((3..=6).contains(&cuts), "cut {cuts} times");
    ensure!(
        carried < NOISE_SIZE + NOISE_SIZE / 5,
        "{carried} bytes were sent"
    );
    Ok(())
}
