//! The real program as a conductor with its shims, against an agent that is played here: real
//! frames over a Unix socket, real processes, real files.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests end a test as tests do"
)]

mod agent;
mod artifacts;
mod children;
mod credential;
mod direct;
mod disk;
mod endings;
mod flow;
mod git;
mod isolation;
mod log;
mod pause;
mod plan;
mod quarantine;
mod run;
mod service;
mod tarball;
mod web;
