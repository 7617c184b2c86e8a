//! The cluster suite: real workflows on real Kubernetes clusters, and proof that nothing is left.
//!
//! Runs when `MUSTER_TEST_KUBECONFIGS` names clusters; see `docs/testing.md`.

mod agent;
mod artifact;
mod children;
mod claim;
mod content;
mod image;
mod inside;
mod memory;
mod pause;
mod placement;
mod policy;
mod reference;
mod stop;
mod tools;
