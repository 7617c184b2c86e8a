//! `muster quarantine`: tests whose failures do not count for a while.

use clap::{Args, Subcommand};
use muster_core::retention::text::age;
use muster_proto::v1::{
    ListQuarantinedTestsRequest, QuarantineTestRequest, QuarantinedTest, ReleaseTestRequest,
    quarantine_test_request::Expiration,
};
use serde::Serialize;

use super::{
    history::{Named, find},
    test_cases::title,
};
use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{escape, measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster quarantine add test_login --reason 'SHOP-123: login is slow'
  muster quarantine add test_login --reason SHOP-123 --for 30d --workflow smoke
  muster quarantine add test_login --reason SHOP-123 --until 2027-01-31
  muster quarantine ls
  muster quarantine ls --expired
  muster quarantine ls --output json | jq '.quarantinedTests[].name'
  muster quarantine rm test_login

A step whose tool fails passes all the same if its artifacts have reports that tell of failures, and
only of tests that are in quarantine. When that expires, their failures count again.";

/// Keep tests that are known to fail from failing runs, for a while
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a test into quarantine; one that is there gets the new reason and end
    Add {
        /// Its id, or a part of its class and name
        #[arg(value_name = "TEST")]
        test: String,
        /// Why, such as the number of an issue
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// How long, at most 90d [default: 14d]
        #[arg(long = "for", value_name = "AGE", value_parser = ttl, conflicts_with = "until")]
        ttl: Option<Ttl>,
        /// Until this date or time
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<jiff::Timestamp>,
        /// Only in runs of this workflow
        #[arg(long, value_name = "WORKFLOW")]
        workflow: Option<String>,
    },
    /// List tests in quarantine, those first that leave it first
    #[command(visible_alias = "list")]
    Ls {
        /// Those that have expired instead
        #[arg(long)]
        expired: bool,
    },
    /// Take a test out of quarantine: its failures count from now on
    #[command(visible_alias = "remove")]
    Rm {
        /// Its id, or a part of its class and name
        #[arg(value_name = "TEST")]
        test: String,
        /// The workflow that was given when it was added
        #[arg(long, value_name = "WORKFLOW")]
        workflow: Option<String>,
    },
}

/// A stretch of time in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Ttl(u64);

fn ttl(text: &str) -> Result<Ttl, String> {
    age(text).map(Ttl).map_err(|error| error.to_string())
}

/// A date, which means its beginning here, or a time.
fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    let day = text.parse::<jiff::civil::Date>().ok();
    let day = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::system()).ok());
    let moment = day.map(|day| day.timestamp()).or_else(|| text.parse().ok());
    moment.ok_or_else(|| "expected a time such as 2027-01-31 or 2027-01-31T12:00:00Z".to_owned())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    test: Named,
    #[serde(skip_serializing_if = "String::is_empty")]
    workflow: String,
    reason: String,
    creator: String,
    create_time: Option<jiff::Timestamp>,
    expire_time: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rows {
    quarantined_tests: Vec<Row>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command, global).await;
    session.close().await;
    done?;
    Ok(Exit::Success)
}

async fn perform(client: &Client, command: Command, global: &Global) -> Result<(), Error> {
    match command {
        Command::Add {
            test,
            reason,
            ttl,
            until,
            workflow,
        } => {
            let until = until.map(|time| Expiration::ExpireTime(json::wire(time)));
            let request = QuarantineTestRequest {
                name: find(client, &test).await?,
                request_id: request_id(),
                workflow: workflow.unwrap_or_default(),
                reason,
                expiration: ttl.map(|ttl| Expiration::Ttl(wire(ttl))).or(until),
            };
            let response = client
                .call(async || client.tests().quarantine_test(request.clone()).await)
                .await?;
            added(response.quarantined_test.unwrap_or_default(), global)
        }
        Command::Ls { expired } => show(list(client, expired).await?, expired, global),
        Command::Rm { test, workflow } => {
            let request = ReleaseTestRequest {
                name: find(client, &test).await?,
                request_id: request_id(),
                workflow: workflow.unwrap_or_default(),
            };
            client
                .call(async || client.tests().release_test(request.clone()).await)
                .await?;
            super::note(global, &format!("{test} is out of quarantine"));
            Ok(())
        }
    }
}

fn wire(Ttl(millis): Ttl) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
    }
}

fn added(entry: QuarantinedTest, global: &Global) -> Result<(), Error> {
    let title = entry.test.as_ref().map(title).unwrap_or_default();
    let row = row(entry);
    if global.json() {
        return json::print(&row);
    }
    let end = row.expire_time.map(measure::local).unwrap_or_default();
    super::note(global, &format!("{title} is in quarantine until {end}"));
    Ok(())
}

async fn list(client: &Client, expired: bool) -> Result<Vec<QuarantinedTest>, Error> {
    pages(async |page_token| {
        let request = ListQuarantinedTestsRequest {
            parent: client.parent(),
            page_size: PAGE_SIZE,
            page_token,
            expired,
        };
        let response = client
            .call(async || client.tests().list_quarantined_tests(request.clone()).await)
            .await?;
        Ok((response.quarantined_tests, response.next_page_token))
    })
    .await
}

fn row(entry: QuarantinedTest) -> Row {
    let quarantine = entry.quarantine.unwrap_or_default();
    Row {
        test: Named::new(entry.test.as_ref()),
        workflow: entry.workflow,
        reason: quarantine.reason,
        creator: entry.creator,
        create_time: json::time(entry.create_time.as_ref()),
        expire_time: json::time(quarantine.expire_time.as_ref()),
    }
}

fn show(entries: Vec<QuarantinedTest>, expired: bool, global: &Global) -> Result<(), Error> {
    if global.json() {
        return json::print(&Rows {
            quarantined_tests: entries.into_iter().map(row).collect(),
        });
    }
    if entries.is_empty() {
        let words = match expired {
            true => "no quarantine has expired",
            false => "no test is in quarantine",
        };
        super::note(global, words);
        return Ok(());
    }
    let end = if expired { "EXPIRED" } else { "UNTIL" };
    let mut table = Table::new(&["TEST", "WORKFLOW", end, "BY", "REASON"]);
    for entry in entries {
        let title = entry.test.as_ref().map(title).unwrap_or_default();
        let row = row(entry);
        table.row([
            title.into(),
            escape::visible(&row.workflow).into(),
            row.expire_time
                .map(measure::local)
                .unwrap_or_default()
                .into(),
            escape::visible(&row.creator).into(),
            escape::visible(&row.reason).into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}
