//! The one port: gRPC, gRPC-Web, health and metrics, with TLS or without.

mod pages;
mod serve;

pub(crate) use pages::router;
pub(crate) use serve::{Peer, serve};
