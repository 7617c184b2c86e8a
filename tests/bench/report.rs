//! The report: a table for people, JSON for programs.

use serde_json::json;

use crate::{batch::Batches, idle::Idle, latency::Latency};

/// Everything that was measured.
pub(crate) struct Report {
    /// Runs in one batch.
    pub(crate) runs: usize,
    /// Batches of each kind.
    pub(crate) rounds: usize,
    /// Batches.
    pub(crate) batches: Batches,
    /// First log lines.
    pub(crate) latency: Latency,
    /// Memory.
    pub(crate) idle: Idle,
}

/// Prints it to standard output.
#[expect(clippy::print_stdout, reason = "the purpose of this program")]
pub(crate) fn print(report: &Report) -> anyhow::Result<()> {
    let (one, two) = (median(&report.batches.one), median(&report.batches.two));
    let muster = median(&report.batches.muster);
    let (hand, first) = (
        median(&report.latency.by_hand),
        median(&report.latency.muster),
    );
    let runs = report.runs;
    println!(
        "| {runs} no-op runs at once, median of {} | seconds | ratio |",
        report.rounds
    );
    println!("| --- | ---: | ---: |");
    println!(
        "| bare Jobs of one container | {one:.2} | {:.2} |",
        one / two
    );
    println!("| bare Jobs of two containers (the floor) | {two:.2} | 1.00 |");
    println!("| Muster | {muster:.2} | {:.2} |", muster / two);
    println!();
    println!(
        "| submit to first log line, median of {} | seconds | ratio |",
        report.latency.muster.len()
    );
    println!("| --- | ---: | ---: |");
    println!("| the same pod by hand | {hand:.3} | 1.00 |");
    println!("| Muster | {first:.3} | {:.2} |", first / hand);
    println!();
    println!("| idle memory | RSS MiB | PSS MiB |");
    println!("| --- | ---: | ---: |");
    let idle = &report.idle;
    for (name, memory) in [
        ("server", idle.server),
        ("agent", idle.agent),
        ("conductor", idle.conductor),
        ("shim", idle.shim),
    ] {
        println!(
            "| {name} | {:.1} | {:.1} |",
            mebibytes(memory.rss_kib),
            mebibytes(memory.pss_kib)
        );
    }
    println!();
    let document = json!({
        "runs": runs,
        "rounds": report.rounds,
        "batchSeconds": report.batches,
        "batchRatio": {"oneToTwo": one / two, "musterToTwo": muster / two},
        "firstLineSeconds": report.latency,
        "firstLineRatio": first / hand,
        "idle": report.idle,
    });
    println!("{document}");
    Ok(())
}

/// The middle of some values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// KiB as MiB.
pub(crate) fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}
