//! The audit log: written with the change, append-only, seen by those whom it concerns.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use muster_core::{
    execution::Stop,
    id::{ExecutionId, ProjectId},
};
use muster_storage::{
    Request,
    audit::{Actor, ActorKind, AuditEvent, AuditFilter, NewAuditEvent, Note, Outcome, Scope},
    credential::{NewCredential, Sealed},
    execution::{Identity, NewExecution},
    project::{NewProject, Settings},
    token::{NewToken, Role},
};
use uuid::Uuid;

use crate::fixture::{Database, new_execution, request};

on_every_database!(
    a_change_and_its_event_are_stored_together_or_not_at_all,
    a_repeated_request_is_noted_once,
    what_was_there_before_and_after_is_told,
    no_event_is_changed_or_deleted_before_its_time,
    old_events_are_removed_and_younger_ones_stay,
    a_project_sees_its_own_events_alone,
    events_are_found_by_actor_action_resource_and_time,
    nothing_of_a_secret_is_in_the_log,
    executions_of_one_call_are_one_event,
    an_execution_is_not_accepted_without_its_event,
);

fn note(action: &str, resource: &str) -> Note {
    Note {
        actor: Actor {
            kind: ActorKind::Token,
            id: Some(Uuid::from_u128(7)),
            name: "ann".to_owned(),
            role: "admin".to_owned(),
        },
        action: action.to_owned(),
        resource: resource.to_owned(),
        peer: "192.0.2.7".to_owned(),
        inputs: [("message".to_owned(), "why".to_owned())].into(),
        request_id: None,
    }
}

fn noted(action: &'static str, resource: &str) -> Request {
    Request {
        note: Some(Arc::new(note(action, resource))),
        ..request(action, 1)
    }
}

fn refusal(action: &str, project: Option<ProjectId>) -> NewAuditEvent {
    NewAuditEvent {
        note: note(action, "projects/x"),
        project,
        before: None,
        outcome: Outcome::Refused,
        reason: "only an administrator's token allows this".to_owned(),
    }
}

async fn all(db: &Database) -> Vec<AuditEvent> {
    let audit = db.store.audit(Scope::Instance);
    let page = audit.list(&AuditFilter::default(), None, 1000).await;
    page.expect("events").items
}

fn new_project(name: &str) -> NewProject {
    NewProject {
        name: name.to_owned(),
        display_name: name.to_owned(),
    }
}

async fn a_change_and_its_event_are_stored_together_or_not_at_all(db: Database) {
    let create = noted("ProjectService/CreateProject", "projects/blue");
    let projects = db.store.projects();
    let made = projects.create(&new_project("blue"), Some(&create)).await;
    let made = made.expect("a project").value;
    let again = noted("ProjectService/CreateProject", "projects/blue");
    let refused = projects.create(&new_project("blue"), Some(&again)).await;
    refused.expect_err("the name is taken");
    let events = all(&db).await;
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(event.note, *create.note.expect("a note"));
    assert_eq!(event.project, Some(made.id));
    assert_eq!(event.outcome, Outcome::Done);
    assert_eq!(event.time, db.clock.now());
}

async fn a_repeated_request_is_noted_once(db: Database) {
    let create = noted("ProjectService/CreateProject", "projects/blue");
    for _ in 0..3 {
        let projects = db.store.projects();
        let made = projects.create(&new_project("blue"), Some(&create)).await;
        made.expect("the same project");
    }
    assert_eq!(all(&db).await.len(), 1);
}

async fn what_was_there_before_and_after_is_told(db: Database) {
    let settings = Settings {
        weight: 3,
        ..Settings::default()
    };
    let set = noted("ProjectService/UpdateProject", "projects/default");
    let projects = db.store.projects();
    projects
        .set(db.project, &settings, Some(&set))
        .await
        .expect("set");
    let execution = db.submit("smoke").await;
    let cancel = noted(
        "ExecutionService/CancelExecution",
        "projects/default/executions/smoke-1",
    );
    let executions = db.store.executions(db.project);
    executions
        .cancel(execution.id, Stop::Orderly, "enough", Some(&cancel))
        .await
        .expect("canceled");
    let events = all(&db).await;
    let [canceled, updated] = &events[..] else {
        panic!("{events:?}");
    };
    let has = |text: &Option<String>, part: &str| text.as_ref().is_some_and(|it| it.contains(part));
    assert!(has(&updated.before, "\"weight\":1"), "{updated:?}");
    assert!(has(&updated.after, "\"weight\":3"), "{updated:?}");
    assert!(has(&canceled.before, "queued"), "{canceled:?}");
    assert!(has(&canceled.after, "canceled"), "{canceled:?}");
}

async fn no_event_is_changed_or_deleted_before_its_time(db: Database) {
    db.store
        .add_audit_event(refusal("A/B", None))
        .await
        .expect("an event");
    for statement in [
        "UPDATE audit_events SET actor = 'nobody'",
        "UPDATE audit_events SET time = 0",
        "DELETE FROM audit_events",
    ] {
        let refused = db.try_execute(statement).await;
        let refused = refused.expect_err(statement);
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
    if db.url.starts_with("postgres") {
        let refused = db.try_execute("TRUNCATE audit_events").await;
        let refused = refused.expect_err("TRUNCATE");
        assert!(refused.contains("append-only"), "{refused}");
    }
    let events = all(&db).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].note.actor.name, "ann");
}

async fn old_events_are_removed_and_younger_ones_stay(db: Database) {
    let add = async |action: &str| {
        let event = refusal(action, None);
        db.store.add_audit_event(event).await.expect("an event");
    };
    add("Old/First").await;
    db.advance(100);
    add("Young/Second").await;
    let expired = db.store.expire_audit_events(db.in_seconds(-10)).await;
    assert_eq!(expired.expect("a sweep"), 1);
    let expired = db.store.expire_audit_events(db.in_seconds(-10)).await;
    assert_eq!(expired.expect("a sweep"), 0);
    let events = all(&db).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].note.action, "Young/Second");
    let refused = db.try_execute("DELETE FROM audit_events").await;
    refused.expect_err("it is not old");
}

async fn a_project_sees_its_own_events_alone(db: Database) {
    let other = db.new_project("other").await;
    for project in [None, Some(db.project), Some(other)] {
        let event = refusal("A/B", project);
        db.store.add_audit_event(event).await.expect("an event");
    }
    for (scope, count) in [
        (Scope::Instance, 3),
        (Scope::Project(other), 1),
        (Scope::Project(db.project), 1),
        (Scope::Project(ProjectId::generate()), 0),
    ] {
        let audit = db.store.audit(scope);
        let page = audit.list(&AuditFilter::default(), None, 10).await;
        assert_eq!(page.expect("events").items.len(), count, "{scope:?}");
    }
}

async fn events_are_found_by_actor_action_resource_and_time(db: Database) {
    let begin = db.clock.now();
    for action in [
        "CredentialService/GetCredential",
        "TokenService/X",
        "Tokens/Y",
    ] {
        let event = refusal(action, None);
        db.store.add_audit_event(event).await.expect("an event");
        db.advance(10);
    }
    let audit = db.store.audit(Scope::Instance);
    let text = |text: &str| Some(text.to_owned());
    let none = AuditFilter::default;
    for (filter, count) in [
        (
            AuditFilter {
                actor: text("ann"),
                ..none()
            },
            3,
        ),
        (
            AuditFilter {
                actor: text(&Uuid::from_u128(7).to_string()),
                ..none()
            },
            3,
        ),
        (
            AuditFilter {
                actor: text("bob"),
                ..none()
            },
            0,
        ),
        (
            AuditFilter {
                action: text("Token"),
                ..none()
            },
            2,
        ),
        (
            AuditFilter {
                action: text("TokenService/"),
                ..none()
            },
            1,
        ),
        (
            AuditFilter {
                resource: text("projects/x"),
                ..none()
            },
            3,
        ),
        (
            AuditFilter {
                resource: text("projects/y"),
                ..none()
            },
            0,
        ),
        (
            AuditFilter {
                since: Some(db.in_seconds(-20)),
                ..none()
            },
            2,
        ),
        (
            AuditFilter {
                until: Some(begin),
                ..none()
            },
            0,
        ),
    ] {
        let page = audit.list(&filter, None, 10).await.expect("events");
        assert_eq!(page.items.len(), count, "{filter:?}");
    }
    let first = audit.list(&none(), None, 2).await.expect("a page");
    assert_eq!(first.items[0].note.action, "Tokens/Y", "the newest first");
    let rest = audit.list(&none(), first.next, 2).await.expect("a page");
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

async fn nothing_of_a_secret_is_in_the_log(db: Database) {
    let sealed = || Sealed {
        key: "planted-key".to_owned(),
        bytes: b"planted-value".to_vec(),
    };
    let new = NewCredential {
        name: "token".to_owned(),
        value: sealed(),
        description: None,
    };
    let credentials = db.store.credentials(db.project);
    let call = |action| noted(action, "projects/default/credentials/token");
    let create = call("CredentialService/CreateCredential");
    credentials
        .create(&new, Some(&create))
        .await
        .expect("a credential");
    let update = call("CredentialService/UpdateCredential");
    credentials
        .update(&new, None, false, Some(&update))
        .await
        .expect("a new value");
    let delete = call("CredentialService/DeleteCredential");
    credentials
        .delete("token", Some(&delete))
        .await
        .expect("it is gone");
    let new = NewToken {
        hash: *b"planted-hash-planted-hash-plante",
        display_name: "ci".to_owned(),
        role: Role::Admin,
        project: None,
        expire_time: None,
    };
    let create = noted("ProjectService/CreateToken", "tokens");
    let tokens = db.store.tokens();
    tokens.create(&new, Some(&create)).await.expect("a token");
    let events = all(&db).await;
    assert_eq!(events.len(), 4);
    let shown = format!("{events:?}");
    assert!(!shown.contains("planted"), "{shown}");
}

/// An execution that gets its number when it is accepted.
fn unnumbered(db: &Database, workflow: &str) -> NewExecution {
    let id = ExecutionId::generate();
    NewExecution {
        tags: [("branch".to_owned(), "main".to_owned())].into(),
        config: [("password".to_owned(), "planted-value".to_owned())].into(),
        workflow_revision: 7,
        ..new_execution(Identity::unnumbered(id, workflow, db.clock.now()))
    }
}

async fn executions_of_one_call_are_one_event(db: Database) {
    let call = Arc::new(note(
        "ExecutionService/BatchCreateExecutions",
        "p/executions",
    ));
    let of_batch = || Request {
        note: Some(Arc::clone(&call)),
        ..request("CreateExecution", 1)
    };
    // The first waits for nobody; the others come while it is done, and others' among them.
    let executions = db.store.executions(db.project);
    let create = async |request: Request, workflow: &str| {
        let plan = |_: &Identity| Ok(Bytes::from_static(b"{}"));
        let made = executions.create_next(unnumbered(&db, workflow), plan, Some(&request));
        made.await.expect("it is accepted").value
    };
    let batch = (0..100).map(|number| create(of_batch(), if number % 2 == 0 { "a" } else { "b" }));
    let other = || noted("ExecutionService/CreateExecution", "p/executions");
    let others = (0..3).map(|_| create(other(), "c"));
    let (made, apart) = futures::join!(join_all(batch), join_all(others));

    let events = all(&db).await;
    let of = |action: &str| {
        let of = events.iter().filter(|event| event.note.action == action);
        of.collect::<Vec<_>>()
    };
    let batches = of("ExecutionService/BatchCreateExecutions");
    assert!(batches.len() <= 3, "{}", batches.len());
    let mut told = BTreeSet::new();
    for event in batches {
        let ids: serde_json::Value =
            serde_json::from_str(event.after.as_deref().expect("ids")).expect("JSON");
        let ids = ids["executions"].as_array().expect("a list");
        assert_eq!(event.note.inputs["count"], ids.len().to_string());
        assert_eq!(event.project, Some(db.project));
        told.extend(ids.iter().map(|id| id.as_str().expect("text").to_owned()));
    }
    let expected: BTreeSet<_> = made.iter().map(|made| made.id.to_string()).collect();
    assert_eq!(told, expected);
    let singles = of("ExecutionService/CreateExecution");
    assert_eq!(singles.len(), 3);
    for event in singles {
        let id = event.note.resource.strip_prefix("p/executions/");
        let id = id.expect("one execution");
        let made = apart.iter().find(|made| made.id.to_string() == id);
        let made = made.expect("one of them");
        assert_eq!(event.note.inputs["executions"], made.display_name);
        assert_eq!(event.note.inputs["workflows"], "c@7");
        assert_eq!(event.note.inputs["tags"], "branch=main");
        assert_eq!(event.note.inputs["config"], "password");
    }
    assert!(!format!("{events:?}").contains("planted"));
}

async fn an_execution_is_not_accepted_without_its_event(db: Database) {
    let executions = db.store.executions(db.project);
    let create = async |request: &Request| {
        let plan = |_: &Identity| Ok(Bytes::from_static(b"{}"));
        let new = unnumbered(&db, "smoke");
        executions.create_next(new, plan, Some(request)).await
    };
    db.execute("ALTER TABLE audit_events RENAME TO hidden")
        .await;
    let call = noted("ExecutionService/CreateExecution", "p/executions");
    create(&call).await.expect_err("it can not be noted");
    db.execute("ALTER TABLE hidden RENAME TO audit_events")
        .await;
    let made = create(&call).await.expect("it is accepted");
    assert_eq!((made.value.number, made.replayed), (1, false));
    let again = create(&call).await.expect("it is there");
    assert_eq!((again.value.id, again.replayed), (made.value.id, true));
    assert_eq!(all(&db).await.len(), 1, "a repeat adds none");
}
