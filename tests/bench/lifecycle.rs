//! `muster-bench lifecycle`: how many executions a second go from submit to their result, with many
//! simulated agents over real gRPC, beside what the bare database takes; how soon agents have their
//! work, idle and at half load, with a long queue of others too; how fast all agents are back after
//! the server was killed. Needs no cluster. Server and load share the machine, as the figures say.

mod agent;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use muster_proto::v1::{
    BatchCreateExecutionsRequest, CreateExecutionRequest, CreateProjectRequest,
    CreateWorkflowRequest, create_execution_request::Source, create_execution_result,
};
use muster_tests::{control_plane::ControlPlane, memory::Memory, processor, run::PROJECT};

use self::agent::Done;
use crate::{figures::Figures, limit, report::mebibytes};

const USAGE: &str = "\
usage: muster-bench lifecycle [--agents N] [--executions N] [--callers N] [--batch N] [--capacity N]
                              [--latencies N] [--queued N] [--seconds N] [--outage true|false]
                              [--database URL]

  --agents N       simulated agents, each with a stream (default 1000)
  --executions N   executions in the batch (default 20000)
  --callers N      calls of CreateExecution at a time (default 256)
  --batch N        executions in a call of BatchCreateExecutions (default 64)
  --capacity N     attempts that an agent takes at a time (default 4)
  --latencies N    single executions on an idle server (default 300)
  --queued N       executions of another project that wait, which no agent may run (default 0)
  --seconds N      how long half load lasts (default 10)
  --outage BOOL    whether the server is killed, and agents connect again (default true)
  --database URL   PostgreSQL in the place of SQLite";

/// The project of those that only wait.
const CROWD: &str = "projects/crowd";
/// The workflow that is run.
const WORKFLOW: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: lifecycle
spec:
  steps:
  - name: Nothing
    shell: 'true'
";
/// The workflow that only waits.
const WAITING: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: waiting
spec:
  execution:
    target:
      match:
        nobody: [has-it]
  steps:
  - name: Nothing
    shell: 'true'
";

struct Options {
    agents: usize,
    executions: usize,
    callers: usize,
    batch: usize,
    capacity: u32,
    latencies: usize,
    queued: usize,
    seconds: u64,
    outage: bool,
    database: Option<String>,
}

fn add_latencies(figures: &mut Figures, key: &str, text: &str, sorted: &[f64]) {
    for (name, part) in [("P50", 0.5), ("P99", 0.99)] {
        let text = format!("{text}: call to assignment, {} ms", name.to_lowercase());
        figures.add(&format!("{key}{name}Ms"), &text, at(sorted, part), 1);
    }
}

/// Runs it.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let mut figures = Figures::default();
    measure(&options, &mut figures).await?;
    figures.print("lifecycle");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn measure(options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let database = options.database.as_ref();
    let extra: Vec<&str> = database.map_or_else(Vec::new, |url| vec!["--database", url]);
    let mut server = ControlPlane::start_with(&extra).await?;
    prepare(&server).await?;
    let done = Arc::new(Done::default());
    let connected = agent::connect(&server, options.agents, options.capacity, &done).await?;
    eprintln!("{} agents are connected", options.agents);
    let agents = options.agents as f64;
    let per_second = agents / connected.as_secs_f64();
    figures.add(
        "connectsPerSecond",
        "agents connected a second",
        per_second,
        0,
    );

    let idle = latencies(&server, &done, options.latencies).await?;
    add_latencies(figures, "idle", "idle", &idle);
    let id = server.id().context("the server runs")?;
    let alone = throughput(&server, &done, options, 1, figures).await?;
    let batched = throughput(&server, &done, options, options.batch, figures).await?;
    memory(figures, "memory", "memory of the server behind it, MiB", id)?;
    let file = server.folder().join("server/muster.db");
    let file = file.to_str().context("a path that is text")?;
    let database = options.database.as_deref();
    let limit = limit::measure(database, file, options.executions).await?;
    figures.add(
        "limitPerSecond",
        "bare database, executions a second",
        limit,
        0,
    );
    let best = alone.max(batched);
    figures.add("ratio", "of the bare database", best / limit, 2);

    let rate = alone / 2.0;
    let half = at_rate(&server, &done, rate, options.seconds).await?;
    add_latencies(figures, "half", "half load", &half);
    if options.queued > 0 {
        let begin = Instant::now();
        limit::fill(database, file, "waiting", options.queued).await?;
        eprintln!("{} wait after {:.0?}", options.queued, begin.elapsed());
        let crowded = at_rate(&server, &done, rate, options.seconds).await?;
        let text = format!("half load, {} of another project wait", options.queued);
        add_latencies(figures, "crowded", &text, &crowded);
        memory(
            figures,
            "crowdedMemory",
            "memory of the server behind it, MiB",
            id,
        )?;
    }
    if options.outage {
        outage(&mut server, options, &done, figures).await?;
    }
    Ok(())
}

fn memory(figures: &mut Figures, key: &str, text: &str, id: u32) -> anyhow::Result<()> {
    let rss = Memory::of_process(id)?.rss_kib;
    figures.add(&format!("{key}Mib"), text, mebibytes(rss), 0);
    Ok(())
}

/// The server is killed while each agent holds something.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn outage(
    server: &mut ControlPlane,
    options: &Options,
    done: &Done,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    done.hold.store(true, Ordering::SeqCst);
    let before = done.assigned.load(Ordering::SeqCst);
    submit_all(server, options.agents, options.callers).await?;
    done.wait(&done.assigned, before + options.agents).await?;
    server.kill()?;
    server.restart().await?;
    let begin = Instant::now();
    done.wait(&done.connected, options.agents).await?;
    let back = begin.elapsed().as_secs_f64();
    let text = format!("{} agents connected again, s", options.agents);
    figures.add("reconnectSeconds", &text, back, 1);
    agent::finish(done, options.agents).await?;
    let lost = done.lost.load(Ordering::SeqCst);
    figures.add("lostLeases", "leases lost by it", lost as f64, 0);
    let id = server.id().context("the server runs")?;
    memory(
        figures,
        "outageMemory",
        "memory of the server behind it, MiB",
        id,
    )
}

async fn prepare(server: &ControlPlane) -> anyhow::Result<()> {
    let project = CreateProjectRequest {
        project_id: "crowd".to_owned(),
        ..CreateProjectRequest::default()
    };
    server.client.projects().create_project(project).await?;
    for (parent, manifest) in [(PROJECT, WORKFLOW), (CROWD, WAITING)] {
        let workflow = CreateWorkflowRequest {
            parent: parent.to_owned(),
            manifest: manifest.to_owned(),
            ..CreateWorkflowRequest::default()
        };
        server.client.workflows().create_workflow(workflow).await?;
    }
    // What the others are made after.
    submit(server, CROWD, "waiting").await
}

/// The value below which this part of the values is.
fn at(sorted: &[f64], part: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a small list"
    )]
    let index = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// One execution after the other: milliseconds from the call to the assignment, sorted.
async fn latencies(server: &ControlPlane, done: &Done, count: usize) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let before = done.assigned.load(Ordering::SeqCst);
        let begin = Instant::now();
        submit(server, PROJECT, "lifecycle").await?;
        done.wait(&done.assigned, before + 1).await?;
        all.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// So many executions a second: milliseconds from each call to the assignment, sorted. All that is
/// submitted is taken in turn, so the n-th assignment answers the n-th call.
async fn at_rate(
    server: &ControlPlane,
    done: &Arc<Done>,
    rate: f64,
    seconds: u64,
) -> anyhow::Result<Vec<f64>> {
    let first = done.assigned.load(Ordering::SeqCst);
    let completed = done.completed.load(Ordering::SeqCst);
    let gap = Duration::from_secs_f64(1.0 / rate);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut calls = tokio::task::JoinSet::new();
    let mut begun = Vec::new();
    let mut next = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn({
        let (done, over) = (Arc::clone(done), Arc::clone(&over));
        async move {
            // When each assignment came.
            let mut came: Vec<Instant> = Vec::new();
            loop {
                let changed = done.changed.notified();
                let now = done.assigned.load(Ordering::SeqCst) - first;
                came.resize(now.max(came.len()), Instant::now());
                if over.load(Ordering::SeqCst) {
                    return came;
                }
                let _late = tokio::time::timeout(Duration::from_millis(20), changed).await;
            }
        }
    });
    while Instant::now() < end {
        tokio::time::sleep_until(next.into()).await;
        next += gap;
        begun.push(Instant::now());
        let client = server.client.clone();
        calls.spawn(async move { submit_by(&client, PROJECT, "lifecycle").await });
    }
    while let Some(call) = calls.join_next().await {
        call??;
    }
    done.wait(&done.completed, completed + begun.len()).await?;
    over.store(true, Ordering::SeqCst);
    done.changed.notify_waiters();
    let came = watch.await?;
    ensure!(
        came.len() == begun.len(),
        "{} of {}",
        came.len(),
        begun.len()
    );
    let waits = begun.iter().zip(&came);
    let mut waits: Vec<f64> = waits
        .map(|(begun, came)| came.duration_since(*begun).as_secs_f64() * 1000.0)
        .collect();
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}

/// All at once, so many in a call, until the last result is committed: how many a second, and what they
/// cost.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn throughput(
    server: &ControlPlane,
    done: &Done,
    options: &Options,
    batch: usize,
    figures: &mut Figures,
) -> anyhow::Result<f64> {
    let used = || {
        anyhow::Ok((
            processor::of_process(server.id().context("the server runs")?)?,
            processor::of_process(std::process::id())?,
        ))
    };
    let (count, before) = (options.executions, used()?);
    let completed = done.completed.load(Ordering::SeqCst);
    let begin = Instant::now();
    match batch {
        1 => submit_all(server, count, options.callers).await?,
        _ => submit_batches(server, count, batch, options.callers.div_ceil(batch)).await?,
    }
    done.wait(&done.completed, completed + count).await?;
    let count = count as f64;
    let per_second = count / begin.elapsed().as_secs_f64();
    let after = used()?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / count;
    let (key, of) = match batch {
        1 => ("", ", one in a call".to_owned()),
        _ => ("batched", format!(", {batch} in a call")),
    };
    let mut add = |name: &str, text: &str, value| {
        let mut name = format!("{key}{name}");
        name[..1].make_ascii_lowercase();
        figures.add(&name, &format!("{text}{of}"), value, 0);
    };
    let text = "submit to result, executions a second";
    add("PerSecond", text, per_second);
    let text = "processor time of the server, µs an execution";
    add("ServerMicros", text, micros(after.0 - before.0));
    let text = "processor time of load and agents, µs an execution";
    add("LoadMicros", text, micros(after.1 - before.1));
    Ok(per_second)
}

async fn submit_batches(
    server: &ControlPlane,
    count: usize,
    batch: usize,
    callers: usize,
) -> anyhow::Result<()> {
    let calls = (0..count).step_by(batch).map(async |from| {
        let run = run_of(PROJECT, "lifecycle");
        let request = BatchCreateExecutionsRequest {
            parent: PROJECT.to_owned(),
            requests: vec![run; batch.min(count - from)],
        };
        let mut client = server.client.executions();
        let made = client.batch_create_executions(request).await?.into_inner();
        for one in made.results {
            let created = matches!(
                one.result,
                Some(create_execution_result::Result::Created(_))
            );
            ensure!(created, "refused: {:?}", one.result);
        }
        anyhow::Ok(())
    });
    stream::iter(calls)
        .buffer_unordered(callers)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn submit_all(server: &ControlPlane, count: usize, callers: usize) -> anyhow::Result<()> {
    stream::iter(0..count)
        .map(|_| submit(server, PROJECT, "lifecycle"))
        .buffer_unordered(callers)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn submit(server: &ControlPlane, project: &str, workflow: &str) -> anyhow::Result<()> {
    submit_by(&server.client, project, workflow).await
}

async fn submit_by(
    client: &muster_tests::run::Client,
    project: &str,
    workflow: &str,
) -> anyhow::Result<()> {
    let request = run_of(project, workflow);
    client.executions().create_execution(request).await?;
    Ok(())
}

fn run_of(project: &str, workflow: &str) -> CreateExecutionRequest {
    CreateExecutionRequest {
        parent: project.to_owned(),
        source: Some(Source::Workflow(format!("{project}/workflows/{workflow}"))),
        ..CreateExecutionRequest::default()
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        agents: 1000,
        executions: 20_000,
        callers: 256,
        batch: 64,
        capacity: 4,
        latencies: 300,
        queued: 0,
        seconds: 10,
        outage: true,
        database: None,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = arguments.next().context("a flag without a value")?;
        match flag.as_str() {
            "--database" => {
                options.database = Some(value);
                continue;
            }
            "--outage" => {
                options.outage = value.parse().with_context(|| format!("{flag} {value}"))?;
                continue;
            }
            _ => {}
        }
        let value: usize = value.parse().with_context(|| format!("{flag} {value}"))?;
        if value == 0 && flag != "--queued" {
            bail!("{flag} must be at least 1");
        }
        match flag.as_str() {
            "--agents" => options.agents = value,
            "--executions" => options.executions = value,
            "--callers" => options.callers = value,
            "--batch" => options.batch = value,
            "--capacity" => options.capacity = u32::try_from(value)?,
            "--latencies" => options.latencies = value,
            "--queued" => options.queued = value,
            "--seconds" => options.seconds = u64::try_from(value)?,
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
