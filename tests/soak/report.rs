//! What the soak tells: progress while it goes on, a summary at its end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_proto::v1::execution::State;
use serde_json::json;
use tokio::time::Instant;

/// Everything that was counted.
#[derive(Debug)]
pub(crate) struct Report {
    begin: Instant,
    seed: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    submitted: usize,
    ended: usize,
    faults: BTreeMap<String, usize>,
    hits: u64,
    states: BTreeMap<String, usize>,
    logs: usize,
    log_bytes: usize,
    broken: Vec<String>,
}

impl Report {
    /// A new one.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            begin: Instant::now(),
            seed,
            counts: Mutex::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line of progress.
    pub(crate) fn note(&self, text: &str) {
        let (submitted, ended) = {
            let counts = self.counts();
            (counts.submitted, counts.ended)
        };
        let seconds = self.begin.elapsed().as_secs();
        eprintln!("{seconds:>5} s  {submitted:>4} submitted {ended:>4} ended  {text}");
    }

    /// One was accepted.
    pub(crate) fn submitted(&self) {
        self.counts().submitted += 1;
    }

    /// One has ended.
    pub(crate) fn ended(&self) {
        self.counts().ended += 1;
    }

    /// A fault was injected, which may have ended so many attempts.
    pub(crate) fn fault(&self, name: &str, hits: u64) {
        {
            let mut counts = self.counts();
            *counts.faults.entry(name.to_owned()).or_default() += 1;
            counts.hits += hits;
        }
        self.note(name);
    }

    /// How many attempts faults may have ended.
    pub(crate) fn hits(&self) -> u64 {
        self.counts().hits
    }

    /// One ended so.
    pub(crate) fn state(&self, state: State) {
        let name = state.as_str_name().trim_start_matches("STATE_");
        *self.counts().states.entry(name.to_lowercase()).or_default() += 1;
    }

    /// A log was read to its end.
    pub(crate) fn log(&self, bytes: usize) {
        let mut counts = self.counts();
        counts.logs += 1;
        counts.log_bytes += bytes;
    }

    /// Something must hold.
    pub(crate) fn expect(&self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken(&otherwise());
        }
    }

    /// Something does not hold.
    pub(crate) fn broken(&self, what: &str) {
        self.note(&format!("BROKEN: {what}"));
        self.counts().broken.push(what.to_owned());
    }

    /// Prints the summary and says whether everything holds. A soak without work or without faults
    /// proves nothing.
    pub(crate) fn finish(&self, as_json: bool) -> bool {
        let (submitted, faults, bytes) = {
            let counts = self.counts();
            (counts.submitted, counts.faults.len(), counts.log_bytes)
        };
        self.expect(submitted > 0, || "nothing was submitted".to_owned());
        self.expect(faults > 0, || "no fault was injected".to_owned());
        self.expect(bytes > 0, || "no log was read".to_owned());
        if as_json {
            self.print_json();
        } else {
            self.print_text();
        }
        self.counts().broken.is_empty()
    }

    #[expect(clippy::print_stdout, reason = "the purpose of this program")]
    fn print_json(&self) {
        let counts = self.counts();
        let document = json!({
            "seed": self.seed,
            "seconds": self.begin.elapsed().as_secs(),
            "submitted": counts.submitted,
            "states": counts.states,
            "faults": counts.faults,
            "logs": counts.logs,
            "logBytes": counts.log_bytes,
            "broken": counts.broken,
        });
        println!("{document}");
    }

    #[expect(clippy::print_stdout, reason = "the purpose of this program")]
    fn print_text(&self) {
        let counts = self.counts();
        let list = |map: &BTreeMap<String, usize>| {
            let all: Vec<_> = map.iter().map(|(key, n)| format!("{n} {key}")).collect();
            all.join(", ")
        };
        let faults: usize = counts.faults.values().sum();
        println!("seed {}", self.seed);
        println!(
            "submitted {} in {} s: {}",
            counts.submitted,
            self.begin.elapsed().as_secs(),
            list(&counts.states)
        );
        println!("faults {faults}: {}", list(&counts.faults));
        println!("logs {}, {} bytes", counts.logs, counts.log_bytes);
        for what in &counts.broken {
            println!("broken: {what}");
        }
        match counts.broken.len() {
            0 => println!("everything holds"),
            some => println!("{some} broken"),
        }
    }
}
