//! What a process of an agent hears, and what follows from it.

use muster_proto::v1::{
    Assignment, AttemptOrder, DeclineAttempt, Welcome, attempt_order::Action,
    attempt_report::Phase, link_response::Message as In, refusal::Reason,
};

use super::{Known, Process, is_last, version};
use crate::{
    ledger::Ledger,
    pod::{Cluster, Pod, Stage},
};

impl Process {
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
                let kept =
                    |attempt: &&String| !renewed.lost.iter().any(|it| it.attempt == **attempt);
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
        // What was acknowledged to another process since the hello is no matter here.
        let (durable, sequence) = self.greeted.get(&order.attempt).copied().unwrap_or((0, 0));
        if order.log_offset < durable || order.sequence < sequence {
            return Err(format!(
                "{durable} bytes and report {sequence} of {} were acknowledged, the welcome says {} and {}",
                order.attempt, order.log_offset, order.sequence
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
            // What it asked for was used up by this.
            self.credit = None;
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
        let completed =
            told.is_some_and(|told| told.phase() == Phase::Completed && told.sequence <= sequence);
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
}

/// The lease of an attempt was renewed at some time.
fn promise(ledger: &mut Ledger, attempt: &str, at: i64) {
    if let Some(spoken) = ledger.attempts.get_mut(attempt) {
        spoken.renewed = spoken.renewed.max(at);
    }
}
