//! Cases that are written down: outages of each side told apart, and a crash after every
//! transaction of a whole life.

use muster_core::execution::State;

use crate::{
    case::{self, Report},
    database::Template,
    generator,
    op::{End, LogFault, Loss, Op},
    seen::{Execution, Status},
    world::World,
};

const SUBMIT: Op = Op::Submit {
    request: Some(1),
    loss: Loss::Nothing,
};
/// The agent with most room, which gets the first execution.
const WEST: u8 = 1;

const fn walk(end: End) -> Op {
    Op::Walk {
        agent: WEST,
        pod: 0,
        end,
    }
}

const fn network(up: bool, down: bool) -> Op {
    Op::Network {
        agent: WEST,
        up,
        down,
    }
}

/// The only execution after operations, and again at the end of everything.
pub(crate) fn play(ops: &[Op]) -> (Execution, Execution) {
    let template = Template::sqlite().expect("a database");
    let mut world = World::begin(&template).expect("it begins");
    for op in ops {
        let done = world.apply(*op);
        done.unwrap_or_else(|broken| panic!("{op:?}: {broken:#}"));
    }
    let mut only = || {
        let sight = world.sight().expect("it can be read");
        assert_eq!(sight.len(), 1);
        sight.into_values().next().expect("there is one")
    };
    let after = only();
    world.end().expect("nothing is broken");
    let sight = world.sight().expect("it can be read");
    (after, sight.into_values().next().expect("there is one"))
}

fn statuses(execution: &Execution) -> Vec<(Status, &str)> {
    let attempts = execution.attempts.iter();
    attempts
        .map(|attempt| (attempt.status, attempt.reason.as_str()))
        .collect()
}

/// An execution runs on the agent.
const RUNNING: [Op; 5] = [
    Op::Time(1),
    SUBMIT,
    Op::Time(1),
    walk(End::Passed),
    Op::Exchange(WEST),
];

#[test]
fn an_outage_of_the_server_loses_nothing() {
    let ops = [&RUNNING[..], &[Op::Crash, Op::Time(30), Op::Start]].concat();
    let (after, end) = play(&ops);
    assert_eq!(after.state, State::Running);
    assert_eq!(statuses(&end), [(Status::Completed, "")]);
}

#[test]
fn a_server_that_slept_gives_grace() {
    let ops = [&RUNNING[..], &[Op::Jump(30)]].concat();
    let (after, end) = play(&ops);
    assert_eq!(after.state, State::Running);
    assert_eq!(statuses(&end), [(Status::Completed, "")]);
}

#[test]
fn an_agent_away_for_less_than_a_lease_goes_on() {
    let ops = [&RUNNING[..], &[network(false, false), Op::Time(4)]].concat();
    let (after, end) = play(&ops);
    assert_eq!(after.state, State::Running);
    assert_eq!(statuses(&end), [(Status::Completed, "")]);
}

#[test]
fn an_agent_away_for_longer_than_a_lease_is_lost() {
    let away = [
        network(false, false),
        Op::Time(9),
        // The pod ends meanwhile; its result comes too late.
        walk(End::Passed),
        walk(End::Passed),
    ];
    let (after, end) = play(&[&RUNNING[..], &away[..]].concat());
    assert_eq!(after.state, State::Aborted, "the plan was begun");
    assert_eq!(statuses(&end), [(Status::Lost, "AGENT_LOST")]);
}

#[test]
fn an_agent_that_is_not_heard_is_lost_and_one_that_hears_nothing_connects_again() {
    let deaf = [network(true, false), Op::Time(5), network(true, true)];
    let (after, _) = play(&[&RUNNING[..], &deaf[..]].concat());
    assert_eq!(after.state, State::Running, "its renewals arrive");
    let mute = [network(false, true), Op::Time(9)];
    let (after, _) = play(&[&RUNNING[..], &mute[..]].concat());
    assert_eq!(statuses(&after), [(Status::Lost, "AGENT_LOST")]);
}

#[test]
fn an_attempt_that_was_not_begun_is_queued_again() {
    let ops = [
        Op::Time(1),
        SUBMIT,
        Op::Time(1),
        network(false, false),
        Op::Time(9),
    ];
    let (_, end) = play(&ops);
    let lost = (Status::Lost, "AGENT_LOST");
    assert_eq!(statuses(&end), [lost, (Status::Completed, "")]);
    assert_eq!(end.state, State::Passed);
}

/// Lives of three executions: one passes, one is canceled as it runs, one fails. What is about agents
/// is about both: with two servers each may have its own, which gets what is submitted there.
fn lives() -> Vec<Op> {
    let submit = |request| {
        let loss = Loss::Nothing;
        vec![Op::Submit {
            request: Some(request),
            loss,
        }]
    };
    let cancel = |force| {
        vec![Op::Cancel {
            execution: 1,
            force,
            loss: Loss::Nothing,
        }]
    };
    let both = |op: &dyn Fn(u8) -> Op| vec![op(0), op(1)];
    let walk = |end| both(&|agent| Op::Walk { agent, pod: 0, end });
    let print = || {
        let (pod, bytes) = (0, 1500);
        both(&|agent| Op::Print { agent, pod, bytes })
    };
    let relay = || {
        let (pod, fault) = (0, LogFault::Nothing);
        both(&|agent| Op::Relay { agent, pod, fault })
    };
    let exchange = || both(&Op::Exchange);
    let connect = || {
        let half_open = false;
        both(&|agent| Op::Connect { agent, half_open })
    };
    let script = [
        vec![Op::Time(1)],
        submit(1),
        vec![Op::Time(1)],
        walk(End::Passed),
        print(),
        vec![Op::Time(2)],
        vec![Op::Pause(0)],
        exchange(),
        vec![Op::Resume(0)],
        exchange(),
        walk(End::Passed),
        print(),
        relay(),
        walk(End::Passed),
        exchange(),
        vec![Op::Time(1)],
        submit(2),
        submit(1),
        vec![Op::Time(1)],
        walk(End::Passed),
        exchange(),
        cancel(false),
        exchange(),
        cancel(true),
        walk(End::Failed),
        walk(End::Failed),
        exchange(),
        submit(3),
        both(&Op::Break),
        // One that waits for an agent; the others are given out as they are accepted.
        submit(4),
        connect(),
        vec![Op::Time(2)],
    ];
    // Each is about another server than the one before, and whoever died is back for the next one.
    let mut ops = Vec::new();
    for (number, wanted) in script.into_iter().enumerate() {
        let (server, other) = if number % 2 == 0 { (0, 1) } else { (1, 0) };
        ops.push(Op::Server(server));
        ops.extend(wanted);
        ops.extend([Op::Start, Op::Server(other), Op::Start]);
    }
    ops
}

/// Lets a server die after a transaction of a case; names of the transactions after which one
/// did.
fn die_after(template: &Template, server: u8, transactions: u8, ops: &[Op]) -> Vec<String> {
    // At once, and some way on to the next one.
    let crash = Op::CrashAfter {
        transactions,
        polls: [0, 1, 3][usize::from(transactions) % 3],
    };
    let ops = [&[Op::Server(server), crash], ops].concat();
    let Report { deaths } = case::run(template, &ops)
        .unwrap_or_else(|failure| panic!("{crash:?} of {server}: {}", failure.broken));
    deaths
}

/// Lets a server die after each of its transactions, in a case for each; names of them.
fn die_after_each(template: &Template, server: u8, ops: &[Op]) -> Vec<String> {
    let mut deaths = Vec::new();
    for transactions in 1.. {
        let died = die_after(template, server, transactions, ops);
        if died.is_empty() {
            break;
        }
        deaths.extend(died);
    }
    deaths
}

/// Somebody died after each of these.
#[track_caller]
fn assert_died(deaths: &[String], wanted: &[&str]) {
    for transaction in wanted {
        let there = deaths.iter().any(|name| name == transaction);
        assert!(there, "nobody died after {transaction}: {deaths:?}");
    }
}

#[test]
fn promises_hold_after_a_crash_at_every_transaction() {
    let template = Template::sqlite().expect("a database");
    let wanted = [
        "append_log",
        "cancel_execution",
        "claim_executions",
        "create_executions",
        "pause_execution",
        "record_reports",
        "renew_leases",
    ];
    assert_died(&die_after_each(&template, 0, &lives()), &wanted);
}

#[test]
fn what_nothing_waits_before_is_leased_by_the_transaction_that_accepts_it() {
    let template = Template::sqlite().expect("a database");
    let submit = Op::Submit {
        request: None,
        loss: Loss::Nothing,
    };
    let ops = [Op::Time(1), submit, Op::Time(1), Op::Exchange(WEST)];
    let deaths = die_after_each(&template, 0, &ops);
    assert_died(&deaths, &["connect_agent", "create_executions"]);
    let claimed = deaths.iter().any(|name| name == "claim_executions");
    assert!(!claimed, "{deaths:?}");
}

#[test]
fn promises_hold_after_a_crash_of_one_of_two_servers_at_every_transaction() {
    let Some(template) = Template::postgres(2).expect("a database") else {
        return;
    };
    let template = &template;
    let deaths = std::thread::scope(|scope| {
        let both =
            [0, 1].map(|server| scope.spawn(move || die_after_each(template, server, &lives())));
        let deaths = both.map(|deaths| deaths.join().expect("nothing is broken"));
        deaths.concat()
    });
    // Which of the two claims what waits is for their clocks to say; one alone dies after that too.
    let wanted = [
        "append_log",
        "create_executions",
        "pause_execution",
        "record_reports",
        "renew_leases",
    ];
    assert_died(&deaths, &wanted);
}

#[test]
fn a_seed_makes_one_case_and_another_seed_another_one() {
    for seed in 0..100 {
        for servers in [1, 2] {
            let ops = generator::operations(seed, servers);
            assert_eq!(ops, generator::operations(seed, servers));
            assert_ne!(ops, generator::operations(seed + 1, servers));
        }
    }
}
