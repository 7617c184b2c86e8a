//! `muster.v1.RetentionService`, and how retention is told and read.

use muster_core::retention::Retention;
use muster_proto::v1::{
    self, ListLargestExecutionsRequest, ListLargestExecutionsResponse, ListUsageRequest,
    ListUsageResponse, PlanRetentionRequest, PlanRetentionResponse, PlannedDeletion,
    SweepOrphansRequest, SweepOrphansResponse, Usage, retention_service_server::RetentionService,
};
use muster_storage::{execution, project, retention as record};
use tonic::{Request, Response, Status};

use super::{Api, convert, name, page};
use crate::app::{Error, Orphans, Planned, RetentionPlan, part_name};

/// Longest age, 100 years, so that sums never overflow.
const MAX_AGE_SECONDS: i64 = 100 * 365 * 24 * 3600;
/// Longest message of a hold or a pin, in bytes.
const MAX_MESSAGE: usize = 1000;

/// A choice for the wire.
pub(super) fn show(chosen: &Retention) -> v1::Retention {
    let number = |value: Option<u64>| value.map(signed);
    let seconds = |millis: Option<u64>| number(millis.map(|millis| millis / 1000));
    v1::Retention {
        max_age_seconds: seconds(chosen.max_age_ms),
        max_count: number(chosen.max_count),
        max_bytes: number(chosen.max_bytes),
        log_age_seconds: seconds(chosen.log_age_ms),
        artifact_age_seconds: seconds(chosen.artifact_age_ms),
    }
}

/// Changes one field of a choice, or all of them.
pub(super) fn set(chosen: &mut Retention, told: &v1::Retention, path: &str) -> Result<(), Error> {
    let wanted = |field: &str| path == "retention" || path == format!("retention.{field}");
    let mut found = false;
    for (field, place, value, most, factor) in [
        (
            "max_age_seconds",
            &mut chosen.max_age_ms,
            told.max_age_seconds,
            MAX_AGE_SECONDS,
            1000,
        ),
        (
            "max_count",
            &mut chosen.max_count,
            told.max_count,
            i64::MAX,
            1,
        ),
        (
            "max_bytes",
            &mut chosen.max_bytes,
            told.max_bytes,
            i64::MAX,
            1,
        ),
        (
            "log_age_seconds",
            &mut chosen.log_age_ms,
            told.log_age_seconds,
            MAX_AGE_SECONDS,
            1000,
        ),
        (
            "artifact_age_seconds",
            &mut chosen.artifact_age_ms,
            told.artifact_age_seconds,
            MAX_AGE_SECONDS,
            1000,
        ),
    ] {
        if !wanted(field) {
            continue;
        }
        found = true;
        let read = |value: i64| {
            let value = u64::try_from(value).ok().filter(|_| value <= most);
            let text = format!("is not from 0 to {most}; 0 is no limit");
            value
                .map(|value| value * factor)
                .ok_or_else(|| Error::invalid(format!("project.retention.{field}"), text))
        };
        *place = value.map(read).transpose()?;
    }
    match found {
        true => Ok(()),
        false => Err(Error::invalid(
            "update_mask",
            format!("'{path}' can not be changed"),
        )),
    }
}

/// A hold as it is told.
pub(super) fn read_hold(told: v1::Hold) -> Result<project::Hold, Error> {
    let until = told
        .until_time
        .ok_or_else(|| Error::invalid("project.hold.until_time", "is missing"))?;
    let until = jiff::Timestamp::new(until.seconds, until.nanos)
        .map_err(|error| Error::invalid("project.hold.until_time", error.to_string()))?;
    check_message("project.hold.message", &told.message)?;
    Ok(project::Hold {
        until,
        message: told.message,
    })
}

/// Refuses a message that is longer than is sensible.
pub(super) fn check_message(field: &str, message: &str) -> Result<(), Error> {
    if message.len() > MAX_MESSAGE {
        let text = format!("has more than {MAX_MESSAGE} bytes");
        return Err(Error::invalid(field, text));
    }
    Ok(())
}

pub(super) fn hold(record: project::Hold) -> v1::Hold {
    v1::Hold {
        until_time: Some(convert::timestamp(record.until)),
        message: record.message,
    }
}

pub(super) fn pin(record: execution::Pin) -> v1::Pin {
    v1::Pin {
        creator: record.creator,
        message: record.message,
        create_time: Some(convert::timestamp(record.create_time)),
    }
}

/// A number for the wire.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn usage(record: record::Usage) -> Usage {
    Usage {
        name: record.name,
        executions: record.space.executions,
        log_bytes: record.space.log_bytes,
        artifact_bytes: record.space.artifact_bytes,
    }
}

fn planned(record: Planned) -> PlannedDeletion {
    PlannedDeletion {
        execution: record.execution,
        workflow: record.workflow,
        finish_time: record.finish_time.map(convert::timestamp),
        part: part_name(record.part).to_owned(),
        reason: record.reason.to_owned(),
        executions: signed(record.executions),
        log_bytes: signed(record.log_bytes),
        artifact_bytes: signed(record.artifact_bytes),
    }
}

fn plan(record: RetentionPlan) -> PlanRetentionResponse {
    PlanRetentionResponse {
        deletions: record.deletions.into_iter().map(planned).collect(),
        executions: signed(record.executions),
        log_bytes: signed(record.log_bytes),
        artifact_bytes: signed(record.artifact_bytes),
        kept: signed(record.kept),
        hold: record.hold.map(hold),
        truncated: record.truncated,
    }
}

fn orphans(record: Orphans) -> SweepOrphansResponse {
    SweepOrphansResponse {
        looked: signed(record.looked),
        orphans: signed(record.orphans),
        bytes: signed(record.bytes),
        keys: record.keys,
        truncated: record.truncated,
    }
}

#[tonic::async_trait]
impl RetentionService for Api {
    async fn list_usage(
        &self,
        request: Request<ListUsageRequest>,
    ) -> Result<Response<ListUsageResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let list = page::List::new(&["ListUsage", project]);
        let after: Option<String> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_usage(&caller, project, after.as_deref(), limit)
            .await?;
        Ok(Response::new(ListUsageResponse {
            next_page_token: list.token(page.next),
            workflows: page.items.into_iter().map(usage).collect(),
        }))
    }

    async fn list_largest_executions(
        &self,
        request: Request<ListLargestExecutionsRequest>,
    ) -> Result<Response<ListLargestExecutionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let limit = page::size(message.page_size)?;
        let largest = self
            .app
            .list_largest_executions(&caller, project, limit)
            .await?;
        Ok(Response::new(ListLargestExecutionsResponse {
            executions: largest.into_iter().map(usage).collect(),
        }))
    }

    async fn plan_retention(
        &self,
        request: Request<PlanRetentionRequest>,
    ) -> Result<Response<PlanRetentionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let workflow = (!message.workflow.is_empty()).then_some(message.workflow.as_str());
        let mut tried = message.retention.map(|_| Retention::default());
        if let (Some(tried), Some(told)) = (&mut tried, &message.retention) {
            set(tried, told, "retention")?;
        }
        let limit = page::size(message.page_size)?;
        let found = self
            .app
            .plan_retention(&caller, project, workflow, tried, limit)
            .await?;
        Ok(Response::new(plan(found)))
    }

    async fn sweep_orphans(
        &self,
        request: Request<SweepOrphansRequest>,
    ) -> Result<Response<SweepOrphansResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let found = self.app.sweep_orphans(&caller, message.dry_run).await?;
        Ok(Response::new(orphans(found)))
    }
}
