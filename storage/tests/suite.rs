//! The behaviour of the store and the blobs, one suite for every backend.
//!
//! SQLite and the local disk always run. PostgreSQL runs where `MUSTER_TEST_POSTGRES` is the URL
//! of a server (each test makes and drops its own database), S3 where `MUSTER_TEST_S3` is a URL
//! for `Blobs` and `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are set. Where they are not,
//! those tests say that they are skipped; with `MUSTER_TEST_REQUIRE_SERVERS=1` they fail.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "behaviours are plain functions, which the lints do not take for tests"
)]

#[path = "suite/fixture.rs"]
#[macro_use]
mod fixture;

#[path = "suite/agents.rs"]
mod agents;
#[path = "suite/artifacts.rs"]
mod artifacts;
#[path = "suite/audit.rs"]
mod audit;
#[path = "suite/blobs.rs"]
mod blobs;
#[path = "suite/claims.rs"]
mod claims;
#[path = "suite/credentials.rs"]
mod credentials;
#[path = "suite/deadlines.rs"]
mod deadlines;
#[path = "suite/executions.rs"]
mod executions;
#[path = "suite/leases.rs"]
mod leases;
#[path = "suite/logs.rs"]
mod logs;
#[path = "suite/manifests.rs"]
mod manifests;
#[path = "suite/offers.rs"]
mod offers;
#[path = "suite/projects.rs"]
mod projects;
#[path = "suite/quarantine.rs"]
mod quarantine;
#[path = "suite/reports.rs"]
mod reports;
#[path = "suite/reruns.rs"]
mod reruns;
#[path = "suite/retention.rs"]
mod retention;
#[path = "suite/schedule.rs"]
mod schedule;
#[path = "suite/schema.rs"]
mod schema;
#[path = "suite/search.rs"]
mod search;
#[path = "suite/tenants.rs"]
mod tenants;
#[path = "suite/test_cases.rs"]
mod test_cases;
#[path = "suite/tested.rs"]
mod tested;
#[path = "suite/transactions.rs"]
mod transactions;
