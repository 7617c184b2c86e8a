//! New executions that are given to agents as they are accepted, and those that wait all the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use jiff::Timestamp;
use muster_core::{
    execution::{Phase, State, Stop},
    id::{AgentId, ExecutionId, ProjectId},
    schedule::{self, Grant, Lane, Share, Taker},
};
use muster_storage::{
    Error,
    agent::Cordon,
    execution::{Concurrency, Execution, Origin, Role},
    project::Settings,
    queue::{Claimed, Giver, Offer},
};
use uuid::Uuid;

use crate::fixture::{Database, at, new_execution, request};

on_every_database!(
    what_nothing_waits_before_is_given_out_as_it_is_accepted,
    what_agents_have_no_room_for_waits,
    what_nobody_offers_agents_for_waits,
    what_is_counted_goes_by_way_of_the_queue,
    what_is_paused_is_not_given_out,
    an_agent_that_is_cordoned_or_gone_is_found_out,
    projects_share_what_is_given_out_at_once,
    a_repeated_request_gives_nothing_twice,
    a_refused_one_leaves_the_others_their_agents,
);

/// An agent that others give nothing to.
#[derive(Debug)]
struct Hand {
    agent: AgentId,
    room: u32,
    until: Timestamp,
    delivered: Mutex<Vec<Claimed>>,
    queued: AtomicUsize,
    closed: AtomicBool,
}

#[derive(Debug, Clone)]
struct Hands(Arc<Hand>);

impl Hands {
    fn of(db: &Database, agent: AgentId, room: u32) -> Self {
        let hands = Self(Arc::new(Hand {
            agent,
            room,
            until: db.in_seconds(30),
            delivered: Mutex::default(),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }));
        db.store.set_giver(Arc::new(hands.clone()));
        hands
    }

    fn delivered(&self) -> Vec<Claimed> {
        std::mem::take(&mut *self.0.delivered.lock().expect("whole"))
    }

    /// The executions that were given out since this was last asked.
    fn given(&self) -> Vec<ExecutionId> {
        let given = self.delivered().into_iter();
        let given = given.flat_map(|claimed| claimed.assignments);
        given.map(|work| work.execution.id).collect()
    }

    fn queued(&self) -> usize {
        self.0.queued.swap(0, Ordering::SeqCst)
    }

    fn close(&self, closed: bool) {
        self.0.closed.store(closed, Ordering::SeqCst);
    }
}

impl Giver for Hands {
    fn offer(&self) -> BoxFuture<'_, Option<Box<dyn Offer>>> {
        let open = !self.0.closed.load(Ordering::SeqCst);
        let offer = open.then(|| Box::new(self.clone()) as Box<dyn Offer>);
        async { offer }.boxed()
    }

    fn queued(&self) {
        self.0.queued.fetch_add(1, Ordering::SeqCst);
    }
}

impl Offer for Hands {
    fn plan(&self, shares: &[Share], lanes: &[Lane]) -> Vec<Grant> {
        let labels = BTreeMap::new();
        let taker = Taker {
            agent: self.0.agent,
            labels: &labels,
            projects: &[],
            room: self.0.room,
        };
        schedule::plan(&[taker], shares, lanes, 256)
    }

    fn lease_expire_time(&self) -> Timestamp {
        self.0.until
    }

    fn deliver(self: Box<Self>, claimed: Claimed) {
        self.0.delivered.lock().expect("whole").push(claimed);
    }

    fn doubt(self: Box<Self>) {
        panic!("no commit is in doubt here");
    }
}

async fn state(db: &Database, execution: &Execution) -> State {
    let executions = db.store.executions(execution.project);
    let found = executions.get(execution.id).await.expect("it is there");
    found.state()
}

async fn cancel(db: &Database, execution: &Execution) {
    let executions = db.store.executions(execution.project);
    let canceled = executions.cancel(execution.id, Stop::Orderly, "", None);
    canceled.await.expect("canceled");
}

async fn what_nothing_waits_before_is_given_out_as_it_is_accepted(db: Database) {
    let agent = db.new_agent("a").await;
    let hands = Hands::of(&db, agent, 4);
    let made = db.submit("smoke").await;
    assert_eq!(made.state(), State::Queued, "as it was accepted");
    let claimed = hands.delivered();
    let [work] = &claimed[0].assignments[..] else {
        panic!("one is given: {claimed:?}");
    };
    assert_eq!(hands.queued(), 0);
    assert_eq!(work.project_name, "default");
    assert_eq!(&work.plan[..], b"{\"version\":1}");
    assert_eq!(work.attempt.agent, agent);
    assert_eq!(work.attempt.lease_expire_time, db.in_seconds(30));
    // What was delivered is what is stored, and what a claim would have stored.
    let executions = db.store.executions(db.project);
    let details = executions.details(made.id).await.expect("it is there");
    assert_eq!(details.execution, work.execution);
    assert_eq!(details.attempts, std::slice::from_ref(&work.attempt));
    assert_eq!(details.execution.revision, made.revision + 1);
    let events = executions.events(made.id, 0, 10).await.expect("a history");
    let kinds: Vec<&str> = events.items.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["QUEUED", "ASSIGNED"]);
    let live = db.store.agent(agent).live().await.expect("what it holds");
    assert_eq!(live[0].attempt, work.attempt);
    // It goes on like any other.
    let report = at(work.attempt.lease(), 1, Phase::Running);
    db.store.agent(agent).report(report).await.expect("stored");
    assert_eq!(state(&db, &made).await, State::Running);
}

async fn what_agents_have_no_room_for_waits(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 0);
    let made = db.submit("smoke").await;
    assert_eq!(hands.given(), []);
    assert_eq!(hands.queued(), 1);
    assert_eq!(state(&db, &made).await, State::Queued);
}

async fn what_nobody_offers_agents_for_waits(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 4);
    hands.close(true);
    let made = db.submit("smoke").await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
    assert_eq!(state(&db, &made).await, State::Queued);
}

async fn what_is_counted_goes_by_way_of_the_queue(db: Database) {
    let agent = db.new_agent("a").await;
    let hands = Hands::of(&db, agent, 4);
    let parent = db.submit("suite").await;
    let work = hands.delivered().remove(0).assignments.remove(0);
    let group = |new: &mut muster_storage::execution::NewExecution| {
        new.concurrency = Some(Concurrency {
            group: "deploy".to_owned(),
            most: 1,
        });
    };
    let grouped = db.submit_with("deploy", group).await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
    cancel(&db, &grouped).await;
    let child = |new: &mut muster_storage::execution::NewExecution| {
        new.origin = Some(Origin {
            parent: parent.id,
            attempt: work.attempt.id,
            step: "s1".to_owned(),
            group: "s1".to_owned(),
            index: 0,
            role: Role::Detached,
            description: String::new(),
            inputs: None,
            taken_over: false,
        });
    };
    let child = db.submit_with("member", child).await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
    cancel(&db, &child).await;
    let settings = Settings {
        max_running: Some(5),
        ..Settings::default()
    };
    let projects = db.store.projects();
    let set = projects.set(db.project, &settings, None).await;
    set.expect("a quota");
    db.submit("smoke").await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
}

async fn what_is_paused_is_not_given_out(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 4);
    let queue = db.store.queue();
    queue.hold(Some("an incident"), None).await.expect("held");
    let held = db.submit("smoke").await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
    queue.hold(None, None).await.expect("it goes on");
    cancel(&db, &held).await;
    let pause = |pause: Option<&str>| Settings {
        pause: pause.map(str::to_owned),
        ..Settings::default()
    };
    let projects = db.store.projects();
    let paused = projects.set(db.project, &pause(Some("later")), None).await;
    paused.expect("paused");
    let held = db.submit("smoke").await;
    assert_eq!((hands.given(), hands.queued()), (vec![], 1));
    cancel(&db, &held).await;
    let resumed = projects.set(db.project, &pause(None), None).await;
    resumed.expect("it goes on");
    let made = db.submit("smoke").await;
    assert_eq!(hands.given(), [made.id]);
}

async fn an_agent_that_is_cordoned_or_gone_is_found_out(db: Database) {
    let agent = db.new_agent("a").await;
    let hands = Hands::of(&db, agent, 4);
    let cordon = Cordon {
        message: "maintenance".to_owned(),
    };
    let agents = db.store.agents();
    let cordoned = agents.set_cordon(agent, Some(&cordon), None).await;
    cordoned.expect("cordoned");
    let made = db.submit("smoke").await;
    let claimed = hands.delivered().remove(0);
    assert_eq!(
        (claimed.assignments, claimed.cordoned),
        (vec![], vec![agent])
    );
    assert_eq!(hands.queued(), 1);
    assert_eq!(state(&db, &made).await, State::Queued);
}

async fn projects_share_what_is_given_out_at_once(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 64);
    let other = db.new_project("other").await;
    let made = (0..40).map(|n| db.submit_to(if n % 2 == 0 { db.project } else { other }, "smoke"));
    let made = join_all(made).await.into_iter().map(|made| made.id);
    let made: BTreeSet<ExecutionId> = made.collect();
    let given: BTreeSet<ExecutionId> = hands.given().into_iter().collect();
    assert_eq!(given, made);
    assert_eq!(hands.queued(), 0);
}

async fn a_repeated_request_gives_nothing_twice(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 4);
    let executions = db.store.executions(db.project);
    let request = request("CreateExecution", 1);
    let mut made = Vec::new();
    for _ in 0..2 {
        let identity = executions.reserve("smoke").await.expect("a number");
        let written = executions.create(new_execution(identity), Some(&request));
        made.push(written.await.expect("made"));
    }
    assert!(made[1].replayed);
    assert_eq!(made[1].value.id, made[0].value.id);
    assert_eq!(hands.given(), [made[0].value.id]);
    assert_eq!(hands.queued(), 0);
}

async fn a_refused_one_leaves_the_others_their_agents(db: Database) {
    let hands = Hands::of(&db, db.new_agent("a").await, 64);
    let nowhere = ProjectId::from(Uuid::now_v7());
    let (store, identity) = (&db.store, db.store.executions(db.project));
    let identities = join_all((0..9).map(|_| identity.reserve("smoke"))).await;
    let made = identities.into_iter().enumerate().map(|(n, identity)| {
        let project = if n == 4 { nowhere } else { db.project };
        let new = new_execution(identity.expect("a number"));
        async move { store.executions(project).create(new, None).await }
    });
    let mut made = join_all(made).await;
    let refused = made.remove(4);
    assert!(
        matches!(refused, Err(Error::NotFound { .. })),
        "{refused:?}"
    );
    let made = made.into_iter().map(|made| made.expect("made").value.id);
    let given: BTreeSet<ExecutionId> = hands.given().into_iter().collect();
    assert_eq!(given, made.collect::<BTreeSet<_>>());
}
