//! The agent: the daemon that runs attempts in one place, a namespace of a cluster or a directory
//! of a machine.
//!
//! It dials the control plane ([`config::Config::servers`]), takes work, starts a conductor for
//! each attempt by a backend and relays between conductor and server. It keeps nothing on disk
//! that matters: the conductor holds log and result until the server has them, so an agent may be
//! killed at any moment and finds everything again at its next start.
//!
//! What a plan means is the conductor's business (`muster_runner`); who gets work is the server's.

mod agent;
mod attempt;
mod attempts;
mod backend;
mod backoff;
pub mod config;
mod context;
mod convert;
mod error;
mod key;
mod kubernetes;
mod link;
mod process;
pub mod registry;
mod relay;
mod token;

pub use agent::{Agent, run};
pub use config::Config;
pub use error::Error;
