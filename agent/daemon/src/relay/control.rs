//! A control connection: welcome, then progress and log one way, orders the other.

use std::{collections::HashMap, future::pending, io, sync::Arc};

use muster_proto::runner::v1::{
    Acknowledge, AgentMessage, AgentWelcome, ChildrenOrder, CompletedAck, ConductorHello,
    ConductorMessage, ImageConfig, Log, MAX_LOG_DATA, Refused, agent_message::Message as Say,
    conductor_message::Message as Said,
};
use tokio::sync::mpsc;

use super::{
    children,
    frame::{Receiver, Sender},
    log, say,
};
use crate::{
    attempt::{Attempt, End, Orders},
    context::Context,
    convert,
};

/// Orders and news about children that wait.
const CHILDREN_ROOM: usize = 64;
/// Pieces of the log, of at most 64 KiB, that wait for the server.
const LOG_ROOM: usize = 8;

/// Serves a control connection to its end.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    hello: &ConductorHello,
    receiver: Receiver<ConductorMessage>,
    sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let number = attempt.connect();
    tracing::info!(attempt = %attempt.id, number, has_plan = hello.has_plan, "conductor connected");
    let result = converse(context, attempt, number, hello, receiver, sender).await;
    attempt.disconnect(number);
    tracing::info!(attempt = %attempt.id, number, "conductor disconnected");
    result
}

async fn converse(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    number: u64,
    hello: &ConductorHello,
    receiver: Receiver<ConductorMessage>,
    mut sender: Sender<AgentMessage>,
) -> io::Result<()> {
    let told = greet(context, attempt, number, hello, &mut sender).await?;
    let (log, pieces) = mpsc::channel(LOG_ROOM);
    let (orders, ordered) = mpsc::channel(CHILDREN_ROOM);
    let (news, told_children) = mpsc::channel(CHILDREN_ROOM);
    let relay = async {
        log::relay(context, attempt, pieces).await?;
        // All of it is durable; the connection goes on.
        pending::<io::Result<()>>().await
    };
    tokio::select! {
        result = hear(attempt, receiver, log, orders) => result,
        result = tell(attempt, number, told, sender, told_children) => result,
        result = relay => result,
        never = children::serve(context, attempt, ordered, news) => match never {},
    }
}

/// Sends the welcome. Returns the orders that are told by it.
async fn greet(
    context: &Context,
    attempt: &Attempt,
    number: u64,
    hello: &ConductorHello,
    sender: &mut Sender<AgentMessage>,
) -> io::Result<Orders> {
    let (plan, image_configs) = match attempt.work() {
        Some(work) if !hello.has_plan => {
            let configs = context.backend.image_configs(&work).await;
            (work.bytes.clone(), configs)
        }
        _ => (bytes::Bytes::new(), HashMap::<String, ImageConfig>::new()),
    };
    if !super::may_walk(context, attempt, hello) {
        // Reading the configs has taken too long: it asks again.
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut orders = attempt.orders(number);
    // What the conductor has dropped was durable, and the server is told should it not be any more.
    attempt.drop_log(hello.log_start);
    orders.durable = orders.durable.max(hello.log_start);
    let welcome = AgentWelcome {
        plan,
        log_offset: orders.durable,
        image_configs,
        containers: orders.containers.values().cloned().collect(),
        cancel: orders.cancel.as_ref().map(convert::cancel),
        pause: orders.pause.as_ref().map(convert::pause),
        display_name: attempt
            .work()
            .map(|work| work.display_name.clone())
            .unwrap_or_default(),
        max_log: attempt.work().map_or(0, |work| work.max_log),
        judges: true,
        notes_missing: true,
        resumes: true,
        direct_from: attempt.work().map_or(0, |work| work.direct_from),
    };
    say(sender, Say::Welcome(welcome)).await?;
    Ok(orders)
}

/// Takes what the conductor says. Stops reading while the log waits for the server: then TCP
/// makes the conductor wait too.
async fn hear(
    attempt: &Attempt,
    mut receiver: Receiver<ConductorMessage>,
    log: mpsc::Sender<Log>,
    orders: mpsc::Sender<ChildrenOrder>,
) -> io::Result<()> {
    let mut log = Some(log);
    while let Some(message) = receiver.receive().await? {
        match message.message {
            Some(Said::Progress(progress)) => attempt.progress(progress),
            Some(Said::Log(piece)) => {
                let Some(log) = &log else {
                    return Err(invalid("log behind the completion record"));
                };
                if piece.data.len() > MAX_LOG_DATA {
                    return Err(invalid("a piece of the log is too long"));
                }
                if log.send(piece).await.is_err() {
                    return Ok(());
                }
            }
            Some(Said::Completed(record)) => {
                attempt.completed(record);
                // The end of the stream makes the server store what it holds.
                log = None;
            }
            Some(Said::Children(order)) => {
                if orders.send(order).await.is_err() {
                    return Ok(());
                }
            }
            Some(
                Said::Hello(_)
                | Said::Artifact(_)
                | Said::Archive(_)
                | Said::Credential(_)
                | Said::Durations(_)
                | Said::Verdict(_)
                | Said::Missing(_),
            )
            | None => {
                return Err(invalid(
                    "a message that does not belong on a control connection",
                ));
            }
        }
    }
    Ok(())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Tells the conductor what is new, until there is nothing more to say.
async fn tell(
    attempt: &Attempt,
    number: u64,
    mut told: Orders,
    mut sender: Sender<AgentMessage>,
    mut children: mpsc::Receiver<Say>,
) -> io::Result<()> {
    let mut changes = attempt.subscribe();
    loop {
        let orders = attempt.orders(number);
        if orders.superseded {
            return Ok(());
        }
        for message in news(&told, &orders) {
            say(&mut sender, message).await?;
        }
        match orders.end {
            // It hangs up when it has heard.
            Some(End::Committed) => return pending().await,
            Some(End::Killed) => return Ok(()),
            None => {}
        }
        told = orders;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return Ok(());
            },
            Some(news) = children.recv() => say(&mut sender, news).await?,
        }
    }
}

/// What is in `now` and was not in `before`.
fn news(before: &Orders, now: &Orders) -> Vec<Say> {
    let mut news = Vec::new();
    if now.cancel != before.cancel {
        news.extend(
            now.cancel
                .as_ref()
                .map(|order| Say::Cancel(convert::cancel(order))),
        );
    }
    if now.pause != before.pause {
        news.extend(
            now.pause
                .as_ref()
                .map(|order| Say::Pause(convert::pause(order))),
        );
    }
    let changed = now
        .containers
        .iter()
        .filter(|(name, status)| before.containers.get(*name) != Some(*status));
    news.extend(changed.map(|(_, status)| Say::Container(status.clone())));
    if (now.durable, now.progress) != (before.durable, before.progress) {
        news.push(Say::Acknowledge(Acknowledge {
            log_offset: now.durable,
            progress: now.progress,
        }));
    }
    match now.end {
        Some(End::Committed) => news.push(Say::CompletedAck(CompletedAck {})),
        Some(End::Killed) => news.push(Say::Refused(Refused {
            message: "the lease of the attempt is lost".to_owned(),
            permanent: true,
        })),
        None => {}
    }
    news
}

#[cfg(test)]
mod tests {
    use muster_proto::{runner::v1::ContainerStatus, v1::CancelAttempt};

    use super::*;

    #[test]
    fn nothing_is_told_twice() {
        let mut now = Orders {
            cancel: Some(CancelAttempt::default()),
            durable: 7,
            ..Orders::default()
        };
        let status = ContainerStatus {
            container: "c".to_owned(),
            ..ContainerStatus::default()
        };
        now.containers.insert("c".to_owned(), status);
        assert_eq!(news(&Orders::default(), &now).len(), 3);
        assert!(news(&now, &now).is_empty());
    }

    #[test]
    fn a_committed_record_is_acknowledged() {
        let now = Orders {
            end: Some(End::Committed),
            ..Orders::default()
        };
        assert!(matches!(
            news(&Orders::default(), &now).as_slice(),
            [Say::CompletedAck(_)]
        ));
    }
}
