//! `muster retention`: what would go, and blobs that nothing names.

use clap::{Args, Subcommand};
use muster_core::retention::text;
use muster_proto::v1::{
    PlanRetentionRequest, PlanRetentionResponse, Retention, SweepOrphansRequest,
    SweepOrphansResponse,
};
use serde::Serialize;

use crate::{
    arguments::Global,
    client::{Client, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{measure, table::Table},
};

const EXAMPLES: &str = "\
Examples:
  muster retention plan              what goes at the next sweep, why, and how much it frees
  muster retention plan --workflow smoke --keep-age 7d     the same for another choice
  muster retention orphans           objects that no row names; for administrators
  muster retention orphans --delete
  muster projects set payments --keep-age 90d --keep-count none";

/// Show what retention would delete
///
/// How long executions are kept is set by `muster server --keep-age` and its like, `muster projects set`
/// and annotations of workflows such as muster.dev/keep-age; the nearest wins. `muster pin` keeps one
/// whatever they say.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what would go now, and change nothing
    Plan {
        /// Only of this workflow
        #[arg(long, value_name = "NAME")]
        workflow: Option<String>,
        /// At most so many are listed; sums are of all
        #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=1000))]
        limit: i32,
        #[command(flatten)]
        keep: Keep,
    },
    /// Look for objects that no row names and that are older than a day; for administrators
    Orphans {
        /// Delete them now, as servers do once a day
        #[arg(long)]
        delete: bool,
    },
}

/// How long executions are kept.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Keep {
    /// How long after their end executions are kept, such as 14d; `none` for no limit, `default` for what
    /// the server says
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) keep_age: Option<Choice>,
    /// How many executions of each workflow are kept; `none`, `default`
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub(crate) keep_count: Option<Choice>,
    /// How many bytes logs and artifacts of each workflow may have, such as 20GiB; `none`, `default`
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) keep_size: Option<Choice>,
    /// How long logs are kept, when that is shorter; `none`, `default`
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) keep_logs: Option<Choice>,
    /// How long artifacts are kept, when that is shorter; `none`, `default`
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) keep_artifacts: Option<Choice>,
}

/// A choice as it is sent: none leaves it to the level below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice(pub(crate) Option<i64>);

fn choice<E: ToString>(
    given: &str,
    read: impl Fn(&str) -> Result<u64, E>,
) -> Result<Choice, String> {
    if given == "default" {
        return Ok(Choice(None));
    }
    let value = read(given).map_err(|error| error.to_string())?;
    Ok(Choice(Some(i64::try_from(value).unwrap_or(i64::MAX))))
}

fn age(given: &str) -> Result<Choice, String> {
    choice(given, |given| text::age(given).map(|millis| millis / 1000))
}

fn count(given: &str) -> Result<Choice, String> {
    choice(given, text::count)
}

fn bytes(given: &str) -> Result<Choice, String> {
    choice(given, text::bytes)
}

impl Keep {
    /// The choice as it is sent.
    pub(crate) fn message(self) -> Retention {
        let value = |choice: Option<Choice>| choice.and_then(|choice| choice.0);
        Retention {
            max_age_seconds: value(self.keep_age),
            max_count: value(self.keep_count),
            max_bytes: value(self.keep_size),
            log_age_seconds: value(self.keep_logs),
            artifact_age_seconds: value(self.keep_artifacts),
        }
    }

    /// The fields that were given.
    pub(crate) const fn fields(&self) -> [(&'static str, bool); 5] {
        [
            ("retention.max_age_seconds", self.keep_age.is_some()),
            ("retention.max_count", self.keep_count.is_some()),
            ("retention.max_bytes", self.keep_size.is_some()),
            ("retention.log_age_seconds", self.keep_logs.is_some()),
            (
                "retention.artifact_age_seconds",
                self.keep_artifacts.is_some(),
            ),
        ]
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    deletions: Vec<Deletion>,
    executions: i64,
    log_bytes: i64,
    artifact_bytes: i64,
    kept: i64,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_until: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deletion {
    execution: String,
    workflow: String,
    finish_time: Option<jiff::Timestamp>,
    part: String,
    reason: String,
    executions: i64,
    log_bytes: i64,
    artifact_bytes: i64,
}

#[derive(Serialize)]
struct Orphans {
    looked: i64,
    orphans: i64,
    bytes: i64,
    deleted: bool,
    keys: Vec<String>,
    truncated: bool,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = match arguments.command {
        Command::Plan {
            workflow,
            limit,
            keep,
        } => match plan(&session.client, workflow, limit, keep).await {
            Ok(found) => show(found, global),
            Err(error) => Err(error),
        },
        Command::Orphans { delete } => match orphans(&session.client, delete).await {
            Ok(found) => show_orphans(found, delete, global),
            Err(error) => Err(error),
        },
    };
    session.close().await;
    done?;
    Ok(Exit::Success)
}

async fn plan(
    client: &Client,
    workflow: Option<String>,
    limit: i32,
    keep: Keep,
) -> Result<PlanRetentionResponse, Error> {
    let given = keep.fields().iter().any(|(_, given)| *given);
    let request = PlanRetentionRequest {
        parent: client.parent(),
        workflow: workflow.unwrap_or_default(),
        retention: given.then(|| keep.message()),
        page_size: limit,
    };
    client
        .call(async || client.retention().plan_retention(request.clone()).await)
        .await
}

async fn orphans(client: &Client, delete: bool) -> Result<SweepOrphansResponse, Error> {
    let request = SweepOrphansRequest {
        request_id: request_id(),
        dry_run: !delete,
    };
    client
        .call(async || client.retention().sweep_orphans(request.clone()).await)
        .await
}

fn show(found: PlanRetentionResponse, global: &Global) -> Result<(), Error> {
    let hold = found.hold.unwrap_or_default();
    let hold_until = json::time(hold.until_time.as_ref());
    let rows = found.deletions.into_iter().map(|one| Deletion {
        execution: one.execution,
        workflow: one.workflow,
        finish_time: json::time(one.finish_time.as_ref()),
        part: one.part,
        reason: one.reason,
        executions: one.executions,
        log_bytes: one.log_bytes,
        artifact_bytes: one.artifact_bytes,
    });
    let plan = Plan {
        deletions: rows.collect(),
        executions: found.executions,
        log_bytes: found.log_bytes,
        artifact_bytes: found.artifact_bytes,
        kept: found.kept,
        truncated: found.truncated,
        hold_until,
    };
    if global.json() {
        return json::print(&plan);
    }
    let mut text = String::new();
    if !plan.deletions.is_empty() {
        let mut table = Table::new(&["EXECUTION", "ENDED", "GOES", "BEYOND", "LOGS", "ARTIFACTS"]);
        for one in &plan.deletions {
            table.row([
                one.execution.as_str().into(),
                one.finish_time
                    .map_or_else(String::new, measure::local)
                    .into(),
                one.part.as_str().into(),
                one.reason.as_str().into(),
                measure::size(one.log_bytes).into(),
                measure::size(one.artifact_bytes).into(),
            ]);
        }
        text = table.render(&global.stdout());
    }
    super::print(&text)?;
    let least = if plan.truncated { "at least " } else { "" };
    super::note(
        global,
        &format!(
            "{least}{} executions would go, {} of logs and {} of artifacts; {} stay whatever their age is",
            plan.executions,
            measure::size(plan.log_bytes),
            measure::size(plan.artifact_bytes),
            plan.kept,
        ),
    );
    if let Some(until) = plan.hold_until {
        let until = measure::local(until);
        let text = format!("the project is under hold until {until}: {}", hold.message);
        super::note(global, &text);
    }
    Ok(())
}

fn show_orphans(found: SweepOrphansResponse, deleted: bool, global: &Global) -> Result<(), Error> {
    if global.json() {
        return json::print(&Orphans {
            looked: found.looked,
            orphans: found.orphans,
            bytes: found.bytes,
            deleted,
            keys: found.keys,
            truncated: found.truncated,
        });
    }
    let lines: Vec<String> = found
        .keys
        .iter()
        .map(|key| format!("{}\n", crate::terminal::escape::visible(key)))
        .collect();
    super::print(&lines.concat())?;
    let done = if deleted { "deleted" } else { "found" };
    let rest = if found.truncated {
        "; there are more"
    } else {
        ""
    };
    super::note(
        global,
        &format!(
            "{} objects were looked at, {} orphans of {} {done}{rest}",
            found.looked,
            found.orphans,
            measure::size(found.bytes),
        ),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_a_choice_and_default_leaves_it_to_others() {
        assert_eq!(age("14d"), Ok(Choice(Some(14 * 24 * 3600))));
        assert_eq!(age("none"), Ok(Choice(Some(0))));
        assert_eq!(count("default"), Ok(Choice(None)));
        assert!(bytes("much").is_err_and(|error| error.contains("20GiB")));
    }
}
