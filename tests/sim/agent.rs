//! A model of the agent daemon: what it knows of its attempts, what it says and how it takes what
//! it hears, rule by rule as `muster-agent` does it. Pods are in [`crate::pod`], the network in
//! [`crate::wire`]; nothing here waits for anything.

mod hearing;
mod snapshot;

use std::{collections::BTreeMap, time::Duration};

use muster_proto::v1::{
    AgentHello, AttemptRef, AttemptReport, Credit, DeclineAttempt, RenewLeases,
    link_request::Message as Out,
};
use muster_tests::digest::sha256;

use crate::{
    ledger::Ledger,
    pod::{Cluster, Pod, Stage},
    wire::{LogWire, Wire},
};

use snapshot::{outcome, snapshot};

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
    /// The process found its pod when it started.
    found: bool,
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
    /// Log bytes and reports that were acknowledged when it said hello, by attempt.
    greeted: BTreeMap<String, (i64, i64)>,
    /// How wrong its clock is, in milliseconds.
    pub(crate) skew: i64,
    /// How often it has looked for a server by itself.
    looks: usize,
}

impl Process {
    /// A process that finds the pods of its cluster.
    pub(crate) fn start(agent: usize, cluster: &Cluster) -> Self {
        let found = cluster.iter().map(|(attempt, pod)| {
            let known = Known {
                epoch: pod.epoch,
                found: true,
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
            greeted: BTreeMap::new(),
            skew: 0,
            looks: 0,
        }
    }

    /// Number of the server to connect to: another one each time, and not the same for all agents.
    pub(crate) const fn next_server(&mut self) -> usize {
        self.looks += 1;
        self.agent + self.looks
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
    pub(crate) fn greet(&mut self, wire: Wire, ledger: &Ledger, now: i64) {
        let spoken = ledger.attempts.iter();
        self.greeted = spoken
            .map(|(attempt, it)| (attempt.clone(), (it.durable, it.sequence)))
            .collect();
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
            let seen = known.sequence > 0 || known.found;
            if pod.is_none() && known.lost.is_none() && seen {
                known.lost = Some("POD_GONE");
            }
            let now = (pod.map_or(u64::MAX, |pod| pod.version), is_last(known, pod));
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
            match printed.is_some_and(|printed| sha256(printed) == completion.log_sha256) {
                true if known.durable >= size(pod) => spoken.true_digest = true,
                true => {}
                false => spoken.false_digest = true,
            }
        }
        Some(report)
    }

    /// No more of the log of a pod will come.
    pub(crate) fn cut_log(&mut self, attempt: &str) {
        if let Some(known) = self.known.get_mut(attempt) {
            known.log_is_over = true;
        }
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
