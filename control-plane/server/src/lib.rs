//! The control plane: gRPC and HTTP adapters (`grpc`, `http`), use cases (`app`),
//! the agents' link, background tasks, and how all of it starts and stops ([`runtime`]).
//!
//! What is stored and how is in `muster-storage`; which state follows from which event in
//! `muster-core`; what a manifest means in `muster-spec`.

mod app;
pub mod config;
mod grpc;
mod http;
mod link;
mod media;
pub mod metrics;
mod replicas;
pub mod runtime;
mod tasks;
pub mod tls;
pub mod token;
mod vault;

pub use config::Config;
pub use runtime::Server;
