//! Running cases: one from its operations, many from their seeds, and the shortest one that
//! still fails.

use std::{
    env,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{database::Template, generator, op::Op, world::World};

/// First seed when nobody says which.
const SEED: u64 = 1;
/// How long to look for a shorter case.
const SHRINK: Duration = Duration::from_secs(60);

/// A case that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Number of the operation after which it failed; that of all when it was at the end.
    pub(crate) at: usize,
    /// What is broken.
    pub(crate) broken: String,
}

/// What was seen in a case.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Names of the transactions after which a server died.
    pub(crate) deaths: Vec<String>,
}

/// Runs the operations in a fresh world, and ends it.
pub(crate) fn run(template: &Template, ops: &[Op]) -> Result<Report, Failure> {
    let mut at = 0;
    let ran = catch_unwind(AssertUnwindSafe(|| play(template, ops, &mut at)));
    let failed = |broken| Failure { at, broken };
    match ran {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(failed(format!("{error:#}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Err(failed(format!("panicked: {}", text.unwrap_or_default())))
        }
    }
}

fn play(template: &Template, ops: &[Op], at: &mut usize) -> anyhow::Result<Report> {
    let mut world = World::begin(template)?;
    for op in ops {
        world.apply(*op)?;
        *at += 1;
    }
    world.end()?;
    Ok(Report {
        deaths: world.deaths(),
    })
}

/// Runs as many cases as are wanted, `cases` when nobody says how many, on some threads, and panics
/// at the first that fails.
pub(crate) fn run_all(template: &Template, cases: u64) {
    let (first, cases) = (
        number("MUSTER_SIM_SEED", SEED),
        number("MUSTER_SIM_CASES", cases),
    );
    let next = AtomicU64::new(0);
    let failed: Mutex<Option<(u64, Failure)>> = Mutex::new(None);
    let deaths: Mutex<Vec<String>> = Mutex::default();
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(2, |count| count.get().min(8));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while lock(&failed).is_none() {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= cases {
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    match run(template, &generator::operations(seed, template.servers)) {
                        Ok(report) => lock(&deaths).extend(report.deaths),
                        Err(failure) => *lock(&failed) = Some((seed, failure)),
                    }
                }
            });
        }
    });
    if let Some((seed, failure)) = lock(&failed).take() {
        panic!("{}", describe(template, seed, failure));
    }
    let mut deaths = std::mem::take(&mut *lock(&deaths));
    let crashes = deaths.len();
    deaths.sort();
    deaths.dedup();
    println!(
        "{cases} cases from seed {first} in {:.1?}; {crashes} crashes, after {}",
        began.elapsed(),
        deaths.join(", ")
    );
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        _ => default,
    }
}

/// What to show of a case that failed.
fn describe(template: &Template, seed: u64, failure: Failure) -> String {
    let ops = generator::operations(seed, template.servers);
    let mut text = format!("seed {seed}: {}\n", failure.broken);
    let _infallible = writeln!(
        text,
        "again: MUSTER_SIM_SEED={seed} MUSTER_SIM_CASES=1 cargo test -p muster-tests --test sim promises_hold -- --nocapture"
    );
    let (short, failure) = shrink(&ops, failure, SHRINK, |ops| run(template, ops).err());
    let _infallible = writeln!(
        text,
        "the shortest that fails has {} of {} operations: {}",
        short.len(),
        ops.len(),
        failure.broken
    );
    for op in short {
        let _infallible = writeln!(text, "    Op::{op:?},");
    }
    text
}

/// Leaves operations out as long as a case still fails.
pub(crate) fn shrink(
    ops: &[Op],
    mut failure: Failure,
    limit: Duration,
    mut fails: impl FnMut(&[Op]) -> Option<Failure>,
) -> (Vec<Op>, Failure) {
    let began = Instant::now();
    let mut short = ops.to_vec();
    // What comes after the failure has no part in it.
    let until = ops.get(..failure.at + 1).unwrap_or(ops);
    if let Some(same) = fails(until) {
        (short, failure) = (until.to_vec(), same);
    }
    let mut size = short.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < short.len() && began.elapsed() < limit {
            let mut fewer = short.clone();
            fewer.drain(at..(at + size).min(short.len()));
            match fails(&fewer) {
                Some(same) => (short, failure) = (fewer, same),
                None => at += size,
            }
        }
        if size == 1 || began.elapsed() >= limit {
            return (short, failure);
        }
        size = size.div_ceil(2);
    }
}
