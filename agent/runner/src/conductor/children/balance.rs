//! Shards that are balanced: the durations of earlier runs are asked for, and the log says what came of
//! it. Without them shards are split evenly.

use muster_spec::strategy::{Instances, about};

use super::instances::Texts;
use crate::conductor::operation::Failure;

/// Most shards that are told of one by one.
const TOLD: usize = 32;

impl Texts<'_> {
    /// Splits the shards of instances by how long their values took.
    pub(super) async fn balance(&self, instances: &mut Instances) -> Result<(), Failure> {
        let at = self.at;
        let values = instances.shard_values();
        if values.is_empty() || instances.is_empty() {
            return Ok(());
        }
        let (run, limits) = (at.run, at.limits);
        let told = tokio::select! {
            told = run.durations.get(&run.agent, &values) => told,
            cause = limits.reached() => return Err(Failure::stopped(&cause, at.step)),
        };
        let (times, runs) = match told {
            Ok(told) => told,
            Err(why) => return self.remark_even(&why).await,
        };
        let Some(estimate) = instances.balance(&times) else {
            let why = match runs {
                0 => "no earlier run of this workflow has told durations of tests".to_owned(),
                _ if times.is_empty() => {
                    format!("no test of the last {runs} runs belongs to one of the values")
                }
                _ => "there is one part".to_owned(),
            };
            return self.remark_even(&why).await;
        };
        let text = format!(
            "shards are balanced by the durations of {}: {} of {} values are known, each shard takes about {} to {}",
            count(runs),
            estimate.known,
            estimate.values,
            about(estimate.shortest),
            about(estimate.longest),
        );
        run.spool.remark(at.step, &text).await;
        let labels = instances.shard_labels();
        let all = labels.len();
        for label in labels.take(TOLD) {
            run.spool.remark(at.step, &label).await;
        }
        if all > TOLD {
            let text = format!("and {} shards more", all - TOLD);
            run.spool.remark(at.step, &text).await;
        }
        Ok(())
    }

    async fn remark_even(&self, why: &str) -> Result<(), Failure> {
        let text = format!("shards are split evenly: {why}");
        self.at.run.spool.remark(self.at.step, &text).await;
        Ok(())
    }
}

fn count(runs: u32) -> String {
    match runs {
        1 => "the last run".to_owned(),
        _ => format!("the last {runs} runs"),
    }
}
