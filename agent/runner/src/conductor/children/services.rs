//! The operation that starts services, and their end: they are stopped with the step that owns
//! them, whatever it came to.

use std::{collections::BTreeSet, time::Duration};

use futures::future::try_join_all;
use muster_proto::runner::v1::{
    ChildInstance, ChildStatus, Outcome, StartChildren, StopChildren, children_order::Order,
};
use muster_spec::{
    duration,
    plan::{Given, Service},
    strategy::Instances,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    BATCH, Children, LARGEST, hands::json as as_json, instances::Texts, transfer::Outgoing,
};
use crate::conductor::{
    Run,
    operation::{At, Failure},
};

/// How long services may take to end before they are killed.
const END: Duration = Duration::from_secs(60);
/// Most troubles of one service that are told while it is waited for.
const MOST_TROUBLES: usize = 10;

/// Services that were started, to be stopped.
#[derive(Debug)]
pub(in crate::conductor) struct Started {
    name: String,
    group: String,
    count: u32,
    /// How many of them the server has made for certain.
    made: u32,
    /// What sets each instance apart.
    labels: Vec<String>,
    /// It is ready when its probe says so, and not before.
    probed: bool,
}

impl At<'_> {
    /// Starts services and waits until all are ready. What was started is noted in `started`
    /// even when that fails.
    pub(in crate::conductor) async fn services(
        &self,
        operation: usize,
        services: &[Service],
        started: &mut Vec<Started>,
    ) -> Result<(), Failure> {
        let mut deadlines = Vec::new();
        for (item, service) in services.iter().enumerate() {
            let texts = Texts::new(self, &service.env, service.working_dir.as_deref()).await?;
            let instances = texts.instances(&service.strategy).await?;
            deadlines.push(deadline(&texts, service, &instances).await?);
            self.start((operation, item), service, (&texts, &instances), started)
                .await?;
        }
        let _resting = self.run.board.rest();
        let begun = started.len() - services.len();
        // Side by side: one that is late or ended fails the step whatever the others do.
        let waits = started.iter().skip(begun).zip(deadlines);
        let waits = waits.map(|(one, deadline)| self.ready(one, deadline));
        try_join_all(waits).await.map(drop)
    }

    async fn start(
        &self,
        (operation, item): (usize, usize),
        service: &Service,
        (texts, instances): (&Texts<'_>, &Instances),
        started: &mut Vec<Started>,
    ) -> Result<(), Failure> {
        let base = match self.step {
            "s0-services" => service.name.clone(),
            step => format!("{step}-{}", service.name),
        };
        let group = self.run.children.group(&base);
        let text = format!(
            "starting service {}: {}",
            service.name,
            instances.describe()
        );
        self.run.spool.remark(self.step, &text).await;
        let mut outgoing = Outgoing::new(self, &group);
        let mut all = Vec::with_capacity(instances.len());
        for index in 0..instances.len() {
            let Some(instance) = instances.get(index) else {
                continue;
            };
            let mut given = Given::default();
            for transfer in &service.transfer {
                let directory = service.service_dir.as_deref();
                let sent = outgoing.send(texts, transfer, &instance, directory);
                given.receive.extend(sent.await?);
            }
            all.push(ChildInstance {
                index: u32::try_from(index).unwrap_or(u32::MAX),
                description: texts
                    .label(service.description.as_deref(), &instance)
                    .await?,
                given: serde_json::to_vec(&given).unwrap_or_default().into(),
                variables: as_json(instance.variables),
                ..ChildInstance::default()
            });
        }
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let labels = all.iter().map(|one| one.description.clone()).collect();
        let variables = json!({
            "step": self.sight.results.all(),
            "services": self.sight.services.all(),
        });
        // Noted before it is known what becomes of it: it may be started all the same.
        started.push(Started {
            name: service.name.clone(),
            group: group.clone(),
            count,
            made: 0,
            labels,
            probed: service.readiness_probe.is_some(),
        });
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (instances, more) = rest.split_at(batch(rest));
            rest = more;
            let order = Order::Start(StartChildren {
                group: group.clone(),
                step: self.step.to_owned(),
                operation: u32::try_from(operation).unwrap_or(u32::MAX),
                item: u32::try_from(item).unwrap_or(u32::MAX),
                variables: variables.to_string().into(),
                instances: instances.to_vec(),
            });
            tokio::select! {
                started = self.run.children.order(order) => started.map(drop)?,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
            if let Some(this) = started.last_mut() {
                this.made = count - u32::try_from(rest.len()).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Waits until all instances of a service are ready, and remembers where they are.
    async fn ready(
        &self,
        started: &Started,
        deadline: Option<(Instant, Duration)>,
    ) -> Result<(), Failure> {
        let mut changes = self.run.children.subscribe();
        let mut told = BTreeSet::new();
        loop {
            let known = started.known(&self.run.children);
            for status in known.iter().flatten() {
                self.tell_trouble(&started.name, status, &mut told).await;
            }
            for status in known.iter().flatten() {
                let early = started.probed && !status.ready;
                if status.terminal && (early || status.outcome() != Outcome::Passed) {
                    let how = match status.message.as_str() {
                        "" => String::new(),
                        message => format!(": {message}"),
                    };
                    let text = format!(
                        "the service {} ended before it was ready{how}; see `muster logs {}`",
                        started.name, status.display_name
                    );
                    return Err(Failure::new("SERVICE", text));
                }
            }
            let ready = |status: &Option<ChildStatus>| {
                status.as_ref().is_some_and(|status| {
                    status.terminal || (status.ready && !status.address.is_empty())
                })
            };
            if known.iter().all(ready) {
                let known = known.iter().flatten().zip(&started.labels);
                let addresses: Vec<Value> = known
                    .map(|(status, label)| describe(status, label))
                    .collect();
                let count = addresses.len();
                self.sight.services.set(&started.name, addresses);
                let text = format!("service {} is ready: {count} running", started.name);
                self.run.spool.remark(self.step, &text).await;
                return Ok(());
            }
            let expiry = async {
                match deadline {
                    Some((at, _)) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives in the run.
                _ = changes.changed() => {}
                () = expiry => {
                    let waits = known.iter().filter(|status| !ready(status)).count();
                    let after = deadline.map(|(_, after)| after).unwrap_or_default();
                    let mut text = format!(
                        "the service {} was not ready within {after:?}: {waits} of {} are not",
                        started.name, started.count
                    );
                    let late = known.iter().find(|status| !ready(status));
                    if let Some(status) = late.and_then(Option::as_ref) {
                        if !status.message.is_empty() {
                            text.push_str(&format!(": {}", status.message));
                        }
                        text.push_str(&format!("; see `muster logs {}`", status.display_name));
                    }
                    return Err(Failure::new("SERVICE", text));
                }
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
        }
    }

    /// Tells why a service that is not ready yet was started again; the same only once.
    async fn tell_trouble(
        &self,
        service: &str,
        status: &ChildStatus,
        told: &mut BTreeSet<(u32, String)>,
    ) {
        let is_silent = status.message.is_empty() || status.ready || status.terminal;
        let is_news = !is_silent
            && told.len() < MOST_TROUBLES
            && told.insert((status.index, status.message.clone()));
        if is_news {
            let text = format!(
                "service {service} is started again: {}; see `muster logs {}`",
                status.message, status.display_name
            );
            self.run.spool.remark(self.step, &text).await;
        }
    }
}

impl Started {
    fn known(&self, children: &Children) -> Vec<Option<ChildStatus>> {
        let indices = 0..self.count;
        indices
            .map(|index| children.status(&self.group, index))
            .collect()
    }

    /// Stops all instances. One that does not end is killed; the server ends what is left when
    /// the attempt is over.
    pub(in crate::conductor) async fn stop(&self, run: &Run) {
        for force in [false, true] {
            let order = Order::Stop(StopChildren {
                group: self.group.clone(),
                indices: Vec::new(),
                force,
                message: "its owner is over".to_owned(),
            });
            let ended = async {
                // Refused when the lease is lost: then the server ends it.
                let _refused = run.children.order(order).await;
                let mut changes = run.children.subscribe();
                // Of the newest ones nothing may have been heard yet.
                let lives = |(index, status): (u32, Option<ChildStatus>)| {
                    status.map_or(index < self.made, |status| !status.terminal)
                };
                while (0..).zip(self.known(&run.children)).any(lives) {
                    // The sender lives in the run.
                    let _closed = changes.changed().await;
                }
            };
            if timeout(END, ended).await.is_ok() {
                return;
            }
        }
    }
}

/// How many instances go into the next order.
fn batch(instances: &[ChildInstance]) -> usize {
    let mut size = 0;
    let fitting = instances.iter().take(BATCH).take_while(|one| {
        size += one.encoded_len();
        size <= LARGEST
    });
    fitting.count().max(1)
}

/// A service as expressions see it.
fn describe(status: &ChildStatus, label: &str) -> Value {
    json!({
        "description": label,
        "ip": status.address,
        "name": status.display_name,
        "index": status.index,
    })
}

/// Until when a service may become ready: each instance has its own time, and the longest one counts.
async fn deadline(
    texts: &Texts<'_>,
    service: &Service,
    instances: &Instances,
) -> Result<Option<(Instant, Duration)>, Failure> {
    let Some(timeout) = &service.timeout else {
        return Ok(None);
    };
    let what = format!("services.{}.timeout", service.name);
    let mut longest = Duration::ZERO;
    for instance in (0..instances.len()).filter_map(|index| instances.get(index)) {
        let text = texts.template(&what, timeout, &instance).await?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let patience = duration::parse(&text)
            .map_err(|error| Failure::new("EXPRESSION", format!("{what}: {error}")))?;
        longest = longest.max(patience);
        if !timeout.contains("{{") {
            break;
        }
    }
    Ok(Some((Instant::now() + longest, longest)))
}
