//! The api suite: a real server and real agents as processes of this machine, spoken to over
//! gRPC as any client would. Needs no cluster and no database server.

mod artifact;
mod call;
mod credential;
mod direct;
mod failure;
mod objects;
mod pause;
mod retention;
mod tools;
mod volume;
mod workflow;
