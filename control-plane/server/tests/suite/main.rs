//! The real server on loopback, with SQLite and files or PostgreSQL and S3 (`home`), spoken to over real gRPC.

#![expect(clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod agent;
mod archives;
mod artifacts;
mod audit;
mod audited;
mod calls;
mod children;
mod credentials;
mod direct;
mod dispatch;
mod documents;
mod durations;
mod failover;
mod fixture;
mod home;
mod isolation;
mod link;
mod logs;
mod objects;
mod outage;
mod port;
mod postgres;
mod protocol;
mod quarantine;
mod readers;
mod replicas;
mod reruns;
mod restore;
mod retention;
mod schedule;
mod search;
mod skew;
mod stop;
mod test_cases;
mod uploads;
