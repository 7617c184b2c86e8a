//! `muster-bench lifecycle`: how many executions a second go from submit to their result, with many
//! simulated agents over real gRPC, and how soon an idle agent has its work. Needs no cluster.
//!
//! The agents run nothing: each tells at once that its attempt runs and has passed, with an empty
//! log. Server and load share the machine, as the figures say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use muster_proto::v1::{
    AgentHello, Assignment, AttemptRef, AttemptReport, Completion, CreateAgentRequest,
    CreateExecutionRequest, CreateWorkflowRequest, Credit, LinkRequest, RenewLeases,
    agent_link_service_client::AgentLinkServiceClient, attempt_report::Phase,
    create_execution_request::Source, execution::State, link_request::Message, link_response,
};
use muster_tests::{control_plane::ControlPlane, digest::sha256, memory::Memory, run::PROJECT};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{limit, report::mebibytes};

const USAGE: &str = "\
usage: muster-bench lifecycle [--agents N] [--executions N] [--callers N] [--capacity N]
                              [--latencies N] [--database URL]

  --agents N      simulated agents, each with a stream (default 1000)
  --executions N  executions in the batch (default 20000)
  --callers N     calls of CreateExecution at a time (default 64)
  --capacity N    attempts that an agent takes at a time (default 4)
  --latencies N   single executions on an idle server (default 300)
  --database URL  PostgreSQL in the place of SQLite";

/// Streams that share a connection.
const STREAMS: usize = 50;
/// How often agents renew.
const RENEW: Duration = Duration::from_secs(10);
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

struct Options {
    agents: usize,
    executions: usize,
    callers: usize,
    capacity: u32,
    latencies: usize,
    database: Option<String>,
}

/// What all agents have done.
#[derive(Default)]
struct Done {
    assigned: AtomicUsize,
    completed: AtomicUsize,
    changed: Notify,
}

/// Runs it.
#[expect(clippy::print_stdout, reason = "the purpose of this program")]
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let database = options.database.as_ref();
    let extra: Vec<&str> = database.map_or_else(Vec::new, |url| vec!["--database", url]);
    let server = ControlPlane::start_with(&extra).await?;
    let workflow = CreateWorkflowRequest {
        parent: PROJECT.to_owned(),
        manifest: WORKFLOW.to_owned(),
        ..CreateWorkflowRequest::default()
    };
    server.client.workflows().create_workflow(workflow).await?;
    let done = Arc::new(Done::default());
    let begin = Instant::now();
    connect(&server, &options, &done).await?;
    let connected = begin.elapsed().as_secs_f64();
    eprintln!("{} agents connected in {connected:.2} s", options.agents);
    let idle = latencies(&server, &done, options.latencies).await?;
    let (batch, submitted) = batch(&server, &done, &options).await?;
    let process = server.id().context("the server runs")?;
    let rss = Memory::of_process(process)?.rss_kib;
    let file = server.folder().join("server/muster.db");
    let file = file.to_str().context("a path that is text")?;
    let limit = limit::measure(options.database.as_deref(), file, options.executions).await?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (count, agents) = (options.executions as f64, options.agents as f64);
    println!("| lifecycle | |");
    println!("| --- | ---: |");
    println!(
        "| submit to result, executions a second | {:.0} |",
        count / batch
    );
    println!("| bare database, executions a second | {limit:.0} |");
    println!("| ratio | {:.2} |", count / batch / limit);
    println!(
        "| submit alone, executions a second | {:.0} |",
        count / submitted
    );
    println!(
        "| idle: call to assignment, p50 ms | {:.1} |",
        at(&idle, 0.5)
    );
    println!(
        "| idle: call to assignment, p99 ms | {:.1} |",
        at(&idle, 0.99)
    );
    println!("| agents connected a second | {:.0} |", agents / connected);
    println!("| server RSS MiB behind it | {:.1} |", mebibytes(rss));
    println!();
    let document = serde_json::json!({
        "agents": options.agents,
        "executions": options.executions,
        "perSecond": count / batch,
        "submitPerSecond": count / submitted,
        "limitPerSecond": limit,
        "idleMilliseconds": {"p50": at(&idle, 0.5), "p99": at(&idle, 0.99)},
        "connectSeconds": connected,
        "serverRssKib": rss,
    });
    println!("{document}");
    Ok(())
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
        submit(server).await?;
        wait(&done.assigned, done, before + 1).await?;
        all.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    all.sort_by(f64::total_cmp);
    Ok(all)
}

/// All at once: seconds until the last result is committed, and until the last one was accepted.
async fn batch(
    server: &ControlPlane,
    done: &Done,
    options: &Options,
) -> anyhow::Result<(f64, f64)> {
    let before = done.completed.load(Ordering::SeqCst);
    let begin = Instant::now();
    stream::iter(0..options.executions)
        .map(|_| submit(server))
        .buffer_unordered(options.callers)
        .try_collect::<Vec<()>>()
        .await?;
    let submitted = begin.elapsed().as_secs_f64();
    wait(&done.completed, done, before + options.executions).await?;
    Ok((begin.elapsed().as_secs_f64(), submitted))
}

async fn submit(server: &ControlPlane) -> anyhow::Result<()> {
    let request = CreateExecutionRequest {
        parent: PROJECT.to_owned(),
        source: Some(Source::Workflow(format!("{PROJECT}/workflows/lifecycle"))),
        ..CreateExecutionRequest::default()
    };
    server.client.executions().create_execution(request).await?;
    Ok(())
}

async fn wait(counter: &AtomicUsize, done: &Done, wanted: usize) -> anyhow::Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let changed = done.changed.notified();
        let now = counter.load(Ordering::SeqCst);
        if now >= wanted {
            return Ok(());
        }
        if now > last.0 {
            last = (now, Instant::now());
        }
        ensure!(
            last.1.elapsed() < Duration::from_secs(60),
            "nothing has moved for a minute: {now} of {wanted}"
        );
        let _late = tokio::time::timeout(Duration::from_millis(200), changed).await;
    }
}

async fn connect(server: &ControlPlane, options: &Options, done: &Arc<Done>) -> anyhow::Result<()> {
    let tokens: Vec<String> = stream::iter(0..options.agents)
        .map(async |number| {
            let request = CreateAgentRequest {
                agent_id: format!("agent-{number}"),
                ..CreateAgentRequest::default()
            };
            let made = server.client.agents().create_agent(request).await?;
            anyhow::Ok(made.into_inner().token)
        })
        .buffer_unordered(16)
        .try_collect()
        .await?;
    for tokens in tokens.chunks(STREAMS) {
        let channel = Endpoint::from_shared(server.url.clone())?.connect().await?;
        let welcomed = tokens.iter().map(|token| {
            agent(
                channel.clone(),
                token.clone(),
                options.capacity,
                Arc::clone(done),
            )
        });
        futures::future::try_join_all(welcomed).await?;
    }
    Ok(())
}

/// Connects one agent; it works in the background until the server is gone.
async fn agent(
    channel: Channel,
    token: String,
    capacity: u32,
    done: Arc<Done>,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(64);
    let hello = AgentHello {
        min_protocol: 1,
        max_protocol: 1,
        session: uuid::Uuid::now_v7().to_string(),
        capacity,
        backend: "process".to_owned(),
        ..AgentHello::default()
    };
    sender.send(request(Message::Hello(hello))).await?;
    let mut call = Request::new(ReceiverStream::new(receiver));
    let bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    call.metadata_mut().insert("authorization", bearer);
    let mut answers = AgentLinkServiceClient::new(channel)
        .link(call)
        .await?
        .into_inner();
    let first = answers.message().await?.and_then(|first| first.message);
    ensure!(
        matches!(first, Some(link_response::Message::Welcome(_))),
        "no welcome: {first:?}"
    );
    sender.send(request(credit(capacity, 0))).await?;
    tokio::spawn(async move {
        let mut held: Vec<AttemptRef> = Vec::new();
        let mut renew = tokio::time::interval(RENEW);
        let mut sequence = 0;
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                _ = renew.tick() => {
                    sequence += 1;
                    let attempts = held.clone();
                    let renewal = RenewLeases { sequence, attempts };
                    if sender.send(request(Message::Renew(renewal))).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Ok(Some(answer)) = answer else { return };
            let said = match answer.message {
                Some(link_response::Message::Assignment(work)) => {
                    done.assigned.fetch_add(1, Ordering::SeqCst);
                    done.changed.notify_waiters();
                    held.push(AttemptRef {
                        attempt: work.attempt.clone(),
                        epoch: work.epoch,
                    });
                    [running(&work), passed(&work)]
                        .map(Message::Report)
                        .to_vec()
                }
                Some(link_response::Message::ReportAck(ack)) if ack.sequence == 2 => {
                    held.retain(|one| one.attempt != ack.attempt);
                    done.completed.fetch_add(1, Ordering::SeqCst);
                    done.changed.notify_waiters();
                    vec![credit(capacity, held.len())]
                }
                _ => continue,
            };
            for message in said {
                if sender.send(request(message)).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(())
}

fn request(message: Message) -> LinkRequest {
    LinkRequest {
        message: Some(message),
    }
}

fn credit(capacity: u32, held: usize) -> Message {
    let held = u32::try_from(held).unwrap_or(capacity);
    Message::Credit(Credit {
        slots: capacity.saturating_sub(held),
        exempt: 0,
    })
}

fn running(work: &Assignment) -> AttemptReport {
    AttemptReport {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        sequence: 1,
        phase: Phase::Running.into(),
        ..AttemptReport::default()
    }
}

fn passed(work: &Assignment) -> AttemptReport {
    AttemptReport {
        sequence: 2,
        phase: Phase::Completed.into(),
        completion: Some(Completion {
            outcome: State::Passed.into(),
            log_sha256: sha256(b""),
            ..Completion::default()
        }),
        ..running(work)
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        agents: 1000,
        executions: 20_000,
        callers: 64,
        capacity: 4,
        latencies: 300,
        database: None,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = arguments.next().context("a flag without a value")?;
        if flag == "--database" {
            options.database = Some(value);
            continue;
        }
        let value: usize = value.parse().with_context(|| format!("{flag} {value}"))?;
        if value == 0 {
            bail!("{flag} must be at least 1");
        }
        match flag.as_str() {
            "--agents" => options.agents = value,
            "--executions" => options.executions = value,
            "--callers" => options.callers = value,
            "--capacity" => options.capacity = u32::try_from(value)?,
            "--latencies" => options.latencies = value,
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
