//! What the status of a pod means for its attempt. Pure: time is given, nothing is asked.

mod image;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus as Told, Pod,
};
use muster_proto::runner::v1::ContainerStatus;
use tokio::time::Instant;

use super::job::CONDUCTOR;
use crate::attempt::Work;

/// How long a container may wait for something of its configuration to appear.
const CONFIG_DEADLINE: Duration = Duration::from_secs(30);
/// How long a pod may take to end after its grace time, before its node counts as lost.
const NODE_DEADLINE: Duration = Duration::from_secs(60);

/// Words of a container's runtime for a start that somebody else broke off. What all containers of steps run, and
/// what the conductor's hook puts there, is not there when the node has not let that hook come to its end.
const BROKEN_OFF: [&str; 4] = [
    "context canceled",
    "context deadline exceeded",
    "error while dialing",
    "stat /.muster/bin/muster-runner: no such file or directory",
];

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// An image whose pull fails for a reason that may pass.
    pub(super) image_pull: Duration,
    /// A pod until its conductor runs.
    pub(super) start: Duration,
}

/// What follows from a status.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Notice {
    /// Tell the conductor of a container.
    Container(ContainerStatus),
    /// Tell the server what the pod waits for.
    Preparing { reason: String, message: String },
    /// There will be no completion record, unless it is on its way already.
    Lost { reason: String, message: String },
}

/// Whether a service's container passes its readiness probe; nothing when there is no probe.
pub(super) fn probed(pod: &Pod, work: Option<&Work>) -> Option<bool> {
    let plan = &work?.plan;
    plan.service.as_ref()?.readiness_probe.as_ref()?;
    let name = &plan.containers.get(plan.service_container()?)?.name;
    let told = pod.status.as_ref()?.container_statuses.as_ref()?;
    told.iter()
        .find(|told| told.name == *name)
        .map(|told| told.ready)
}

/// What is remembered of one pod.
#[derive(Debug)]
pub(super) struct Tracker {
    since: Instant,
    /// Since when a container waits for the reason it does.
    waiting: BTreeMap<String, (String, Instant)>,
    /// Containers that were said to be over; that does not change any more.
    over: BTreeSet<String>,
    conductor_ran: bool,
    terminating: Option<Instant>,
    /// Why it was disrupted, for when it is gone.
    disruption: Option<(String, String)>,
}

impl Tracker {
    /// Begins to remember.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            waiting: BTreeMap::new(),
            over: BTreeSet::new(),
            conductor_ran: false,
            terminating: None,
            disruption: None,
        }
    }

    /// Why the pod was disrupted, if it was.
    pub(super) fn disruption(&self) -> Option<(String, String)> {
        self.disruption.clone()
    }

    /// Since when there is something to remember.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// What follows from the pod's status at this time. May be asked again with the same status
    /// when time has passed.
    pub(super) fn observe(&mut self, pod: &Pod, now: Instant, limits: Limits) -> Vec<Notice> {
        let mut notices = Vec::new();
        let status = pod.status.clone().unwrap_or_default();
        self.note_disruption(pod);
        let containers = status.container_statuses.unwrap_or_default();
        if let Some(message) = containers.iter().find_map(broken_off) {
            let reason = "DISRUPTED".to_owned();
            notices.push(Notice::Lost { reason, message });
            return notices;
        }
        for told in containers.iter().filter(|told| told.name != CONDUCTOR) {
            notices.extend(self.container(told, now, limits).map(Notice::Container));
        }
        let conductor = containers.iter().find(|told| told.name == CONDUCTOR);
        let deleted = pod.metadata.deletion_timestamp.is_some();
        if deleted && status.reason.is_none() && self.disruption.is_none() {
            // The Job knows why; it is asked when the pod is gone.
            notices.extend(self.node(pod, now));
            return notices;
        }
        if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            let (reason, message) = self.ended(status.reason, status.message, conductor);
            notices.push(Notice::Lost { reason, message });
            return notices;
        }
        notices.extend(self.conductor(conductor, now, limits));
        if !self.conductor_ran {
            notices.extend(self.placement(pod, now, limits));
        }
        notices.extend(self.node(pod, now));
        notices
    }

    /// A container of the plan.
    fn container(&mut self, told: &Told, now: Instant, limits: Limits) -> Option<ContainerStatus> {
        let state = told.state.clone().unwrap_or_default();
        let mut said = ContainerStatus {
            container: told.name.clone(),
            ..ContainerStatus::default()
        };
        if let Some(ended) = &state.terminated {
            self.over.insert(told.name.clone());
            said.terminal = true;
            said.reason = ended.reason.clone().unwrap_or_default();
            said.message = ended.message.clone().unwrap_or_default();
            said.exit_code = Some(ended.exit_code);
            return Some(said);
        }
        if self.over.contains(&told.name) {
            return None;
        }
        let (reason, message) = waits_for(&state)?;
        let since = self.waits(&told.name, &reason, now);
        said.terminal = is_hopeless(&reason, &message, now - since, limits);
        if said.terminal {
            self.over.insert(told.name.clone());
        }
        said.reason = reason;
        said.message = message;
        Some(said)
    }

    /// Since when a container waits for this kind of thing.
    fn waits(&mut self, container: &str, reason: &str, now: Instant) -> Instant {
        let kind = image::kind(reason);
        match self.waiting.get(container) {
            Some((held, since)) if held == kind => *since,
            _ => {
                self.waiting
                    .insert(container.to_owned(), (kind.to_owned(), now));
                now
            }
        }
    }

    fn conductor(&mut self, told: Option<&Told>, now: Instant, limits: Limits) -> Option<Notice> {
        let state = told?.state.clone().unwrap_or_default();
        if state.running.is_some() {
            self.conductor_ran = true;
            return None;
        }
        if let Some(ended) = &state.terminated {
            let (reason, message) = self.conductor_ended(ended);
            return Some(Notice::Lost { reason, message });
        }
        let (reason, message) = waits_for(&state)?;
        let since = self.waits(CONDUCTOR, &reason, now);
        let hopeless = is_hopeless(&reason, &message, now - since, limits);
        let message = format!("the conductor's container: {reason}: {message}");
        let reason = if image::kind(&reason) == image::PULL {
            "IMAGE_PULL".to_owned()
        } else {
            "CONDUCTOR_START".to_owned()
        };
        if hopeless {
            return Some(Notice::Lost { reason, message });
        }
        Some(Notice::Preparing { reason, message })
    }

    /// The place of a pod that has not begun.
    fn placement(&self, pod: &Pod, now: Instant, limits: Limits) -> Option<Notice> {
        let status = pod.status.as_ref()?;
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False");
        let late = now - self.since >= limits.start;
        let Some(condition) = unscheduled else {
            return late.then(|| Notice::Lost {
                reason: "START_DEADLINE".to_owned(),
                message: format!(
                    "the conductor did not start within {} s",
                    limits.start.as_secs()
                ),
            });
        };
        let reason = upper_snake(condition.reason.as_deref().unwrap_or("Unschedulable"));
        let message = condition.message.clone().unwrap_or_default();
        if late {
            return Some(Notice::Lost { reason, message });
        }
        Some(Notice::Preparing { reason, message })
    }

    /// A pod that should end and does not: its node is gone.
    fn node(&mut self, pod: &Pod, now: Instant) -> Option<Notice> {
        pod.metadata.deletion_timestamp.as_ref()?;
        let since = *self.terminating.get_or_insert(now);
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if now - since < grace + NODE_DEADLINE {
            return None;
        }
        let (reason, message) = self.disruption.clone().unwrap_or_else(|| {
            (
                "NODE_LOST".to_owned(),
                "the pod does not end; its node does not answer".to_owned(),
            )
        });
        Some(Notice::Lost { reason, message })
    }

    fn note_disruption(&mut self, pod: &Pod) {
        let conditions = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let disrupted = conditions
            .into_iter()
            .flatten()
            .find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
        if let Some(condition) = disrupted {
            let reason = match condition.reason.as_deref() {
                Some("PreemptionByScheduler") => "PREEMPTED",
                Some("DeletionByTaintManager" | "DeletionByPodGC") => "NODE_LOST",
                Some("EvictionByEvictionAPI" | "TerminationByKubelet") => "EVICTED",
                _ => "DISRUPTED",
            };
            let message = condition.message.clone().unwrap_or_default();
            self.disruption = Some((reason.to_owned(), message));
        }
    }

    /// Why a pod ended as a whole.
    fn ended(
        &self,
        reason: Option<String>,
        message: Option<String>,
        conductor: Option<&Told>,
    ) -> (String, String) {
        if let Some(reason) = reason {
            let word = match reason.as_str() {
                "Evicted" => "EVICTED".to_owned(),
                "DeadlineExceeded" => "DEADLINE_EXCEEDED".to_owned(),
                "NodeLost" | "NodeShutdown" | "Terminated" | "Shutdown" => "NODE_LOST".to_owned(),
                other => upper_snake(other),
            };
            return (word, message.unwrap_or(reason));
        }
        let ended = conductor
            .and_then(|told| told.state.as_ref())
            .and_then(|state| state.terminated.as_ref());
        match ended {
            Some(ended) => self.conductor_ended(ended),
            None => self.disruption.clone().unwrap_or_else(|| {
                (
                    "POD_ENDED".to_owned(),
                    message.unwrap_or_else(|| "the pod ended without a result".to_owned()),
                )
            }),
        }
    }

    fn conductor_ended(&self, ended: &ContainerStateTerminated) -> (String, String) {
        if let Some(disruption) = &self.disruption {
            return disruption.clone();
        }
        let reason = ended.reason.as_deref().unwrap_or("Error");
        let mut message = format!(
            "the conductor ended without a result: {reason}, exit code {}",
            ended.exit_code
        );
        if let Some(more) = &ended.message {
            message.push_str(": ");
            message.push_str(more);
        }
        ("CONDUCTOR_EXITED".to_owned(), message)
    }
}

/// What the node says of a container whose start it broke off, because a part of the node itself was
/// stopped meanwhile: nothing of it has run, and no other try follows in this pod.
fn broken_off(told: &Told) -> Option<String> {
    let ended = told.state.as_ref()?.terminated.as_ref()?;
    let said = ended.message.as_deref().unwrap_or_default();
    let broken = ended.reason.as_deref() == Some("StartError")
        && BROKEN_OFF.iter().any(|words| said.contains(words));
    broken.then(|| {
        format!(
            "the start of the container '{}' was broken off: {said}",
            told.name
        )
    })
}

/// What a container waits for, when that is more than its turn.
fn waits_for(state: &ContainerState) -> Option<(String, String)> {
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.clone().unwrap_or_default();
    if matches!(
        reason.as_str(),
        "" | "ContainerCreating" | "PodInitializing"
    ) {
        return None;
    }
    Some((reason, waiting.message.clone().unwrap_or_default()))
}

/// Whether waiting any longer makes sense.
fn is_hopeless(reason: &str, message: &str, waited: Duration, limits: Limits) -> bool {
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => true,
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            image::is_final(message) || waited >= limits.image_pull
        }
        // No later try makes another user of the image.
        "CreateContainerConfigError"
            if message.contains("runAsNonRoot") || message.contains("non-root") =>
        {
            true
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            waited >= CONFIG_DEADLINE
        }
        _ => false,
    }
}

/// `ImagePullBackOff` → `IMAGE_PULL_BACK_OFF`.
fn upper_snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for (index, c) in camel.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests;
