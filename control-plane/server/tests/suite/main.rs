//! The real server on loopback, with SQLite and files, spoken to over real gRPC.

mod agent;
mod calls;
mod fixture;
mod isolation;
mod link;
mod port;
