//! Children of this execution as its conductor knows them: orders that wait for their answer, and
//! how each child stands. How they are told and heard is in [`super::link`], what they are for in
//! the operations ([`services`], [`parallel`], [`suite`]).

mod balance;
mod crew;
mod hands;
mod instances;
mod parallel;
mod probe;
mod services;
mod suite;
mod transfer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_proto::runner::v1::{
    ChildStatus, ChildrenAnswer, ChildrenOrder, MAX_FRAME, children_order::Order,
};
use prost::Message as _;
use tokio::sync::watch;

use super::operation::Failure;

pub(super) use probe::{PROBE, never_starts, watch_service};
pub(super) use services::Started;

/// Largest order: it has to fit into a frame.
pub(super) const MAX_ORDER: usize = MAX_FRAME - (4 << 10);
/// Most instances of one order.
const BATCH: usize = 100;
/// Most bytes of the instances of one order, if it has several.
const LARGEST: usize = 256 << 10;

/// What is known of children.
#[derive(Debug)]
pub(super) struct Children {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// Orders without an answer.
    orders: BTreeMap<u64, ChildrenOrder>,
    answers: HashMap<u64, ChildrenAnswer>,
    known: HashMap<(String, u32), ChildStatus>,
    /// How often each name of a group was given.
    groups: HashMap<String, u32>,
    /// Something was started, so that news must be heard.
    active: bool,
}

impl Children {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Tells of every change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A name for a group that no other one has.
    fn group(&self, base: &str) -> String {
        let base: String = base
            .chars()
            .map(|c| match c {
                c if c.is_ascii_alphanumeric() || c == '-' || c == '.' => c,
                _ => '-',
            })
            .take(80)
            .collect();
        let mut state = self.lock();
        let count = state.groups.entry(base.clone()).or_default();
        *count += 1;
        match *count {
            1 => base,
            // No base has a `_`, so this is no name of another one.
            again => format!("{base}_try{again}"),
        }
    }

    /// Gives an order and waits for its answer: what it found. The order is told again on every
    /// connection, so that it does not matter how long there is none.
    async fn order(&self, order: Order) -> Result<Vec<String>, Failure> {
        let size = match &order {
            Order::Start(start) => start.encoded_len(),
            _ => 0,
        };
        if size > MAX_ORDER {
            let text = format!(
                "what the children are told has {size} bytes, at most {MAX_ORDER} are allowed: results and outputs of all steps, and the variables of an instance"
            );
            return Err(Failure::new("CHILDREN", text));
        }
        let id = {
            let mut state = self.lock();
            state.last_id += 1;
            state.active = true;
            let id = state.last_id;
            let order = ChildrenOrder {
                id,
                order: Some(order),
            };
            state.orders.insert(id, order);
            id
        };
        let _withdrawn = Withdraw { children: self, id };
        let mut changes = self.subscribe();
        self.touch();
        loop {
            if let Some(answer) = self.lock().answers.remove(&id) {
                return match answer.error.as_str() {
                    "" => Ok(answer.workflows),
                    error => Err(Failure::new("CHILDREN", error)),
                };
            }
            // The sender lives in `self`.
            let _closed = changes.changed().await;
        }
    }

    /// Orders behind `after` that wait for an answer.
    pub(super) fn unanswered(&self, after: u64) -> Vec<ChildrenOrder> {
        let state = self.lock();
        let orders = state.orders.range(after + 1..);
        orders.map(|(_, order)| order.clone()).collect()
    }

    /// Whether a new connection must ask for news.
    pub(super) fn is_active(&self) -> bool {
        self.lock().active
    }

    /// An order is done or refused.
    pub(super) fn answered(&self, answer: ChildrenAnswer) {
        {
            let mut state = self.lock();
            // One that nobody waits for any more is dropped.
            if state.orders.remove(&answer.id).is_some() {
                state.answers.insert(answer.id, answer);
            }
        }
        self.touch();
    }

    /// How children stand now.
    pub(super) fn news(&self, children: Vec<ChildStatus>) {
        {
            let mut state = self.lock();
            for child in children {
                let key = (child.group.clone(), child.index);
                state.known.insert(key, child);
            }
        }
        self.touch();
    }

    fn status(&self, group: &str, index: u32) -> Option<ChildStatus> {
        let key = (group.to_owned(), index);
        self.lock().known.get(&key).cloned()
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes an order back when nobody waits for its answer any more.
struct Withdraw<'a> {
    children: &'a Children,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let mut state = self.children.lock();
        state.orders.remove(&self.id);
        state.answers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_names_of_their_own() {
        let children = Children::new();
        assert_eq!(children.group("s2"), "s2");
        assert_eq!(children.group("s2"), "s2_try2");
        assert_eq!(children.group("s2-try2"), "s2-try2");
        assert_eq!(children.group("a b/c"), "a-b-c");
    }

    #[tokio::test]
    async fn an_order_is_told_until_it_is_answered() {
        let children = Children::new();
        let order = Order::Stop(muster_proto::runner::v1::StopChildren::default());
        let answered = children.order(order);
        tokio::pin!(answered);
        assert!(futures::poll!(&mut answered).is_pending());
        assert_eq!(children.unanswered(0).len(), 1);
        assert_eq!(children.unanswered(1).len(), 0);
        children.answered(ChildrenAnswer {
            id: 1,
            error: "no".to_owned(),
            workflows: Vec::new(),
        });
        let failure = answered.await.expect_err("it was refused");
        assert_eq!(failure.message, "no");
        assert!(children.unanswered(0).is_empty());
    }
}
