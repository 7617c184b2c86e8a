//! `muster-bench artifacts`: how fast a file comes from a step into the blob store and out again, through
//! conductor, agent and server, beside the same bytes put and got straight by `object_store`; how fast
//! many small files come; and the most memory that each process had meanwhile. Needs no cluster.

mod bare;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use muster_proto::v1::{DownloadArtifactRequest, execution::State};
use muster_tests::{
    agent::Agent,
    control_plane::{ControlPlane, Options as Server},
    peak::Peak,
    run::step,
};

use self::bare::Bare;
use crate::report::mebibytes;

const USAGE: &str = "\
usage: muster-bench artifacts [--mebibytes N] [--rounds N] [--small N] [--sparse N] [--blobs URL] [--direct]

  --mebibytes N  size of the file (default 1024)
  --rounds N     rounds of each kind, in turn; medians are printed (default 3)
  --small N      files of 100 bytes, for files a second (default 10000)
  --sparse N     mebibytes of a sparse file that is sent once at the end, for memory (default 5120)
  --blobs URL    an S3 store in the place of files, as for `muster server`
  --direct       files go to that store around agent and server";

struct Options {
    mebibytes: u64,
    rounds: u64,
    small: u64,
    sparse: u64,
    blobs: Option<String>,
    direct: bool,
}

/// What one round took, in seconds.
#[derive(Debug, Default)]
struct Rounds {
    put: Vec<f64>,
    upload: Vec<f64>,
    get: Vec<f64>,
    download: Vec<f64>,
}

/// Runs it.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let url = match &options.blobs {
        Some(url) => url.clone(),
        None => format!("file://{}", folder.path().join("blobs").display()),
    };
    let mut arguments = vec!["--max-artifact-size", "48GiB"];
    arguments.extend(options.direct.then_some("--direct-uploads"));
    let server = Server::of(&arguments).with_blobs(&url);
    let server = ControlPlane::start_as(Ipv4Addr::LOCALHOST.into(), server).await?;
    let agent = Agent::on_this_machine(&server, "bench").await?;
    let bare = Bare::open(&url, folder.path())?;
    let ids = [
        server.id().context("the server's process")?,
        agent.id().context("the agent's process")?,
    ];
    let mut rounds = Rounds::default();
    let peak = Peak::watch(ids);
    for _ in 0..options.rounds {
        let bytes = options.mebibytes << 20;
        rounds.put.push(bare.put(options.mebibytes).await?);
        let (upload, name) = upload(&server, &random(options.mebibytes), bytes).await?;
        rounds.upload.push(upload);
        rounds.get.push(bare.get(bytes).await?);
        rounds.download.push(download(&server, name, bytes).await?);
    }
    let busy = peak.end().await;
    let small = match options.small {
        0 => 0.0,
        count => upload(&server, &many(count), count * 100).await?.0,
    };
    let peak = Peak::watch(ids);
    let sparse = match options.sparse {
        0 => 0.0,
        size => upload(&server, &holes(size), size << 20).await?.0,
    };
    print(&options, &mut rounds, small, sparse, busy, peak.end().await);
    Ok(())
}

/// A workflow whose last step does nothing but keep what the first has made.
fn workflow(make: &str) -> String {
    format!(
        "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: artifacts
spec:
  steps:
  - name: Make
    shell: mkdir -p /data/out && cd /data/out && {make}
  - name: Keep
    artifacts:
      workingDir: /data/out
      paths: ['*']
"
    )
}

fn random(mebibytes: u64) -> String {
    workflow(&format!("head -c {mebibytes}M /dev/urandom > file"))
}

fn holes(mebibytes: u64) -> String {
    workflow(&format!("truncate -s {mebibytes}M file"))
}

fn many(count: u64) -> String {
    let bytes = count * 100;
    workflow(&format!(
        "head -c {bytes} /dev/urandom > ../all && split -b 100 -a 5 ../all f"
    ))
}

/// Runs a workflow. Returns how long its second step took, and the name of its first artifact.
async fn upload(
    server: &ControlPlane,
    workflow: &str,
    bytes: u64,
) -> anyhow::Result<(f64, String)> {
    let run = server.client.start(workflow, None).await?;
    let done = run.ends_as(State::Passed).await?;
    let keep = step(&done, "Keep")?;
    let time = |time: Option<prost_types::Timestamp>| {
        let time = time.context("a step without a time")?;
        Duration::try_from(prost_types::Duration {
            seconds: time.seconds,
            nanos: time.nanos,
        })
        .context("a time before 1970")
    };
    let took = time(keep.finish_time)?.saturating_sub(time(keep.start_time)?);
    let artifacts = run.artifacts().await?;
    let first = artifacts.first().context("no artifact")?;
    if artifacts.len() == 1 {
        ensure!(
            u64::try_from(first.size_bytes)? == bytes,
            "{first:?} is not whole"
        );
    }
    Ok((took.as_secs_f64(), first.name.clone()))
}

async fn download(server: &ControlPlane, name: String, bytes: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let request = DownloadArtifactRequest { name, offset: 0 };
    let mut artifacts = server.client.artifacts();
    let mut stream = artifacts.download_artifact(request).await?.into_inner();
    let mut size = 0;
    while let Some(message) = stream.message().await? {
        size += message.data.len() as u64;
    }
    ensure!(size == bytes, "{size} bytes of {bytes}");
    Ok(begun.elapsed().as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "the purpose of this program")]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn print(
    options: &Options,
    rounds: &mut Rounds,
    small: f64,
    sparse: f64,
    busy: [u64; 3],
    flat: [u64; 3],
) {
    let size = options.mebibytes as f64;
    let [put, upload, get, download] = [
        &mut rounds.put,
        &mut rounds.upload,
        &mut rounds.get,
        &mut rounds.download,
    ]
    .map(|seconds| size / median(seconds));
    println!(
        "| one file of {size} MiB, median of {} | MiB/s | ratio |",
        options.rounds
    );
    println!("| --- | ---: | ---: |");
    println!("| put straight into the store | {put:.0} | 1.00 |");
    println!("| step to store | {upload:.0} | {:.2} |", upload / put);
    println!("| got straight from the store | {get:.0} | 1.00 |");
    println!(
        "| store to client | {download:.0} | {:.2} |",
        download / get
    );
    println!();
    let files = options.small as f64 / small;
    println!(
        "{} files of 100 bytes: {small:.1} s, {files:.0}/s",
        options.small
    );
    println!("sparse file of {} MiB: {sparse:.1} s", options.sparse);
    println!();
    println!("| most memory, RSS in MiB | server | agent | processes of the run |");
    println!("| --- | ---: | ---: | ---: |");
    for (what, peak) in [("files as above", busy), ("sparse file", flat)] {
        let [server, agent, run] = peak.map(mebibytes);
        println!("| {what} | {server:.0} | {agent:.0} | {run:.0} |");
    }
    println!();
    println!(
        "{}",
        serde_json::json!({
            "mebibytes": options.mebibytes,
            "uploadToPut": upload / put,
            "downloadToGet": download / get,
            "smallFilesPerSecond": files,
            "sparseSeconds": sparse,
            "peakKib": [busy, flat],
        })
    );
}

/// The one in the middle.
fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        mebibytes: 1024,
        rounds: 3,
        small: 10_000,
        sparse: 5120,
        blobs: None,
        direct: false,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        if flag == "--direct" {
            options.direct = true;
            continue;
        }
        let value = arguments.next().context("a flag without a value")?;
        let number = || {
            value
                .parse::<u64>()
                .with_context(|| format!("{flag} {value}"))
        };
        match flag.as_str() {
            "--mebibytes" => options.mebibytes = number()?.max(1),
            "--rounds" => options.rounds = number()?.max(1),
            "--small" => options.small = number()?,
            "--sparse" => options.sparse = number()?,
            "--blobs" => options.blobs = Some(value),
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
