//! What the suites stand on: the real `muster` binary as server and agents, real clusters, and
//! a client. Nothing here stands in for our own code.
//!
//! The suites themselves are in `api/` (one machine) and `cluster/` (Kubernetes); measurements
//! are in `bench/`, load under random kills is in `soak/`. `docs/testing.md` names the environment variables.

pub mod agent;
pub mod chaos;
pub mod cluster;
pub mod command;
pub mod conformance;
pub mod container;
pub mod control_plane;
pub mod database;
pub mod digest;
pub mod disk;
pub mod example;
pub mod given;
pub mod image;
pub mod installation;
pub mod kubectl;
pub mod large_file;
pub mod log;
pub mod memory;
pub mod namespace;
pub mod node;
pub mod peak;
pub mod port;
pub mod postgres;
pub mod process;
pub mod processor;
pub mod program;
pub mod proxy;
pub mod run;
pub mod server_installation;
pub mod site;
pub mod skew;
pub mod volume;
pub mod wait;
