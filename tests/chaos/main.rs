//! The chaos suite: faults of a whole cluster under real workflows, one at a time, and what a user
//! may rely on then. Many at once are in `soak/`; faults that need no cluster are in other suites.
//!
//! Runs when `MUSTER_TEST_KUBECONFIGS` names clusters and `MUSTER_TEST_CHAOS` a program that reaches
//! below them; see `docs/testing.md`.

mod clock;
mod database;
mod dice;
mod direct;
mod ground;
mod link;
mod node;
mod objects;
mod pod;
mod quota;
mod server;
mod volume;
mod workflow;
