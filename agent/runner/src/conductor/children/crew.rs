//! A crew: workers of a step or members of a suite, so many at a time, until all are done or it
//! does not matter any more.

use std::{collections::VecDeque, time::Duration};

use muster_proto::runner::v1::{
    ChildInstance, ChildStatus, Outcome, ResumeChildren, StartChildren, StopChildren,
    children_order::Order,
};
use muster_spec::plan::Transfer;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{BATCH, LARGEST, hands::Hand};
use crate::conductor::{
    halt::Cause,
    operation::{At, BROKEN, Failure},
};

/// How long children may take to end once they were asked to: their `after` steps run.
const END: Duration = Duration::from_secs(300);
/// How long they may take once they were killed.
const KILL: Duration = Duration::from_secs(60);
/// Most failures that are named in a message.
const NAMED: usize = 5;

/// How a crew works.
pub(super) struct Rules {
    /// What one of them is called: `worker` or `workflow`.
    pub(super) noun: &'static str,
    pub(super) group: String,
    pub(super) operation: u32,
    /// Most at a time.
    pub(super) parallelism: usize,
    pub(super) fail_fast: bool,
    /// Nobody waits for them.
    pub(super) detached: bool,
    /// Each begins paused; they go on together when all that fit are there.
    pub(super) together: bool,
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    /// Some of them did not fail by what they test.
    broken: bool,
    /// Not started, because it did not matter any more.
    left_out: usize,
}

/// Lets a crew work. Whatever ends it, none of the crew goes on behind it.
pub(super) async fn work(at: &At<'_>, rules: &Rules, hands: Vec<Hand>) -> Result<(), Failure> {
    let mut running = Vec::new();
    let _resting = at.run.board.rest();
    let result = guide(at, rules, hands, &mut running).await;
    match (&result, at.limits.cause()) {
        (Ok(()), _) => {}
        (Err(_), Some(cause)) => stop(at, rules, &running, &cause).await,
        (Err(failure), None) => end(at, rules, &running, &failure.message).await,
    }
    result
}

/// Starts as many as may run at a time until all are done. Those that were started and have not ended
/// are in `running` when it returns.
async fn guide(
    at: &At<'_>,
    rules: &Rules,
    hands: Vec<Hand>,
    running: &mut Vec<Hand>,
) -> Result<(), Failure> {
    let total = hands.len();
    let mut changes = at.run.children.subscribe();
    let mut waiting: VecDeque<Hand> = hands.into();
    let mut tally = Tally::default();
    loop {
        let room = match at.limits.pause().is_paused() {
            true => 0,
            false => rules.parallelism.saturating_sub(running.len()),
        };
        let starting = next(&mut waiting, room.min(BATCH));
        if !starting.is_empty() {
            let order = order(at, rules, &starting);
            // Noted before it is known what became of it: it may have been started all the same.
            let before = running.len();
            running.extend(starting);
            tokio::select! {
                started = at.run.children.order(order) => started?,
                cause = at.limits.reached() => return Err(Failure::stopped(&cause, at.step)),
            };
            for hand in running.iter_mut().skip(before) {
                hand.started = true;
            }
            continue;
        }
        if rules.detached {
            let text = format!("{total} started; nobody waits for them");
            at.run.spool.remark(at.step, &text).await;
            running.clear();
            return Ok(());
        }
        let ended = take_ended(at, rules, running);
        if rules.together && ended.is_empty() && !at.limits.pause().is_paused() {
            resume(at, rules, running).await?;
        }
        if ended.is_empty() {
            if running.is_empty() && waiting.is_empty() {
                return result(rules, &tally, total);
            }
            tokio::select! {
                // The sender lives in the run.
                _ = changes.changed() => {}
                () = at.limits.pause().until(false), if at.limits.pause().is_paused() => {}
                cause = at.limits.reached() => return Err(Failure::stopped(&cause, at.step)),
            }
            continue;
        }
        for (hand, status) in ended {
            note(at, rules, &mut tally, &hand, &status).await;
            for fetch in &hand.fetch {
                fetch.take(at, &status.execution).await?;
            }
        }
        at.run.board.update(at.step, |status| {
            let done = tally.passed + tally.failed.len();
            status.message = format!("{done} of {total} are done, {} failed", tally.failed.len());
        });
        if rules.fail_fast
            && !tally.failed.is_empty()
            && !(running.is_empty() && waiting.is_empty())
        {
            tally.left_out = waiting.len() + running.len();
            return result(rules, &tally, total);
        }
    }
}

/// The next ones of one item.
fn next(waiting: &mut VecDeque<Hand>, most: usize) -> Vec<Hand> {
    let mut taken: Vec<Hand> = Vec::new();
    let mut size = 0;
    while taken.len() < most
        && let Some(hand) = waiting.front()
        && taken.first().is_none_or(|first| first.item == hand.item)
    {
        size += hand.size();
        if size > LARGEST && !taken.is_empty() {
            break;
        }
        taken.extend(waiting.pop_front());
    }
    taken
}

fn order(at: &At<'_>, rules: &Rules, hands: &[Hand]) -> Order {
    let item = hands.first().map_or(0, |hand| hand.item);
    let variables = json!({
        "step": at.sight.results.all(),
        "services": at.sight.services.all(),
    });
    let instances = hands.iter().map(|hand| ChildInstance {
        index: hand.index,
        variables: hand.variables.clone(),
        description: hand.label.clone(),
        given: hand.given.clone(),
        workflow: hand.workflow.clone(),
        config: hand.config.clone(),
    });
    Order::Start(StartChildren {
        group: rules.group.clone(),
        step: at.step.to_owned(),
        operation: rules.operation,
        item,
        variables: variables.to_string().into(),
        instances: instances.collect(),
    })
}

/// Lets those go on that have begun paused, once all of them are there.
async fn resume(at: &At<'_>, rules: &Rules, running: &mut [Hand]) -> Result<(), Failure> {
    let waits = |hand: &Hand| {
        let status = at.run.children.status(&rules.group, hand.index);
        status.is_some_and(|status| status.held)
    };
    let held: Vec<&mut Hand> = running.iter_mut().filter(|hand| !hand.resumed).collect();
    if held.is_empty() || !held.iter().all(|hand| waits(hand)) {
        return Ok(());
    }
    let text = format!("{} {}s are ready and go on", held.len(), rules.noun);
    let order = Order::Resume(ResumeChildren {
        group: rules.group.clone(),
        indices: held.iter().map(|hand| hand.index).collect(),
    });
    tokio::select! {
        resumed = at.run.children.order(order) => resumed?,
        cause = at.limits.reached() => return Err(Failure::stopped(&cause, at.step)),
    };
    at.run.spool.remark(at.step, &text).await;
    for hand in held {
        hand.resumed = true;
    }
    Ok(())
}

fn take_ended(at: &At<'_>, rules: &Rules, running: &mut Vec<Hand>) -> Vec<(Hand, ChildStatus)> {
    let mut ended = Vec::new();
    let mut index = 0;
    while let Some(hand) = running.get(index) {
        let status = at.run.children.status(&rules.group, hand.index);
        match status.filter(|status| status.terminal) {
            Some(status) => ended.push((running.remove(index), status)),
            None => index += 1,
        }
    }
    ended
}

async fn note(at: &At<'_>, rules: &Rules, tally: &mut Tally, hand: &Hand, status: &ChildStatus) {
    let name = name(rules, hand);
    let text = if status.outcome() == Outcome::Passed {
        tally.passed += 1;
        let before = if status.taken_over {
            " before, taken over"
        } else {
            ""
        };
        format!("{name} passed{before}: {}", status.display_name)
    } else {
        let how = match status.outcome() {
            Outcome::Canceled => "was canceled",
            Outcome::TimedOut => "timed out",
            Outcome::Aborted => "was aborted",
            _ => "failed",
        };
        let why = match status.message.as_str() {
            "" => String::new(),
            message => format!(": {message}"),
        };
        tally.broken |= status.outcome() != Outcome::Failed || status.reason == BROKEN;
        tally.failed.push(format!("{name} {how}{why}"));
        format!(
            "{name} {how}{why}; see `muster logs {}`",
            status.display_name
        )
    };
    at.run.spool.remark(at.step, &text).await;
}

fn name(rules: &Rules, hand: &Hand) -> String {
    let what = match hand.workflow.as_str() {
        "" => format!("{} {}", rules.noun, hand.index),
        workflow => workflow.to_owned(),
    };
    match hand.label.as_str() {
        "" => what,
        label => format!("{what} ({label})"),
    }
}

fn result(rules: &Rules, tally: &Tally, total: usize) -> Result<(), Failure> {
    if tally.failed.is_empty() && tally.left_out == 0 {
        return Ok(());
    }
    let mut text = format!(
        "{} of {total} {}s did not pass",
        tally.failed.len(),
        rules.noun
    );
    if tally.left_out > 0 {
        text.push_str(&format!(", {} were not waited for", tally.left_out));
    }
    for failed in tally.failed.iter().take(NAMED) {
        text.push_str("; ");
        text.push_str(failed);
    }
    let reason = match tally.broken {
        true => BROKEN,
        false => "STEP_FAILED",
    };
    Err(Failure::new(reason, text))
}

/// Ends all that run, for a reason that ends this step too.
async fn stop(at: &At<'_>, rules: &Rules, running: &[Hand], cause: &Cause) {
    let failure = Failure::stopped(cause, at.step);
    if matches!(cause, Cause::Cancel(cancel) if cancel.force) {
        // The server has forced them to end already, with this execution.
        return;
    }
    end(at, rules, running, &failure.message).await;
}

/// Asks all that run to end and waits until they have; those that do not are killed.
async fn end(at: &At<'_>, rules: &Rules, running: &[Hand], message: &str) {
    if running.is_empty() {
        return;
    }
    for (force, patience) in [(false, END), (true, KILL)] {
        let order = Order::Stop(StopChildren {
            group: rules.group.clone(),
            indices: Vec::new(),
            force,
            message: message.to_owned(),
        });
        let ended = async {
            // One that is refused: the server does not know them, or has ended them already.
            let _refused = at.run.children.order(order).await;
            let mut changes = at.run.children.subscribe();
            let lives = |hand: &Hand| {
                let status = at.run.children.status(&rules.group, hand.index);
                status.map_or(hand.started, |status| !status.terminal)
            };
            while running.iter().any(lives) {
                // The sender lives in the run.
                let _closed = changes.changed().await;
            }
        };
        tokio::select! {
            done = timeout(patience, ended) => if done.is_ok() { return },
            () = at.limits.forced() => return,
        }
    }
}

/// Whether a transfer is the same for all instances, as far as its texts tell.
pub(super) fn is_common(transfer: &Transfer) -> bool {
    let texts = [Some(&transfer.from), transfer.to.as_ref()];
    let plain = |text: &&String| !text.contains("{{");
    texts.into_iter().flatten().all(|text| plain(&text))
        && !matches!(&transfer.files, Some(Value::String(_)))
        && !transfer
            .files
            .as_ref()
            .is_some_and(|files| files.to_string().contains("{{"))
}
