//! How long values of shards take, for an attempt that splits them. The times are those of tests in
//! earlier runs; which tests a value means is [`test_duration`]'s business.

use muster_core::{execution::Lease, test_duration};
use muster_storage::agent::Agent;

use super::{App, Error};

/// Most values of one question: those of a list.
const MOST_VALUES: usize = 100_000;
/// Longest value, in bytes: no test has a longer name.
const MAX_VALUE: usize = 1024;
/// Most bytes of all values.
const MAX_BYTES: usize = 8 << 20;
/// Most questions that are answered at once: each holds the tests of a workflow in memory.
pub(crate) const MOST_ANSWERED: usize = 2;

/// Values as they come in.
#[derive(Debug, Default)]
pub(crate) struct Values {
    all: Vec<String>,
    bytes: usize,
}

/// How long values take.
#[derive(Debug)]
pub(crate) struct KnownDurations {
    /// Of each value, in milliseconds.
    pub(crate) millis: Vec<Option<u64>>,
    /// From how many runs that is known.
    pub(crate) runs: usize,
}

impl Values {
    /// Takes the next ones.
    pub(crate) fn take(&mut self, values: Vec<String>) -> Result<(), Error> {
        for (place, value) in (self.all.len()..).zip(&values) {
            if value.len() > MAX_VALUE {
                let text = format!("has {} bytes, at most {MAX_VALUE} are allowed", value.len());
                return Err(Error::invalid(format!("values[{place}]"), text));
            }
            self.bytes += value.len();
        }
        self.all.extend(values);
        if self.all.len() > MOST_VALUES {
            let text = format!("more than {MOST_VALUES} values");
            return Err(Error::invalid("values", text));
        }
        if self.bytes > MAX_BYTES {
            let text = format!("more than {MAX_BYTES} bytes");
            return Err(Error::invalid("values", text));
        }
        Ok(())
    }
}

impl App {
    /// How long values of shards took in earlier runs, for a live attempt of this agent.
    pub(crate) async fn read_durations(
        &self,
        agent: &Agent,
        lease: Lease,
        values: Values,
    ) -> Result<KnownDurations, Error> {
        let execution = self.parent(agent, lease).await?.execution;
        let Ok(_turn) = self.link.weighing.acquire().await else {
            return Err(Error::Stopping);
        };
        let tests = self.store.tests(execution.project);
        let known = tests.durations(execution.id).await?;
        let runs = known.runs;
        let millis = tokio::task::spawn_blocking(move || {
            test_duration::durations(&values.all, &known.tests)
        });
        Ok(KnownDurations {
            millis: millis
                .await
                .map_err(|error| Error::Internal(error.into()))?,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bounded_one_by_one_and_together() {
        let mut values = Values::default();
        values.take(vec!["x".repeat(MAX_VALUE)]).expect("it fits");
        let long = values.take(vec![String::new(), "x".repeat(MAX_VALUE + 1)]);
        let long = long.expect_err("too long").to_string();
        assert!(long.contains("values[2]"), "{long}");
        let many = values.take(vec![String::new(); MOST_VALUES]);
        assert!(many.is_err());
        let mut values = Values::default();
        let part = vec!["x".repeat(MAX_VALUE); MAX_BYTES / MAX_VALUE];
        values.take(part).expect("it fits");
        assert!(values.take(vec!["x".to_owned()]).is_err());
    }
}
