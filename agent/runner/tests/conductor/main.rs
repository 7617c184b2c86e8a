//! The real program as a conductor with its shims, against an agent that is played here: real
//! frames over a Unix socket, real processes, real files.

mod agent;
mod artifacts;
mod endings;
mod flow;
mod isolation;
mod log;
mod plan;
mod run;
