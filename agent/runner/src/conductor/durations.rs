//! How long values of shards took in earlier runs: asked of the agent once, within a bounded time, and
//! kept in memory until the run ends, so that the same values are split alike again. What is made of it
//! is [`super::children`]' business.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Duration,
};

use muster_proto::runner::v1::{
    DurationsWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};
use tokio::time::timeout;

use super::agent::Agent;

/// How long to wait for an answer: less than a balanced split wins.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most values that are asked for.
const MOST_VALUES: usize = 100_000;
/// Longest value that is asked for, in bytes: no test has a longer name.
const MAX_VALUE: usize = 1024;
/// Most bytes of all values.
const MAX_BYTES: usize = 8 << 20;
/// Most values, and about most bytes of them, of one message.
const PART: (usize, usize) = (10_000, 256 << 10);

/// Times of values that were told.
#[derive(Debug, Default)]
pub(super) struct Durations {
    known: RefCell<HashMap<String, Option<u64>>>,
    runs: Cell<u32>,
}

impl Durations {
    /// How long values take, in milliseconds, of those of which it is known, and from how many runs; or
    /// why it can not be told.
    pub(super) async fn get(
        &self,
        agent: &Agent,
        values: &[String],
    ) -> Result<(HashMap<String, u64>, u32), String> {
        let new: Vec<&String> = {
            let known = self.known.borrow();
            let new = values.iter().filter(|value| value.len() <= MAX_VALUE);
            new.filter(|value| !known.contains_key(*value)).collect()
        };
        let bytes: usize = new.iter().map(|value| value.len()).sum();
        if new.len() > MOST_VALUES || bytes > MAX_BYTES {
            return Err(format!(
                "there are {} values with {bytes} bytes, durations are asked for at most {MOST_VALUES} with {MAX_BYTES}",
                new.len()
            ));
        }
        if !new.is_empty() {
            let told = agent.ask(
                Purpose::Durations,
                || question(&new),
                |heard| match heard {
                    Heard::Durations(given) => Some(given),
                    _ => None,
                },
            );
            let given = timeout(PATIENCE, told).await.map_err(|_elapsed| {
                let seconds = PATIENCE.as_secs();
                format!("the durations of earlier runs were not told within {seconds} seconds")
            })?;
            if !given.error.is_empty() {
                return Err(given.error);
            }
            self.runs.set(given.runs);
            let millis = given.durations_ms.into_iter();
            let millis = millis.map(|millis| u64::try_from(millis).ok());
            let new = new.into_iter().cloned();
            self.known.borrow_mut().extend(new.zip(millis));
        }
        let known = self.known.borrow();
        let wanted = values.iter().filter_map(|value| {
            let millis = known.get(value).copied().flatten()?;
            Some((value.clone(), millis))
        });
        Ok((wanted.collect(), self.runs.get()))
    }
}

/// The question, in as many messages as it takes, each made when it is its turn.
fn question<'a>(values: &'a [&'a String]) -> impl Iterator<Item = Said> {
    let mut left = Some(values);
    std::iter::from_fn(move || {
        let rest = left.take()?;
        let mut bytes = 0;
        let fitting = rest.iter().take(PART.0).take_while(|value| {
            bytes += value.len();
            bytes <= PART.1
        });
        let (part, behind) = rest.split_at(fitting.count());
        left = (!behind.is_empty()).then_some(behind);
        Some(Said::Durations(DurationsWish {
            values: part.iter().map(|value| (*value).clone()).collect(),
            last: behind.is_empty(),
        }))
    })
}
