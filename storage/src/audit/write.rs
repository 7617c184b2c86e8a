//! Adding events: of changes in their own transactions, of everything else by itself.

use jiff::Timestamp;
use muster_core::id::ProjectId;
use sea_orm::ConnectionTrait;
use serde::Serialize;
use uuid::Uuid;

use super::{NewAuditEvent, Note, Outcome};
use crate::{
    Error, Request, Store,
    entity::{self, audit_event as row},
    gather::Gathered,
    text, time,
    transaction::Failure,
};

/// Longest text of a caller that is kept of a call, in bytes: names are shorter, messages are cut.
const LONGEST_INPUT: usize = 1024;
/// Longest JSON of what was there before or after, in bytes: settings and labels are far shorter.
const LONGEST_JSON: usize = 16 << 10;

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The project that may see it; `None` for administrators alone.
    pub(crate) project: Option<ProjectId>,
    /// What was made below the resource of the call.
    pub(crate) child: Option<String>,
    /// JSON of what was there.
    pub(crate) before: Option<String>,
    /// JSON of what is there.
    pub(crate) after: Option<String>,
}

/// JSON for an event, or a word about its length.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Option<String>, Failure> {
    Ok(Some(bounded(text::encode(value)?)))
}

fn bounded(json: String) -> String {
    if json.len() > LONGEST_JSON {
        let omitted = serde_json::json!({ "omitted_bytes": json.len() });
        return omitted.to_string();
    }
    json
}

/// Notes a change in its transaction; nothing when nobody has asked for it but the server itself.
pub(crate) async fn record<C: ConnectionTrait>(
    request: Option<&Request>,
    db: &C,
    done: Done,
    now: Timestamp,
) -> Result<(), Failure> {
    let Some(note) = request.and_then(|request| request.note.as_deref()) else {
        return Ok(());
    };
    let mut row = new_row(note, done.project, now)?;
    if let Some(child) = done.child {
        row.resource = below(&note.resource, &child);
    }
    row.before_json = done.before;
    row.after_json = done.after;
    entity::insert::<row::Entity, _>(db, row).await?;
    Ok(())
}

impl Gathered for NewAuditEvent {
    type Answer = ();

    const OPERATION: &'static str = "add_audit_events";

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<(), Error>>, Error> {
        let now = store.clock().now();
        store
            .transaction(Self::OPERATION, |tx| async move {
                let mut rows = Vec::with_capacity(calls.len());
                for call in calls {
                    let mut row = new_row(&call.note, call.project, now)?;
                    row.before_json = call.before.clone().map(bounded);
                    row.outcome = call.outcome.as_str().to_owned();
                    row.reason = text::message(&call.reason);
                    rows.push(row);
                }
                entity::insert_all::<row::Entity, _>(&*tx, &rows).await?;
                Ok(calls.iter().map(|_| Ok(())).collect())
            })
            .await
    }
}

pub(super) fn new_row(
    note: &Note,
    project: Option<ProjectId>,
    now: Timestamp,
) -> Result<row::Model, Failure> {
    let inputs = note.inputs.iter();
    let inputs: std::collections::BTreeMap<_, _> =
        inputs.map(|(name, value)| (name, cut(value))).collect();
    Ok(row::Model {
        id: Uuid::now_v7(),
        time: time::millis(now),
        project_id: project.map(ProjectId::as_uuid),
        actor_kind: note.actor.kind.as_str().to_owned(),
        actor_id: note.actor.id,
        actor: cut(&note.actor.name),
        role: note.actor.role.clone(),
        action: cut(&note.action),
        resource: cut(&note.resource),
        peer: cut(&note.peer),
        inputs_json: text::encode(&inputs)?,
        before_json: None,
        after_json: None,
        outcome: Outcome::Done.as_str().to_owned(),
        reason: String::new(),
        request_id: note.request_id,
    })
}

/// The name of what was made below a resource.
pub(super) fn below(resource: &str, child: &str) -> String {
    cut(&format!("{resource}/{child}"))
}

fn cut(text: &str) -> String {
    let mut cut = text::message(text);
    if cut.len() > LONGEST_INPUT {
        cut.truncate(cut.floor_char_boundary(LONGEST_INPUT));
        cut.push('…');
    }
    cut
}
