//! `muster-bench`: what a run through Muster costs beside the same work by hand, on a real cluster;
//! without one, with `compile`, what manifests cost, with `lifecycle`, how many executions a server takes,
//! with `logs`, how fast it takes logs, with `artifacts`, how fast files come and go, with `search`, how fast
//! executions are found, and with `history`, how fast results of tests are.
//!
//! Prints a table and one JSON document; writes nothing. `docs/performance.md` tells how to read it.

mod artifacts;
mod batch;
mod by_hand;
mod compile;
mod figures;
mod history;
mod idle;
mod latency;
mod lifecycle;
mod limit;
mod logs;
mod report;
mod search;

use anyhow::{Context as _, bail};
use muster_tests::{
    agent::Agent, cluster::Clusters, control_plane::ControlPlane, namespace::Namespace, program,
};

const USAGE: &str = "\
usage: muster-bench [--runs N] [--rounds N] [--latencies N]

  --runs N       runs in one batch, all submitted at once (default 40)
  --rounds N     batches of each kind, in turn; medians are printed (default 3)
  --latencies N  single runs that are timed to their first log line (default 15)

`muster-bench compile --help`, and the same with `lifecycle`, `logs`, `artifacts`, `search` and `history`,
tell of those that need no cluster.

Takes the first cluster of MUSTER_TEST_KUBECONFIGS; see docs/testing.md for the other variables.";

struct Options {
    runs: usize,
    rounds: usize,
    latencies: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments
        .next_if(|argument| argument == "compile")
        .is_some()
    {
        return compile::run(arguments);
    }
    if arguments
        .next_if(|argument| argument == "lifecycle")
        .is_some()
    {
        return lifecycle::run(arguments).await;
    }
    if arguments.next_if(|argument| argument == "logs").is_some() {
        return logs::run(arguments).await;
    }
    if arguments
        .next_if(|argument| argument == "artifacts")
        .is_some()
    {
        return artifacts::run(arguments).await;
    }
    if arguments.next_if(|argument| argument == "search").is_some() {
        return search::run(arguments).await;
    }
    if arguments
        .next_if(|argument| argument == "history")
        .is_some()
    {
        return history::run(arguments).await;
    }
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let clusters = Clusters::from_environment()?.context("no cluster to measure on")?;
    let namespace = Namespace::create(&clusters.all[0], "baseline").await?;
    let helpers = Namespace::create(&clusters.all[0], "privileged").await?;
    let server = ControlPlane::start_at(clusters.host).await?;
    let capacity = options.runs.to_string();
    let agent = Agent::with_arguments(
        &server,
        "bench",
        &clusters,
        &namespace,
        &["--capacity", &capacity],
    )
    .await?;

    eprintln!("binary: {}", program::path()?.display());
    let idle = idle::measure(&server, &agent, &namespace, &helpers).await?;
    let batches = batch::measure(&server, &namespace, options.runs, options.rounds).await?;
    let latency = latency::measure(&server, &namespace, options.latencies).await?;
    report::print(&report::Report {
        runs: options.runs,
        rounds: options.rounds,
        batches,
        latency,
        idle,
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        runs: 40,
        rounds: 3,
        latencies: 15,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = arguments.next().context("a flag without a value")?;
        let value: usize = value.parse().with_context(|| format!("{flag} {value}"))?;
        if value == 0 {
            bail!("{flag} must be at least 1");
        }
        match flag.as_str() {
            "--runs" => options.runs = value,
            "--rounds" => options.rounds = value,
            "--latencies" => options.latencies = value,
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
