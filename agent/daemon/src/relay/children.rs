//! Children of an attempt: orders of its conductor to the server, and back how they stand. Kept
//! for one control connection; the conductor says all again on the next one.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use muster_proto::{
    runner::v1::{
        ChildStatus, ChildrenAnswer, ChildrenNews, ChildrenOrder, Outcome,
        agent_message::Message as Say, children_order::Order,
    },
    v1::{self, execution::State},
};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tonic::{Code, Status};

use super::artifact::uplink;
use crate::{attempt::Attempt, context::Context};

/// Shortest and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Orders that are on their way at once.
const SIDE_BY_SIDE: usize = 8;

/// The groups of one connection.
type Groups = HashMap<String, Arc<Group>>;

/// Keeps what is said of one group in order: a start that is tried again must not come behind the
/// word that stops all of the group.
#[derive(Debug, Default)]
struct Group {
    /// All of it is to end: nothing more is started.
    over: AtomicBool,
    /// Held while one order is on its way to the server.
    turn: tokio::sync::Mutex<()>,
}

impl Group {
    /// The group of an order, if it starts or stops one; one that ends it is noted at once.
    fn of(groups: &mut Groups, order: &ChildrenOrder) -> Option<Arc<Self>> {
        let (name, over) = match order.order.as_ref()? {
            Order::Start(start) => (&start.group, false),
            Order::Stop(stop) => (&stop.group, stop.indices.is_empty()),
            Order::Select(_) | Order::Resume(_) => return None,
        };
        let group = Arc::clone(groups.entry(name.clone()).or_default());
        if over {
            group.over.store(true, Ordering::Relaxed);
        }
        Some(group)
    }
}

/// Carries orders out as long as the connection lives.
pub(super) async fn serve(
    context: &Arc<Context>,
    attempt: &Arc<Attempt>,
    mut orders: mpsc::Receiver<ChildrenOrder>,
    news: mpsc::Sender<Say>,
) -> Infallible {
    // They end with this future.
    let mut tasks = JoinSet::new();
    let mut groups = Groups::new();
    let mut watches = false;
    while let Some(order) = orders.recv().await {
        if !std::mem::replace(&mut watches, true) {
            tasks.spawn(watch(
                Arc::clone(context),
                Arc::clone(attempt),
                news.clone(),
            ));
        }
        if order.order.is_none() {
            continue;
        }
        let group = Group::of(&mut groups, &order);
        let is_stop = matches!(order.order, Some(Order::Stop(_)));
        // One place is the watch's. What ends children waits for nobody.
        while tasks.len() > SIDE_BY_SIDE && !is_stop {
            tasks.join_next().await;
        }
        let (context, attempt) = (Arc::clone(context), Arc::clone(attempt));
        let news = news.clone();
        tasks.spawn(async move {
            let answer = obey(&context, &attempt, order, group.as_deref()).await;
            // The connection is gone, and the order comes again.
            let _gone = news.send(Say::ChildrenAnswer(answer)).await;
        });
    }
    std::future::pending().await
}

/// Does what is ordered, as often as it takes.
async fn obey(
    context: &Context,
    attempt: &Attempt,
    order: ChildrenOrder,
    group: Option<&Group>,
) -> ChildrenAnswer {
    let id = order.id;
    let mut pause = PAUSES.0;
    let starts = matches!(order.order, Some(Order::Start(_)));
    loop {
        let turn = match group {
            Some(group) => Some(group.turn.lock().await),
            None => None,
        };
        if starts && group.is_some_and(|group| group.over.load(Ordering::Relaxed)) {
            return ChildrenAnswer {
                id,
                error: "all of the group are to end".to_owned(),
                workflows: Vec::new(),
            };
        }
        let tried = try_once(context, attempt, &order).await;
        drop(turn);
        let status = match tried {
            Ok(workflows) => {
                return ChildrenAnswer {
                    id,
                    error: String::new(),
                    workflows,
                };
            }
            Err(status) => status,
        };
        if is_final(status.code()) {
            let error = match status.message() {
                "" => format!("the server refuses it: {:?}", status.code()),
                // One line of a log and of a summary.
                message => message.replace('\n', "; "),
            };
            return ChildrenAnswer {
                id,
                error,
                workflows: Vec::new(),
            };
        }
        tracing::debug!(attempt = %attempt.id, %status, "an order about children is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Whether the same again would be refused again.
const fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Unimplemented
    )
}

async fn try_once(
    context: &Context,
    attempt: &Attempt,
    order: &ChildrenOrder,
) -> Result<Vec<String>, Status> {
    let mut uplink = uplink(context)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let (id, epoch) = (attempt.id.to_string(), attempt.epoch);
    match order.order.clone() {
        Some(Order::Start(start)) => {
            let instances = start.instances.into_iter();
            let request = v1::StartChildrenRequest {
                attempt: id,
                epoch,
                group: start.group,
                step: start.step,
                operation: start.operation,
                item: start.item,
                variables: start.variables,
                instances: instances
                    .map(|one| v1::ChildInstance {
                        index: one.index,
                        variables: one.variables,
                        description: one.description,
                        given: one.given,
                        workflow: one.workflow,
                        config: one.config,
                    })
                    .collect(),
            };
            uplink.start_children(request).await?;
            Ok(Vec::new())
        }
        Some(Order::Stop(stop)) => {
            let request = v1::StopChildrenRequest {
                attempt: id,
                epoch,
                group: stop.group,
                indices: stop.indices,
                force: stop.force,
                message: stop.message,
            };
            uplink.stop_children(request).await?;
            Ok(Vec::new())
        }
        Some(Order::Resume(resume)) => {
            let request = v1::ResumeChildrenRequest {
                attempt: id,
                epoch,
                group: resume.group,
                indices: resume.indices,
            };
            uplink.resume_children(request).await?;
            Ok(Vec::new())
        }
        Some(Order::Select(select)) => {
            let expressions = select.match_expressions.into_iter();
            let request = v1::SelectWorkflowsRequest {
                attempt: id,
                epoch,
                match_labels: select.match_labels,
                match_expressions: expressions
                    .map(|one| v1::LabelRequirement {
                        key: one.key,
                        operator: one.operator,
                        values: one.values,
                    })
                    .collect(),
            };
            let found = uplink.select_workflows(request).await?;
            Ok(found.into_inner().workflows)
        }
        None => Err(Status::unimplemented(
            "this agent does not know that order; update it",
        )),
    }
}

/// Tells how children stand, again and again when the stream breaks.
async fn watch(context: Arc<Context>, attempt: Arc<Attempt>, news: mpsc::Sender<Say>) {
    let mut pause = PAUSES.0;
    loop {
        let watched = watch_once(&context, &attempt, &news, &mut pause).await;
        if let Err(status) = watched {
            tracing::debug!(attempt = %attempt.id, %status, "children are not seen now");
        }
        if news.is_closed() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn watch_once(
    context: &Context,
    attempt: &Attempt,
    news: &mpsc::Sender<Say>,
    pause: &mut Duration,
) -> Result<(), Status> {
    let mut uplink = uplink(context)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = v1::WatchChildrenRequest {
        attempt: attempt.id.to_string(),
        epoch: attempt.epoch,
    };
    let mut told = uplink.watch_children(request).await?.into_inner();
    while let Some(message) = told.message().await? {
        *pause = PAUSES.0;
        let children = message.children.into_iter().map(child).collect();
        let message = Say::ChildrenNews(ChildrenNews { children });
        if news.send(message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn child(told: v1::ChildStatus) -> ChildStatus {
    let state = told.state();
    let outcome = match state {
        State::Passed => Outcome::Passed,
        State::Failed => Outcome::Failed,
        State::Aborted => Outcome::Aborted,
        State::Canceled => Outcome::Canceled,
        State::TimedOut => Outcome::TimedOut,
        State::Unspecified
        | State::Queued
        | State::Assigned
        | State::Preparing
        | State::Running
        | State::Paused
        | State::Finishing => Outcome::Unspecified,
    };
    ChildStatus {
        group: told.group,
        index: told.index,
        execution: told.execution,
        display_name: told.display_name,
        terminal: outcome != Outcome::Unspecified,
        outcome: outcome.into(),
        reason: told.reason,
        message: told.message,
        address: told.address,
        ready: told.ready,
        held: told.held,
        taken_over: told.taken_over,
        running: matches!(state, State::Running | State::Paused | State::Finishing),
    }
}
