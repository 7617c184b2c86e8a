//! Operations from a seed, and from nothing else.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::op::{End, LogFault, Loss, Op, Word};

/// A weight, and what makes an operation.
type Kind = (u32, fn(&mut StdRng) -> Op);

/// How often each kind of operation comes, among all of them.
const KINDS: [Kind; 26] = [
    (10, submit),
    (5, cancel),
    (2, |rng| Op::Pause(rng.random())),
    (2, |rng| Op::Resume(rng.random())),
    (3, |rng| Op::Connect {
        agent: rng.random(),
        half_open: rng.random_bool(0.4),
    }),
    (2, |rng| Op::Late(rng.random())),
    (2, |rng| Op::Break(rng.random())),
    (14, |rng| Op::Exchange(rng.random())),
    (4, network),
    (2, |rng| Op::Restart {
        agent: rng.random(),
        forgets: rng.random_bool(0.3),
    }),
    (1, |rng| Op::Twin(rng.random())),
    (24, |rng| Op::Walk {
        agent: rng.random(),
        pod: rng.random(),
        end: end(rng),
    }),
    (1, |rng| Op::Vanish {
        agent: rng.random(),
        pod: rng.random(),
    }),
    (8, |rng| Op::Print {
        agent: rng.random(),
        pod: rng.random(),
        bytes: rng.random_range(1..3000),
    }),
    (6, |rng| Op::Relay {
        agent: rng.random(),
        pod: rng.random(),
        fault: log_fault(rng),
    }),
    (5, |rng| Op::Stream {
        agent: rng.random(),
        pod: rng.random(),
        anew: rng.random_bool(0.3),
    }),
    (4, |rng| Op::Hurry(rng.random_range(1..6))),
    (2, |rng| Op::Repeat {
        agent: rng.random(),
        pod: rng.random(),
    }),
    (5, |rng| Op::Stale {
        agent: rng.random(),
        attempt: rng.random(),
        word: word(rng),
    }),
    (2, |rng| Op::Decline {
        agent: rng.random(),
        attempts: rng.random_range(1..4),
    }),
    (8, |rng| Op::Time(rng.random_range(1..4))),
    (3, |rng| Op::Time(rng.random_range(4..10))),
    (2, |rng| Op::Jump(rng.random_range(1..30))),
    (1, |rng| Op::Skew {
        agent: rng.random(),
        minutes: rng.random_range(-60..60),
    }),
    (6, crash),
    (5, |_| Op::Start),
];

/// Most operations of a case.
const MOST: usize = 60;

/// The operations of a seed, for a world with so many servers.
pub(crate) fn operations(seed: u64, servers: usize) -> Vec<Op> {
    let mut rng = StdRng::seed_from_u64(seed);
    let count = rng.random_range(12..MOST);
    let mut ops = vec![
        Op::Submit {
            request: Some(0),
            loss: Loss::Nothing,
        },
        Op::Time(1),
    ];
    for _ in 0..count {
        let op = operation(&mut rng);
        if servers > 1 {
            side_by_side(&mut rng, op, &mut ops);
        } else {
            ops.push(op);
        }
    }
    // Costly, so not always.
    ops.extend(rng.random_bool(0.3).then_some(Op::Fill));
    ops
}

/// An operation in a world with more than one server, about one of them. Mostly all of them run:
/// what they do at the same time is why they are there.
fn side_by_side(rng: &mut StdRng, op: Op, ops: &mut Vec<Op>) {
    let server = rng.random();
    ops.extend(rng.random_bool(0.4).then_some(Op::Server(server)));
    ops.push(op);
    if op == Op::Start {
        ops.extend([Op::Server(server.wrapping_add(1)), Op::Start]);
    }
}

fn operation(rng: &mut StdRng) -> Op {
    let all: u32 = KINDS.iter().map(|(weight, _)| weight).sum();
    let mut at = rng.random_range(0..all);
    for (weight, make) in KINDS {
        if at < weight {
            return make(rng);
        }
        at -= weight;
    }
    Op::Start
}

fn submit(rng: &mut StdRng) -> Op {
    Op::Submit {
        request: rng.random_bool(0.7).then(|| rng.random_range(0..8)),
        loss: loss(rng),
    }
}

fn cancel(rng: &mut StdRng) -> Op {
    Op::Cancel {
        execution: rng.random(),
        force: rng.random_bool(0.3),
        loss: loss(rng),
    }
}

fn network(rng: &mut StdRng) -> Op {
    // Mostly whole again: a case with agents that are always cut off shows little.
    let (up, down) = match rng.random_range(0..6) {
        0 => (false, false),
        1 => (false, true),
        2 => (true, false),
        _ => (true, true),
    };
    Op::Network {
        agent: rng.random(),
        up,
        down,
    }
}

fn crash(rng: &mut StdRng) -> Op {
    match rng.random_range(0..6) {
        0 => Op::Crash,
        1 => Op::Stop,
        _ => Op::CrashAfter {
            transactions: rng.random_range(1..8),
            polls: match rng.random_bool(0.5) {
                true => 0,
                false => rng.random_range(1..6),
            },
        },
    }
}

fn loss(rng: &mut StdRng) -> Loss {
    match rng.random_range(0..10) {
        0 | 1 => Loss::Answer,
        2 => Loss::HangUp(rng.random_range(0..3)),
        _ => Loss::Nothing,
    }
}

fn end(rng: &mut StdRng) -> End {
    match rng.random_range(0..10) {
        0 => End::Failed,
        1 => End::TimedOut,
        2 => End::WrongDigest,
        3 => End::ShortLog,
        _ => End::Passed,
    }
}

fn log_fault(rng: &mut StdRng) -> LogFault {
    match rng.random_range(0..6) {
        0 => LogFault::Repeat,
        1 => LogFault::Gap,
        2 => LogFault::Cut,
        _ => LogFault::Nothing,
    }
}

fn word(rng: &mut StdRng) -> Word {
    let all = [
        Word::Running,
        Word::Passed,
        Word::Future,
        Word::Lost,
        Word::Decline,
        Word::Renew,
        Word::Log,
        Word::Foreign,
    ];
    all[rng.random_range(0..all.len())]
}
