//! When faults come, how long they last and how much work is under way: different in each run, and
//! the same again for the same seed.

use std::{
    env,
    ops::RangeInclusive,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use muster_tests::run::Run;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

/// A number that brings back the faults of an earlier run.
const SEED_VARIABLE: &str = "MUSTER_CHAOS_SEED";

/// The dice of one test.
pub(crate) struct Dice(Mutex<StdRng>);

impl Dice {
    /// Dice that fall for a test as they did with the same seed before, whatever tests run beside it.
    pub(crate) fn of_this_test() -> anyhow::Result<Self> {
        let seed = seed()?;
        // The name of a test is that of its thread.
        let thread = thread::current();
        let name = thread.name().unwrap_or_default();
        let own = name.bytes().fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        eprintln!("{SEED_VARIABLE}={seed} brings these faults again");
        Ok(Self(Mutex::new(StdRng::seed_from_u64(own))))
    }

    /// A number.
    pub(crate) fn number(&self, from: RangeInclusive<u32>) -> u32 {
        let mut dice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dice.random_range(from)
    }

    /// A time of so many milliseconds.
    pub(crate) fn millis(&self, from: RangeInclusive<u32>) -> Duration {
        Duration::from_millis(self.number(from).into())
    }

    /// Waits until a run that counts has come to some line, and then a little longer: the moment of a
    /// fault. Returns the line.
    pub(crate) async fn moment(
        &self,
        run: &Run,
        lines: RangeInclusive<u32>,
    ) -> anyhow::Result<u32> {
        let line = self.number(lines);
        run.prints(&format!("line {line}\n")).await?;
        sleep(self.millis(0..=400)).await;
        Ok(line)
    }
}

/// The seed of all tests of this process.
fn seed() -> anyhow::Result<u64> {
    static ANY: OnceLock<u64> = OnceLock::new();
    match env::var(SEED_VARIABLE) {
        Ok(text) if !text.is_empty() => {
            let seed = text.parse();
            seed.with_context(|| format!("{SEED_VARIABLE}={text} is not a number"))
        }
        _ => Ok(*ANY.get_or_init(|| rand::random_range(0..1_000_000))),
    }
}
