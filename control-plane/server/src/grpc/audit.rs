//! `muster.v1.AuditService`.

use std::collections::HashMap;

use jiff::Timestamp;
use muster_core::id::ProjectId;
use muster_proto::v1::{
    AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse,
    audit_event::{self, Kind},
    audit_service_server::AuditService,
};
use muster_storage::audit::{self, ActorKind, AuditFilter, Outcome};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Api,
    convert::{read_time, timestamp},
    name, page,
};
use crate::app::Error;

/// Longest text of a filter, in bytes: names of resources are shorter.
const LONGEST_FILTER: usize = 1024;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = match message.parent.as_str() {
            "" => None,
            parent => Some(name::project("parent", parent)?),
        };
        let filter = read_filter(&message)?;
        let list = page::List::new(&[
            "ListAuditEvents",
            project.unwrap_or_default(),
            &format!("{filter:?}"),
        ]);
        let after: Option<Uuid> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_audit_events(&caller, project, &filter, after, limit)
            .await?;
        let mut names: HashMap<ProjectId, String> = HashMap::new();
        let mut events = Vec::with_capacity(page.items.len());
        for event in page.items {
            let project = match event.project {
                None => String::new(),
                Some(id) => match names.get(&id) {
                    Some(name) => name.clone(),
                    None => {
                        let name = format!("projects/{}", self.app.project_name(id).await?);
                        names.insert(id, name.clone());
                        name
                    }
                },
            };
            events.push(show(event, project));
        }
        Ok(Response::new(ListAuditEventsResponse {
            next_page_token: list.token(page.next),
            events,
        }))
    }
}

fn read_filter(message: &ListAuditEventsRequest) -> Result<AuditFilter, Error> {
    let text = |field: &str, text: &str| {
        if text.len() > LONGEST_FILTER || text.contains('\0') {
            let reason = format!("must have at most {LONGEST_FILTER} bytes, and no NUL");
            return Err(Error::invalid(field, reason));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    };
    let time =
        |field: &str, time: Option<prost_types::Timestamp>| -> Result<Option<Timestamp>, _> {
            time.map(|time| read_time(field, time)).transpose()
        };
    Ok(AuditFilter {
        actor: text("actor", &message.actor)?,
        action: text("action", &message.action)?,
        resource: text("resource", &message.resource)?,
        since: time("since", message.since)?,
        until: time("until", message.until)?,
    })
}

fn show(event: audit::AuditEvent, project: String) -> AuditEvent {
    let audit::Note {
        actor,
        action,
        resource,
        peer,
        inputs,
        request_id,
    } = event.note;
    let kind = match actor.kind {
        ActorKind::Token => Kind::Token,
        ActorKind::Agent => Kind::Agent,
        ActorKind::Nobody => Kind::Nobody,
        ActorKind::Server => Kind::Server,
    };
    let outcome = match event.outcome {
        Outcome::Done => audit_event::Outcome::Done,
        Outcome::Refused => audit_event::Outcome::Refused,
    };
    let id = |id: Option<Uuid>| id.map_or_else(String::new, |id| id.to_string());
    AuditEvent {
        name: format!("auditEvents/{}", event.id),
        time: Some(timestamp(event.time)),
        project,
        actor: Some(audit_event::Actor {
            kind: kind.into(),
            uid: id(actor.id),
            display_name: actor.name,
            role: actor.role,
        }),
        action,
        resource,
        peer,
        inputs: inputs.into_iter().collect(),
        before_json: event.before.unwrap_or_default(),
        after_json: event.after.unwrap_or_default(),
        outcome: outcome.into(),
        reason: event.reason,
        request_id: id(request_id),
    }
}
