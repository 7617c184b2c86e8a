//! `muster-soak`: load on a whole control plane while its parts are killed at random, and the proof
//! that nothing was lost, doubled or left behind. `--help` tells what it needs.

mod fault;
mod fleet;
mod load;
mod options;
mod report;
mod shape;
mod verdict;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use muster_tests::cluster::Clusters;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use self::{
    fleet::Fleet,
    options::{Options, USAGE},
    report::Report,
};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        help();
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("seed {}", options.seed);
    let mut stop = signal(SignalKind::terminate())?;
    let holds = tokio::select! {
        holds = soak(options) => holds?,
        // All that was started is stopped and removed with what holds it.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = stop.recv() => bail!("told to stop"),
    };
    Ok(match holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Runs it to its end, prints the summary and says whether everything holds.
async fn soak(options: Options) -> anyhow::Result<bool> {
    let clusters = Clusters::from_environment()?.context("no cluster to run on")?;
    let fleet = Fleet::start(&clusters).await?;
    let report = Report::new(options.seed);
    let end = Instant::now() + options.time;
    let (submitted, ()) = tokio::join!(
        load::run(&fleet, options, end, &report),
        fault::inject(&fleet, options, end, &report),
    );
    report.note("the work is done");
    match submitted {
        Ok(submitted) => verdict::check(&fleet, &submitted, &report).await?,
        Err(error) => report.broken(&format!("work: {error:#}")),
    }
    Ok(report.finish(options.json))
}

#[expect(clippy::print_stdout, reason = "what a person asked for")]
fn help() {
    println!("{USAGE}");
}
