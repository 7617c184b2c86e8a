//! The operation `parallel`: workers of a step.

use muster_spec::plan::{Given, Parallel, Send};

use super::{
    crew::{self, Rules},
    hands::{Hand, Hands, json},
    instances::Texts,
    transfer::{Fetch, Outgoing},
};
use crate::conductor::operation::{At, Failure};

/// Most workers at a time, unless the step says otherwise.
const PARALLELISM: usize = 1000;

impl At<'_> {
    /// Runs the workers of an operation.
    pub(in crate::conductor) async fn parallel(
        &self,
        operation: usize,
        parallel: &Parallel,
    ) -> Result<(), Failure> {
        let texts = Texts::new(self, &parallel.env, parallel.working_dir.as_deref()).await?;
        let instances = texts.instances(&parallel.strategy).await?;
        if instances.is_empty() {
            let text = format!("nothing to run: {}", instances.describe());
            self.run.spool.remark(self.step, &text).await;
            return Ok(());
        }
        let parallelism = texts
            .number("parallelism", parallel.parallelism.as_deref())
            .await?;
        let rules = Rules {
            noun: "worker",
            group: self.run.children.group(self.step),
            operation: u32::try_from(operation).unwrap_or(u32::MAX),
            parallelism: parallelism.unwrap_or(PARALLELISM),
            fail_fast: parallel.fail_fast,
            detached: false,
            together: parallel.paused,
        };
        let text = format!("{} for workers", instances.describe());
        self.run.spool.remark(self.step, &text).await;
        let mut outgoing = Outgoing::new(self, &rules.group);
        let mut hands = Hands::default();
        let directory = parallel.worker_dir.as_deref();
        for index in 0..instances.len() {
            let Some(instance) = instances.get(index) else {
                continue;
            };
            let mut given = Given::default();
            for transfer in &parallel.transfer {
                let sent = outgoing.send(&texts, transfer, &instance, directory);
                given.receive.extend(sent.await?);
            }
            let mut fetch = Vec::new();
            for (number, wanted) in parallel.fetch.iter().enumerate() {
                let from = texts
                    .template("fetch.from", &wanted.from, &instance)
                    .await?;
                let from = texts.there(directory, &from, &instance).await?;
                let to = match &wanted.to {
                    Some(to) => texts.here(&texts.template("fetch.to", to, &instance).await?),
                    None => from.clone(),
                };
                let path = format!(".muster/fetch/{number}.tar.gz");
                given.send.push(Send {
                    from,
                    files: texts
                        .patterns("fetch.files", wanted.files.as_ref(), &instance)
                        .await?,
                    path: path.clone(),
                });
                fetch.push(Fetch { path, to });
            }
            hands.push(Hand {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                item: 0,
                label: texts
                    .label(parallel.description.as_deref(), &instance)
                    .await?,
                given: serde_json::to_vec(&given).unwrap_or_default().into(),
                variables: json(instance.variables),
                workflow: String::new(),
                config: std::collections::HashMap::new(),
                fetch,
                started: false,
                resumed: false,
            })?;
        }
        crew::work(self, &rules, hands.all).await
    }
}
