//! The agent: the daemon that runs attempts in one place, a namespace of a cluster or a directory
//! of a machine.
//!
//! It dials the control plane ([`config::Config::servers`]), takes work, starts a conductor for
//! each attempt by a backend and relays between conductor and server. The conductor holds log and
//! result until the server has them; on its own disk an agent keeps a journal of what it has begun
//! and nothing else. So it may be killed at any moment, finds everything again at its next start,
//! and starts nothing for a second time.
//!
//! What a plan means is the conductor's business (`muster_runner`); who gets work is the server's.

mod agent;
mod attempt;
mod attempts;
mod backend;
mod backoff;
mod begin;
pub mod config;
mod context;
mod convert;
mod error;
mod journal;
mod key;
mod kubernetes;
mod lease;
mod link;
mod process;
pub mod registry;
mod relay;
mod token;

pub use agent::{Agent, run};
pub use config::Config;
pub use error::Error;
