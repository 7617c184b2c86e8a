//! What Muster keeps: [`Store`] over SQLite or PostgreSQL, [`Blobs`] over the local disk or an
//! S3-compatible store, and the migrations.
//!
//! Everything of a tenant is reached through a handle that carries the project
//! ([`Store::executions`], [`Store::workflows`], …), so an unscoped query can not be written;
//! what an agent may touch is reached through [`Store::agent`], which checks that the attempt is
//! its own. Rows and SQL never leave this crate, and no transition of an execution is decided
//! here: that is `muster_core::execution`.

pub mod agent;
pub mod artifact;
pub mod attempt;
pub mod audit;
pub mod blob;
pub mod credential;
mod entity;
pub mod error;
pub mod execution;
mod gather;
pub mod log;
pub mod manifest;
mod migration;
mod number;
mod page;
pub mod project;
pub mod quarantine;
pub mod queue;
pub mod report;
pub mod request;
pub mod retention;
mod shared;
pub mod store;
pub mod test;
mod text;
mod time;
pub mod token;
mod transaction;
pub mod word;
pub mod work;

pub use blob::{BlobWriter, Blobs};
pub use error::{Away, Error, Unwritable};
pub use page::Page;
pub use request::{Request, Written};
pub use store::{Options, Store};
