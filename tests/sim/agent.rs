//! A model of the agent daemon: what it knows of its attempts, what it says and how it takes what
//! it hears, rule by rule as `muster-agent` does it. Pods are in [`crate::pod`], the network in
//! [`crate::wire`]; nothing here waits for anything.

use std::{collections::BTreeMap, time::Duration};

use muster_core::execution::State;
use muster_proto::v1::{
    AgentHello, Assignment, AttemptOrder, AttemptRef, AttemptReport, Completion, Credit,
    DeclineAttempt, RenewLeases, StepResult, Welcome, attempt_order::Action,
    attempt_report::Phase, execution, link_request::Message as Out, link_response::Message as In,
    refusal::Reason, step_result,
};
use sha2::{Digest as _, Sha256};

use crate::{
    ledger::Ledger,
    op::End,
    pod::{Cluster, Pod, Stage},
    wire::{LogWire, Wire},
};

/// How long a lease lives after a renewal.
pub(crate) const LEASE: Duration = Duration::from_secs(6);
/// How often agents renew.
pub(crate) const RENEW: Duration = Duration::from_secs(2);
/// All agents, and how many attempts each runs at most.
pub(crate) const AGENTS: [(&str, u32); 2] = [("east", 2), ("west", 3)];

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a process knows of an attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) epoch: i64,
    /// Sequence of the newest snapshot; 0 before the first.
    sequence: i64,
    committed: i64,
    /// Sequence that was sent on this stream.
    sent: i64,
    /// What the newest snapshot shows: version of the pod, and whether it is the last one.
    noticed: (u64, bool),
    pub(crate) durable: i64,
    /// Why there will be no completion record.
    lost: Option<&'static str>,
    /// No more of the log will come.
    log_is_over: bool,
    /// It is over for this process.
    over: bool,
    /// The last report that was sent.
    last_report: Option<AttemptReport>,
}

/// A process of an agent.
#[derive(Debug)]
pub(crate) struct Process {
    /// Which of [`AGENTS`] it is.
    pub(crate) agent: usize,
    session: String,
    pub(crate) known: BTreeMap<String, Known>,
    pub(crate) wire: Option<Wire>,
    /// Streams that are broken and the server does not know it.
    pub(crate) half_open: Vec<Wire>,
    /// Streams of logs that are open, and those that are as good as broken.
    pub(crate) logs: Vec<LogWire>,
    /// The welcome was heard on this stream.
    pub(crate) welcomed: bool,
    /// What it says arrives.
    pub(crate) up: bool,
    /// It hears what is said.
    pub(crate) down: bool,
    /// A newer process has its place: it has ended.
    pub(crate) superseded: bool,
    /// How many of the next attempts it gives back.
    pub(crate) declines: u8,
    credit: Option<u32>,
    declined: Vec<DeclineAttempt>,
    /// Renewals that are not answered, by sequence: when they were sent, in milliseconds, and for
    /// what.
    renewals: BTreeMap<i64, (i64, Vec<String>)>,
    renewal: i64,
    renew_at: i64,
    connected_at: i64,
    /// How wrong its clock is, in milliseconds.
    pub(crate) skew: i64,
}

impl Process {
    /// A process that finds the pods of its cluster.
    pub(crate) fn start(agent: usize, cluster: &Cluster) -> Self {
        let found = cluster.iter().map(|(attempt, pod)| {
            let known = Known {
                epoch: pod.epoch,
                ..Known::default()
            };
            (attempt.clone(), known)
        });
        Self {
            agent,
            session: uuid::Uuid::now_v7().to_string(),
            known: found.collect(),
            wire: None,
            half_open: Vec::new(),
            logs: Vec::new(),
            welcomed: false,
            up: true,
            down: true,
            superseded: false,
            declines: 0,
            credit: None,
            declined: Vec::new(),
            renewals: BTreeMap::new(),
            renewal: 0,
            renew_at: 0,
            connected_at: 0,
            skew: 0,
        }
    }

    fn capacity(&self) -> u32 {
        AGENTS.get(self.agent).map_or(1, |(_, capacity)| *capacity)
    }

    /// The attempts that it holds a lease of, as far as it knows.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.known.iter().filter(|(_, known)| !known.over)
    }

    fn slots(&self) -> u32 {
        let held = u32::try_from(self.held().count()).unwrap_or(u32::MAX);
        self.capacity().saturating_sub(held)
    }

    fn held_refs(&self) -> Vec<AttemptRef> {
        self.held()
            .map(|(attempt, known)| AttemptRef {
                attempt: attempt.clone(),
                epoch: known.epoch,
            })
            .collect()
    }

    /// Begins on a new stream: says hello.
    pub(crate) fn greet(&mut self, wire: Wire, now: i64) {
        self.welcomed = false;
        self.credit = None;
        self.declined.clear();
        self.renewals.clear();
        self.renewal = 0;
        self.connected_at = now;
        self.renew_at = now + millis(RENEW);
        for known in self.known.values_mut() {
            known.sent = 0;
        }
        let hello = AgentHello {
            min_protocol: 1,
            max_protocol: 1,
            session: self.session.clone(),
            capacity: self.capacity(),
            backend: "simulated".to_owned(),
            attempts: self.held_refs(),
            ..AgentHello::default()
        };
        let wire = self.wire.insert(wire);
        wire.say(Out::Hello(hello), self.up);
    }

    /// Whether its stream tells nothing for so long that it should be given up.
    pub(crate) fn is_deaf(&self, now: i64) -> bool {
        let since = match self.welcomed {
            true => self.renewals.values().next().map(|(sent, _)| *sent),
            false => Some(self.connected_at),
        };
        since.is_some_and(|since| now - since > 3 * millis(RENEW))
    }

    /// Everything that is to be said now.
    pub(crate) fn words(&mut self, cluster: &Cluster, ledger: &mut Ledger, now: i64) -> Vec<Out> {
        self.notice(cluster);
        let mut words = Vec::new();
        if !self.welcomed {
            return words;
        }
        if now >= self.renew_at {
            self.renewal += 1;
            let held = self.held().map(|(attempt, _)| attempt.clone()).collect();
            self.renewals.insert(self.renewal, (now, held));
            self.renew_at = now + millis(RENEW);
            words.push(Out::Renew(RenewLeases {
                sequence: self.renewal,
                attempts: self.held_refs(),
            }));
        }
        words.extend(self.declined.drain(..).map(Out::Decline));
        let news: Vec<String> = self
            .held()
            .filter(|(_, known)| known.sequence > known.committed && known.sent != known.sequence)
            .map(|(attempt, _)| attempt.clone())
            .collect();
        for attempt in news {
            words.extend(self.report(&attempt, cluster, ledger, now).map(Out::Report));
        }
        let slots = self.slots();
        if self.credit != Some(slots) {
            self.credit = Some(slots);
            words.push(Out::Credit(Credit { slots, exempt: 0 }));
        }
        words
    }

    /// The last report of an attempt once more.
    pub(crate) fn last_report(&self, attempt: &str) -> Option<AttemptReport> {
        self.known.get(attempt)?.last_report.clone()
    }

    /// Takes note of what the pods have done.
    fn notice(&mut self, cluster: &Cluster) {
        for (attempt, known) in self.known.iter_mut().filter(|(_, known)| !known.over) {
            let pod = cluster.get(attempt);
            if pod.is_none() && known.lost.is_none() && known.sequence > 0 {
                known.lost = Some("POD_GONE");
            }
            let now = (
                pod.map_or(u64::MAX, |pod| pod.version),
                is_last(known, pod),
            );
            let begun = pod.is_some() || known.lost.is_some();
            if begun && now != known.noticed {
                known.noticed = now;
                known.sequence += 1;
            }
        }
    }

    fn report(
        &mut self,
        attempt: &str,
        cluster: &Cluster,
        ledger: &mut Ledger,
        now: i64,
    ) -> Option<AttemptReport> {
        let skew = self.skew;
        let known = self.known.get_mut(attempt)?;
        let pod = cluster.get(attempt);
        let report = snapshot(attempt, known, pod, now + skew);
        known.sent = report.sequence;
        known.last_report = Some(report.clone());
        let spoken = ledger.attempts.get_mut(attempt);
        if let (Some(spoken), Some(completion), Some(pod)) = (spoken, &report.completion, pod) {
            spoken.outcomes.insert(outcome(pod));
            let printed = spoken.printed.get(pod.incarnation);
            match printed.is_some_and(|printed| digest(printed) == completion.log_sha256) {
                true if known.durable >= size(pod) => spoken.true_digest = true,
                true => {}
                false => spoken.false_digest = true,
            }
        }
        Some(report)
    }

    /// Takes in one message. An error is a promise that is broken.
    pub(crate) fn hear(
        &mut self,
        message: In,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        match message {
            In::Welcome(welcome) => self.welcome(welcome, cluster, ledger)?,
            In::Assignment(assignment) => self.assigned(&assignment, cluster, ledger)?,
            In::ReportAck(ack) => self.acknowledged(&ack.attempt, ack.sequence, cluster, ledger)?,
            In::Renewed(renewed) => {
                let (sent, held) = self
                    .renewals
                    .remove(&renewed.sequence)
                    .unwrap_or((i64::MIN, Vec::new()));
                self.renewals
                    .retain(|sequence, _| *sequence > renewed.sequence);
                let kept = |attempt: &&String| !renewed.lost.iter().any(|it| it.attempt == **attempt);
                for attempt in held.iter().filter(kept) {
                    promise(ledger, attempt, sent);
                }
                for lost in &renewed.lost {
                    self.kill(&lost.attempt, lost.epoch, cluster);
                }
            }
            In::Cancel(cancel) => {
                if let Some(pod) = self.pod(&cancel.attempt, cancel.epoch, cluster) {
                    pod.cancel = pod.cancel.max(Some(cancel.force));
                }
            }
            In::Pause(pause) => {
                if let Some(pod) = self.pod(&pause.attempt, pause.epoch, cluster)
                    && pause.sequence > pod.pause.0
                {
                    pod.pause = (pause.sequence, pause.paused);
                }
            }
            In::Refusal(refusal) => match refusal.reason() {
                Reason::LeaseLost => self.kill(&refusal.attempt, refusal.epoch, cluster),
                Reason::Superseded => self.superseded = true,
                Reason::Invalid | Reason::UnsupportedProtocol | Reason::Unspecified => {
                    return Err(format!("an honest message was refused: {refusal:?}"));
                }
            },
            // The stream ends by itself after it.
            In::Drain(_) => {}
        }
        Ok(())
    }

    fn pod<'a>(&self, attempt: &str, epoch: i64, cluster: &'a mut Cluster) -> Option<&'a mut Pod> {
        self.known
            .get(attempt)
            .filter(|known| known.epoch == epoch && !known.over)?;
        cluster.get_mut(attempt)
    }

    fn welcome(
        &mut self,
        welcome: Welcome,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        self.welcomed = true;
        let named: Vec<String> = welcome.orders.iter().map(|it| it.attempt.clone()).collect();
        if let Some((attempt, _)) = self.held().find(|(attempt, _)| !named.contains(attempt)) {
            return Err(format!("the welcome has no order for attempt {attempt}"));
        }
        for order in welcome.orders {
            match order.action() {
                Action::Adopt => self.adopt(&order, cluster, ledger)?,
                Action::Kill => self.kill(&order.attempt, order.epoch, cluster),
                Action::Forget => self.end(&order.attempt, order.epoch, cluster),
                Action::Unspecified => return Err(format!("an order without action: {order:?}")),
            }
        }
        Ok(())
    }

    fn adopt(
        &mut self,
        order: &AttemptOrder,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let Some(assignment) = &order.assignment else {
            return Err(format!("adopt without an assignment: {order:?}"));
        };
        let spoken = ledger.attempts.entry(order.attempt.clone()).or_default();
        if order.log_offset < spoken.durable {
            return Err(format!(
                "{} bytes of the log of {} were acknowledged, the welcome says {}",
                spoken.durable, order.attempt, order.log_offset
            ));
        }
        if order.sequence < spoken.sequence {
            return Err(format!(
                "report {} of {} was acknowledged, the welcome says {}",
                spoken.sequence, order.attempt, order.sequence
            ));
        }
        let new = self
            .known
            .get(&order.attempt)
            .is_none_or(|known| known.over);
        if new {
            self.begin(assignment, cluster, ledger, order.log_offset == 0)?;
        }
        promise(ledger, &order.attempt, self.connected_at);
        let Some(known) = self.known.get_mut(&order.attempt) else {
            return Ok(());
        };
        if known.epoch != order.epoch {
            return Err(format!("adopt under another epoch: {order:?}"));
        }
        let ahead = known.sequence > known.committed;
        known.durable = known.durable.max(order.log_offset);
        known.committed = known.committed.max(order.sequence);
        if known.sequence <= order.sequence {
            known.sequence = order.sequence;
            let preparing = cluster
                .get(&order.attempt)
                .is_some_and(|pod| pod.stage == Stage::Preparing);
            if ahead && !preparing {
                // A snapshot with a number that the server counts as old needs a new one.
                known.sequence += 1;
            }
        }
        if new && order.log_offset > 0 {
            known.lost = Some("POD_GONE");
        }
        if let Some(pod) = cluster.get_mut(&order.attempt) {
            if let Some(cancel) = &order.cancel {
                pod.cancel = pod.cancel.max(Some(cancel.force));
            }
            if let Some(pause) = &order.pause
                && pause.sequence > pod.pause.0
            {
                pod.pause = (pause.sequence, pause.paused);
            }
        }
        Ok(())
    }

    fn assigned(
        &mut self,
        assignment: &Assignment,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if self.known.contains_key(&assignment.attempt) {
            return Ok(());
        }
        if self.slots() == 0 || self.declines > 0 {
            self.declines = self.declines.saturating_sub(1);
            let spoken = ledger
                .attempts
                .entry(assignment.attempt.clone())
                .or_default();
            spoken.execution.clone_from(&assignment.execution);
            spoken.epoch = assignment.epoch;
            spoken.agent = self.agent;
            self.declined.push(DeclineAttempt {
                attempt: assignment.attempt.clone(),
                epoch: assignment.epoch,
                reason: "NO_CAPACITY".to_owned(),
                message: "it is full".to_owned(),
            });
            return Ok(());
        }
        self.begin(assignment, cluster, ledger, true)
    }

    /// Takes an attempt on, and makes its pod unless it is there.
    fn begin(
        &mut self,
        assignment: &Assignment,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
        make_pod: bool,
    ) -> Result<(), String> {
        if assignment.plan.is_empty() {
            return Err(format!("no plan came with attempt {}", assignment.attempt));
        }
        let spoken = ledger
            .attempts
            .entry(assignment.attempt.clone())
            .or_default();
        spoken.execution.clone_from(&assignment.execution);
        spoken.epoch = assignment.epoch;
        spoken.agent = self.agent;
        if make_pod && !cluster.contains_key(&assignment.attempt) {
            let pod = Pod::new(assignment.epoch, spoken.printed.len());
            spoken.printed.push(Vec::new());
            cluster.insert(assignment.attempt.clone(), pod);
        }
        let known = Known {
            epoch: assignment.epoch,
            ..Known::default()
        };
        self.known.insert(assignment.attempt.clone(), known);
        Ok(())
    }

    fn acknowledged(
        &mut self,
        attempt: &str,
        sequence: i64,
        cluster: &mut Cluster,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let Some(known) = self.known.get_mut(attempt) else {
            return Ok(());
        };
        known.committed = known.committed.max(sequence);
        let pod = cluster.get(attempt);
        let last = is_last(known, pod) && known.noticed == (version(pod), true);
        let told = known.last_report.as_ref();
        let completed = told
            .is_some_and(|told| told.phase() == Phase::Completed && told.sequence <= sequence);
        if let Some(spoken) = ledger.attempts.get_mut(attempt) {
            spoken.sequence = spoken.sequence.max(sequence.min(known.sequence));
            spoken.completion_acknowledged |= completed;
        }
        if known.committed >= known.sequence && last {
            let epoch = known.epoch;
            self.end(attempt, epoch, cluster);
        }
        Ok(())
    }

    fn kill(&mut self, attempt: &str, epoch: i64, cluster: &mut Cluster) {
        self.end(attempt, epoch, cluster);
    }

    /// It is over: the pod is removed.
    fn end(&mut self, attempt: &str, epoch: i64, cluster: &mut Cluster) {
        if let Some(known) = self.known.get_mut(attempt)
            && known.epoch == epoch
        {
            known.over = true;
            cluster.remove(attempt);
        }
    }

    /// No more of the log of a pod will come.
    pub(crate) fn cut_log(&mut self, attempt: &str) {
        if let Some(known) = self.known.get_mut(attempt) {
            known.log_is_over = true;
        }
    }
}

/// The lease of an attempt was renewed at some time.
fn promise(ledger: &mut Ledger, attempt: &str, at: i64) {
    if let Some(spoken) = ledger.attempts.get_mut(attempt) {
        spoken.renewed = spoken.renewed.max(at);
    }
}

fn version(pod: Option<&Pod>) -> u64 {
    pod.map_or(u64::MAX, |pod| pod.version)
}

/// Whether the next report is the last one: a completion record waits for the log.
fn is_last(known: &Known, pod: Option<&Pod>) -> bool {
    if known.lost.is_some() {
        return true;
    }
    pod.is_some_and(|pod| {
        let completed = matches!(pod.stage, Stage::Completed(_));
        completed && (known.log_is_over || known.durable >= size(pod))
    })
}

/// Length of a log.
pub(crate) fn size(pod: &Pod) -> i64 {
    i64::try_from(pod.log.len()).unwrap_or(i64::MAX)
}

/// The outcome of a pod that is completed.
fn outcome(pod: &Pod) -> State {
    match pod.stage {
        Stage::Completed(state) => state,
        Stage::Preparing | Stage::Running | Stage::Paused | Stage::Finishing => State::Aborted,
    }
}

/// The SHA-256 of a log, lower-case hexadecimal.
pub(crate) fn digest(log: &[u8]) -> String {
    Sha256::digest(log)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn snapshot(attempt: &str, known: &Known, pod: Option<&Pod>, now: i64) -> AttemptReport {
    let mut report = AttemptReport {
        attempt: attempt.to_owned(),
        epoch: known.epoch,
        sequence: known.sequence,
        ..AttemptReport::default()
    };
    let time = prost_types::Timestamp {
        seconds: now / 1000,
        nanos: 0,
    };
    match (known.lost, pod) {
        (Some(reason), _) => {
            report.phase = Phase::Lost.into();
            reason.clone_into(&mut report.reason);
        }
        (None, None) => report.phase = Phase::Preparing.into(),
        (None, Some(pod)) => {
            let last = is_last(known, Some(pod));
            let phase = match pod.stage {
                Stage::Preparing => Phase::Preparing,
                Stage::Running => Phase::Running,
                Stage::Paused => Phase::Paused,
                Stage::Completed(_) if last => Phase::Completed,
                Stage::Finishing | Stage::Completed(_) => Phase::Finishing,
            };
            report.phase = phase.into();
            if pod.stage > Stage::Preparing {
                report.start_time = Some(time);
                report.steps = vec![step(pod)];
            }
            if phase == Phase::Completed {
                report.completion = Some(completion(pod, time));
            }
        }
    }
    report
}

fn step(pod: &Pod) -> StepResult {
    let state = match pod.stage {
        Stage::Preparing | Stage::Running => step_result::State::Running,
        Stage::Paused => step_result::State::Paused,
        Stage::Finishing | Stage::Completed(_) => step_result::State::Passed,
    };
    StepResult {
        reference: "s1".to_owned(),
        display_name: "Greet".to_owned(),
        state: state.into(),
        tries: 1,
        ..StepResult::default()
    }
}

fn completion(pod: &Pod, time: prost_types::Timestamp) -> Completion {
    let told = match outcome(pod) {
        State::Passed => execution::State::Passed,
        State::Failed => execution::State::Failed,
        State::Canceled => execution::State::Canceled,
        State::TimedOut => execution::State::TimedOut,
        State::Aborted
        | State::Queued
        | State::Assigned
        | State::Preparing
        | State::Running
        | State::Paused
        | State::Finishing => execution::State::Aborted,
    };
    let mut log = pod.log.clone();
    match pod.end {
        End::WrongDigest => log.iter_mut().for_each(|byte| *byte = !*byte),
        End::ShortLog => log.extend_from_slice(b"never sent"),
        End::Passed | End::Failed | End::TimedOut => {}
    }
    if pod.end == End::WrongDigest && log.is_empty() {
        log.extend_from_slice(b"?");
    }
    Completion {
        outcome: told.into(),
        log_size_bytes: i64::try_from(log.len()).unwrap_or(i64::MAX),
        log_sha256: digest(&log),
        finish_time: Some(time),
        ..Completion::default()
    }
}
