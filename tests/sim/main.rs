//! The simulation: the real server on a real database, agents and callers, and every fault between
//! them that one seed can think of. `docs/testing.md` says how to run it and what is deterministic.
//!
//! The server is the real one, with the real store and the real link; a crash drops it at an
//! await. On PostgreSQL there may be two, side by side ([`servers`]). Agents are a model ([`agent`])
//! that follows the rules of the daemon, with simulated pods.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail, and tells which seed it had"
)]

mod agent;
mod case;
mod client;
mod crash;
mod database;
mod found;
mod generator;
mod herald;
mod invariant;
mod ledger;
mod life;
mod measured;
mod observer;
mod op;
mod planted;
mod pod;
mod scenario;
mod seen;
mod servers;
mod wire;
mod world;

use database::Template;

/// Cases on SQLite when nobody says how many.
const CASES: u64 = 200;
/// The same on PostgreSQL, where a copy of a database takes a while.
const POSTGRES_CASES: u64 = 20;

#[test]
fn promises_hold_whatever_happens() {
    let template = Template::sqlite().expect("a database");
    case::run_all(&template, CASES);
}

#[test]
fn promises_hold_whatever_happens_on_postgres() {
    if let Some(template) = Template::postgres(1).expect("a database") {
        case::run_all(&template, POSTGRES_CASES);
    }
}

#[test]
fn promises_hold_whatever_happens_with_two_servers() {
    if let Some(template) = Template::postgres(2).expect("a database") {
        case::run_all(&template, POSTGRES_CASES);
    }
}
