//! The real `muster` binary, as a user has it: an empty home, a terminal that is none, no
//! configuration. Needs no servers and no network.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on fails"
)]

mod audit;
mod bad_input;
mod balance;
mod children;
mod credentials;
mod damage;
mod history;
mod home;
mod interrupt;
mod lint;
mod local;
mod logs;
mod loss;
mod metrics;
mod quarantine;
mod remote;
mod reports;
mod requests;
mod reruns;
mod retention;
mod test_history;
mod words;
