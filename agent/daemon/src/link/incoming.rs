//! What the server says on a stream, and what follows from it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use muster_core::id::AttemptId;
use muster_proto::v1::{
    Assignment, AttemptOrder, DeclineAttempt, Drain, LeasesRenewed, LinkResponse, Refusal,
    attempt_order::Action, link_response::Message, refusal::Reason,
};
use tokio::time::Instant;

use super::{
    Ended,
    session::{Session, slots},
};
use crate::{
    Error,
    attempt::{Attempt, End, Past, supervise::supervise},
    begin,
    context::Context,
    convert,
};

/// Carries out one message. Returns how the stream ends, if it does.
pub(super) fn handle(
    context: &Arc<Context>,
    session: &mut Session,
    response: LinkResponse,
) -> Option<Ended> {
    match response.message? {
        Message::Welcome(_) => tracing::warn!("the server sent a second welcome"),
        Message::Assignment(assignment) => assigned(context, session, assignment),
        Message::ReportAck(ack) => {
            if let Some(attempt) = known(context, &ack.attempt, None) {
                attempt.acknowledge(ack.sequence);
            }
        }
        Message::Renewed(renewed) => renewed_leases(context, session, &renewed),
        Message::Cancel(cancel) => {
            if let Some(attempt) = known(context, &cancel.attempt, Some(cancel.epoch)) {
                tracing::info!(attempt = %attempt.id, force = cancel.force, "cancel");
                attempt.cancel(cancel);
            }
        }
        Message::Pause(pause) => {
            if let Some(attempt) = known(context, &pause.attempt, Some(pause.epoch)) {
                attempt.pause(pause);
            }
        }
        Message::Refusal(refusal) => return refused(context, &refusal),
        Message::Drain(drain) => return Some(drained(drain)),
    }
    None
}

/// The attempt with this id, under this epoch where one is given.
fn known(context: &Context, id: &str, epoch: Option<i64>) -> Option<Arc<Attempt>> {
    let attempt = context.attempts.get(id.parse::<AttemptId>().ok()?)?;
    epoch
        .is_none_or(|epoch| epoch == attempt.epoch)
        .then_some(attempt)
}

/// Carries out an order of the welcome.
pub(super) fn order(context: &Arc<Context>, session: &Session, order: AttemptOrder) {
    let Ok(id) = order.attempt.parse::<AttemptId>() else {
        tracing::warn!(attempt = order.attempt, "an order names no attempt");
        return;
    };
    let action = order.action();
    if matches!(action, Action::Adopt) {
        return adopt(context, session, id, order);
    }
    let Some(attempt) = known(context, &order.attempt, Some(order.epoch)) else {
        return;
    };
    tracing::info!(attempt = %id, ?action, "ordered to end an attempt");
    match action {
        Action::Kill => attempt.lease_lost(),
        Action::Forget => attempt.finish(End::Committed),
        Action::Adopt | Action::Unspecified => {}
    }
}

fn adopt(context: &Arc<Context>, session: &Session, id: AttemptId, order: AttemptOrder) {
    // What was reported on has begun, or so it must be taken when this agent has no trace of it: a
    // second run under the same lease would mix two results.
    let past = if order.sequence > 0 || order.log_offset > 0 {
        Past::Unsure
    } else {
        Past::None
    };
    let (attempt, new) = context.attempts.add(id, order.epoch, past);
    tracing::info!(attempt = %id, new, sequence = order.sequence, log_offset = order.log_offset, "go on with an attempt");
    attempt.resume(order.sequence, convert::unsigned(order.log_offset));
    if order.ready {
        attempt.was_ready();
    }
    if let Some(cancel) = order.cancel {
        attempt.cancel(cancel);
    }
    if let Some(pause) = order.pause {
        attempt.pause(pause);
    }
    if let Some(assignment) = order.assignment {
        attempt.assign(assignment);
    }
    attempt.prove(session.proven);
    if new {
        context.spawn(supervise(Arc::clone(context), attempt));
    }
}

fn assigned(context: &Arc<Context>, session: &mut Session, assignment: Assignment) {
    let Ok(id) = assignment.attempt.parse::<AttemptId>() else {
        tracing::warn!(
            attempt = assignment.attempt,
            "an assignment names no attempt"
        );
        return;
    };
    if let Some(attempt) = context.attempts.get(id) {
        attempt.assign(assignment);
        return;
    }
    if let Some((reason, message)) = no_room(context) {
        metrics::counter!("muster_agent_declined_total", "reason" => reason).increment(1);
        session.declined.push(DeclineAttempt {
            attempt: assignment.attempt,
            epoch: assignment.epoch,
            reason: reason.to_owned(),
            message,
        });
        return;
    }
    let (attempt, new) = context.attempts.add(id, assignment.epoch, Past::None);
    attempt.assign(assignment);
    // Its lease is as new as the last word of the server that came before it, or newer.
    attempt.prove(session.proven);
    metrics::counter!("muster_agent_attempts_total").increment(1);
    if new {
        context.spawn(supervise(Arc::clone(context), attempt));
    }
}

/// Why nothing more can be taken, if it can not.
fn no_room(context: &Context) -> Option<(&'static str, String)> {
    if let Some(why) = context.journal.failing() {
        return Some((begin::STORAGE, begin::unwritable(&why)));
    }
    (slots(context) == 0).then(|| {
        let message = format!(
            "the agent runs {} attempts already",
            context.config.capacity
        );
        ("NO_CAPACITY", message)
    })
}

fn renewed_leases(context: &Context, session: &mut Session, renewed: &LeasesRenewed) {
    if let Some(renewal) = session.answered(renewed.sequence) {
        let lost: HashSet<_> = renewed.lost.iter().map(|lost| &lost.attempt).collect();
        for id in renewal.named {
            if let Some(attempt) = context.attempts.get(id)
                && !lost.contains(&id.to_string())
            {
                attempt.prove(renewal.sent);
            }
        }
    }
    if renewed.sequence >= session.renewal {
        session.unanswered_since = None;
    } else if session.unanswered_since.is_some() {
        session.unanswered_since = Some(Instant::now());
    }
    for lost in &renewed.lost {
        if let Some(attempt) = known(context, &lost.attempt, Some(lost.epoch)) {
            tracing::warn!(attempt = %attempt.id, "the lease is lost, killing the attempt");
            attempt.lease_lost();
        }
    }
}

fn refused(context: &Context, refusal: &Refusal) -> Option<Ended> {
    match refusal.reason() {
        Reason::LeaseLost => {
            if let Some(attempt) = known(context, &refusal.attempt, Some(refusal.epoch)) {
                tracing::warn!(attempt = %attempt.id, message = refusal.message, "the lease is lost, killing the attempt");
                attempt.lease_lost();
            }
            None
        }
        Reason::Superseded => Some(Ended::Fatal(Error::Superseded)),
        Reason::UnsupportedProtocol => Some(refused_hello(refusal)),
        Reason::Invalid | Reason::Unspecified => {
            tracing::error!(
                attempt = refusal.attempt,
                message = refusal.message,
                "the server refused a message"
            );
            None
        }
    }
}

/// What follows when the hello itself is refused.
pub(super) fn refused_hello(refusal: &Refusal) -> Ended {
    match refusal.reason() {
        Reason::Superseded => Ended::Fatal(Error::Superseded),
        Reason::UnsupportedProtocol => Ended::Fatal(Error::Protocol {
            message: refusal.message.clone(),
        }),
        Reason::LeaseLost | Reason::Invalid | Reason::Unspecified => Ended::Lost {
            why: format!("the hello was refused: {}", refusal.message),
            lived: false,
        },
    }
}

/// What follows when the server stops.
pub(super) fn drained(drain: Drain) -> Ended {
    let spread = drain
        .spread
        .and_then(|spread| Duration::try_from(spread).ok());
    Ended::Drained(
        spread
            .unwrap_or(Duration::from_secs(1))
            .min(Duration::from_secs(60)),
    )
}
