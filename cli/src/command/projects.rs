//! `muster projects`: tenants.

use clap::{Args, Subcommand};
use muster_core::retention;
use muster_proto::v1::{
    CreateProjectRequest, Hold, ListProjectsRequest, PauseProjectRequest, Project,
    ResumeProjectRequest, UpdateProjectRequest,
};
use serde::Serialize;

use super::{retention::Keep, stored::short};
use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster projects create payments --display-name 'Payments team'
  muster projects ls
  muster projects set payments --weight 3 --max-running 50 --max-per-minute none
  muster projects set payments --max-log 1GiB --max-log-rate-each 2MiB
  muster projects set payments --keep-age 90d --keep-count none --keep-artifacts 14d
  muster projects set payments --hold 2027-06-30 --hold-message 'an audit'
  muster projects pause payments -m 'an incident'
  muster projects resume payments
  muster --project payments ls";

/// Manage projects (tenants)
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project; for administrators
    Create {
        /// Its name, a DNS label
        name: String,
        /// Name for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        display_name: String,
    },
    /// Change how a project is served; for administrators
    Set {
        /// Its name
        name: String,
        /// Its part of what agents can do, against the weights of other projects
        #[arg(long, value_name = "COUNT")]
        weight: Option<i32>,
        /// How many executions may run at once; `none` for no limit
        #[arg(long, value_name = "COUNT", value_parser = limit)]
        max_running: Option<Limit>,
        /// How many executions may wait; `none` for no limit
        #[arg(long, value_name = "COUNT", value_parser = limit)]
        max_queued: Option<Limit>,
        /// How many executions may be made in a minute; `none` for no limit
        #[arg(long, value_name = "COUNT", value_parser = limit)]
        max_per_minute: Option<Limit>,
        /// Longest log of an execution, such as 1GiB; `none` for the server's default
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        max_log: Option<Bytes>,
        /// How fast its logs may come, all together at each server, in bytes a second; tests that
        /// print faster wait; `none` for no limit
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        max_log_rate: Option<Bytes>,
        /// How fast each of its logs may come, in bytes a second; `none` for no limit
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        max_log_rate_each: Option<Bytes>,
        #[command(flatten)]
        keep: Keep,
        /// Delete nothing of it until this date or time, or for an age such as 90d, whatever the retention
        /// is; `none` ends that
        #[arg(long, value_name = "TIME", value_parser = hold)]
        hold: Option<Until>,
        /// Why, shown to people
        #[arg(long, value_name = "TEXT", requires = "hold", default_value = "")]
        hold_message: String,
    },
    /// Let nothing of a project begin; what runs goes on
    Pause {
        /// Its name
        name: String,
        /// Shown to people as the reason
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
    },
    /// Let a project go on
    Resume {
        /// Its name
        name: String,
    },
    /// List projects that the token can see
    #[command(visible_alias = "list")]
    Ls,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    display_name: String,
    create_time: Option<jiff::Timestamp>,
    weight: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_running: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_queued: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_minute: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_log_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_log_rate: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_log_rate_each: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_until: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    hold_message: String,
    paused: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pause_message: String,
}

/// How long executions are kept, as far as the project says; 0 is no limit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_count: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_age_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_age_seconds: Option<i64>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<i32>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let number = text.parse::<i32>().ok().filter(|number| *number >= 0);
    let number = number.ok_or_else(|| "expected a whole number, or `none`".to_owned())?;
    Ok(Limit(Some(number)))
}

/// Bytes, or none.
#[derive(Debug, Clone, Copy)]
struct Bytes(Option<i64>);

fn bytes(text: &str) -> Result<Bytes, String> {
    match text {
        "none" => Ok(Bytes(None)),
        text => measure::bytes(text).map(|bytes| Bytes(Some(bytes))),
    }
}

/// The end of a hold, or none.
#[derive(Debug, Clone, Copy)]
struct Until(Option<jiff::Timestamp>);

fn hold(text: &str) -> Result<Until, String> {
    if text == "none" {
        return Ok(Until(None));
    }
    let expected =
        "expected a time such as 2027-06-30 or 2027-06-30T12:00:00Z, an age such as 90d, or none";
    if let Ok(age) = retention::text::age(text) {
        let now = muster_core::clock::Clock::system().now();
        let age = jiff::SignedDuration::from_millis(i64::try_from(age).unwrap_or(i64::MAX));
        let until = now.checked_add(age).map_err(|_late| expected.to_owned())?;
        return Ok(Until(Some(until)));
    }
    let day = text.parse::<jiff::civil::Date>().ok();
    let day = day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::system()).ok());
    let until = day.map(|day| day.timestamp()).or_else(|| text.parse().ok());
    until
        .map(|until| Until(Some(until)))
        .ok_or_else(|| expected.to_owned())
}

#[derive(Serialize)]
struct Rows {
    projects: Vec<Row>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command).await;
    session.close().await;
    show(done?, global)?;
    Ok(Exit::Success)
}

async fn perform(client: &Client, command: Command) -> Result<Vec<Project>, Error> {
    match command {
        Command::Create { name, display_name } => {
            let request = CreateProjectRequest {
                project_id: name,
                request_id: request_id(),
                display_name,
            };
            let response = client
                .call(async || client.projects().create_project(request.clone()).await)
                .await?;
            Ok(response.project.into_iter().collect())
        }
        Command::Set {
            name,
            weight,
            max_running,
            max_queued,
            max_per_minute,
            max_log,
            max_log_rate,
            max_log_rate_each,
            keep,
            hold,
            hold_message,
        } => {
            let fields = [
                ("weight", weight.is_some()),
                ("max_running", max_running.is_some()),
                ("max_queued", max_queued.is_some()),
                ("max_per_minute", max_per_minute.is_some()),
                ("max_log_bytes", max_log.is_some()),
                ("max_log_rate", max_log_rate.is_some()),
                ("max_log_rate_each", max_log_rate_each.is_some()),
                ("hold", hold.is_some()),
            ];
            let fields = fields.into_iter().chain(keep.fields());
            let paths = fields.filter(|(_, given)| *given);
            let paths: Vec<String> = paths.map(|(path, _)| path.to_owned()).collect();
            if paths.is_empty() {
                let text = "nothing to change: give --weight, --max-running or another option, see \
                            `muster projects set --help`";
                return Err(Error::Usage(text.to_owned()));
            }
            let number = |limit: Option<Limit>| limit.and_then(|limit| limit.0);
            let bytes = |limit: Option<Bytes>| limit.and_then(|limit| limit.0);
            let request = UpdateProjectRequest {
                project: Some(Project {
                    name: format!("projects/{name}"),
                    weight: weight.unwrap_or(0),
                    max_running: number(max_running),
                    max_queued: number(max_queued),
                    max_per_minute: number(max_per_minute),
                    max_log_bytes: bytes(max_log),
                    max_log_rate: bytes(max_log_rate),
                    max_log_rate_each: bytes(max_log_rate_each),
                    retention: Some(keep.message()),
                    hold: hold.and_then(|until| until.0).map(|until| Hold {
                        until_time: Some(json::wire(until)),
                        message: hold_message,
                    }),
                    ..Project::default()
                }),
                update_mask: Some(prost_types::FieldMask { paths }),
                request_id: request_id(),
            };
            let response = client
                .call(async || client.projects().update_project(request.clone()).await)
                .await?;
            Ok(response.project.into_iter().collect())
        }
        Command::Pause { name, message } => {
            let request = PauseProjectRequest {
                name: format!("projects/{name}"),
                request_id: request_id(),
                message,
            };
            let response = client
                .call(async || client.projects().pause_project(request.clone()).await)
                .await?;
            Ok(response.project.into_iter().collect())
        }
        Command::Resume { name } => {
            let request = ResumeProjectRequest {
                name: format!("projects/{name}"),
                request_id: request_id(),
            };
            let response = client
                .call(async || client.projects().resume_project(request.clone()).await)
                .await?;
            Ok(response.project.into_iter().collect())
        }
        Command::Ls => list(client).await,
    }
}

async fn list(client: &Client) -> Result<Vec<Project>, Error> {
    pages(async |page_token| {
        let request = ListProjectsRequest {
            page_size: PAGE_SIZE,
            page_token,
        };
        let response = client
            .call(async || client.projects().list_projects(request.clone()).await)
            .await?;
        Ok((response.projects, response.next_page_token))
    })
    .await
}

fn show(projects: Vec<Project>, global: &Global) -> Result<(), Error> {
    let rows = projects.into_iter().map(|project| Row {
        name: short(&project.name).to_owned(),
        display_name: project.display_name,
        create_time: json::time(project.create_time.as_ref()),
        weight: project.weight,
        max_running: project.max_running,
        max_queued: project.max_queued,
        max_per_minute: project.max_per_minute,
        max_log_bytes: project.max_log_bytes,
        max_log_rate: project.max_log_rate,
        max_log_rate_each: project.max_log_rate_each,
        keep: project.retention.map(|kept| Kept {
            max_age_seconds: kept.max_age_seconds,
            max_count: kept.max_count,
            max_bytes: kept.max_bytes,
            log_age_seconds: kept.log_age_seconds,
            artifact_age_seconds: kept.artifact_age_seconds,
        }),
        hold_until: project
            .hold
            .as_ref()
            .and_then(|hold| json::time(hold.until_time.as_ref())),
        hold_message: project.hold.map(|hold| hold.message).unwrap_or_default(),
        paused: project.paused,
        pause_message: project.pause_message,
    });
    if global.json() {
        return json::print(&Rows {
            projects: rows.collect(),
        });
    }
    let limit = |limit: Option<i32>| limit.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let mut table = Table::new(&[
        "NAME",
        "STATE",
        "WEIGHT",
        "RUNNING",
        "QUEUED",
        "A MINUTE",
        "CREATED",
        "DISPLAY NAME",
    ]);
    for row in rows {
        let created = row.create_time.map_or_else(String::new, measure::local);
        let now = muster_core::clock::Clock::system().now();
        let state = match (row.paused, row.hold_until.is_some_and(|until| now < until)) {
            (true, true) => "paused, held",
            (true, false) => "paused",
            (false, true) => "open, held",
            (false, false) => "open",
        };
        table.row([
            row.name.into(),
            state.into(),
            row.weight.to_string().into(),
            limit(row.max_running).into(),
            limit(row.max_queued).into(),
            limit(row.max_per_minute).into(),
            created.into(),
            row.display_name.into(),
        ]);
    }
    super::print(&table.render(&global.stdout()))
}
