//! Nothing crosses the border of a project: what is another's is not found.

use muster_core::{execution::Stop, retention::Retention};
use muster_storage::{
    Error,
    artifact::{Below, NewArtifact, Preview},
    credential::{NewCredential, Sealed},
    execution::Filter,
    manifest::NewManifest,
};

use crate::fixture::{Database, map, new_execution, request};

on_every_database!(
    nothing_of_another_project_is_found,
    a_request_id_of_another_project_reveals_nothing,
    the_same_names_live_in_two_projects,
);

fn missing<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("it is another project's");
    assert!(error.is_not_found(), "{error:?}");
}

fn manifest() -> NewManifest {
    NewManifest {
        name: "smoke".to_owned(),
        text: "text".to_owned(),
        labels: map(&[]),
        description: String::new(),
        retention: Retention::default(),
    }
}

fn credential() -> NewCredential {
    NewCredential {
        name: "token".to_owned(),
        value: Sealed {
            key: "k".to_owned(),
            bytes: vec![1, 2, 3],
        },
        description: None,
    }
}

async fn nothing_of_another_project_is_found(db: Database) {
    let (agent, assignment) = db.running().await;
    let (id, lease) = (assignment.execution.id, assignment.attempt.lease());
    let work = db.store.agent(agent);
    let new = NewArtifact {
        path: "a".to_owned(),
        size: 1,
        sha256: "aa".to_owned(),
        content_type: String::new(),
        preview: Preview::Text,
        mode: 0,
        step: String::new(),
        blob: "b".to_owned(),
        report: None,
    };
    let artifact = work
        .add_artifact(lease, &new, i64::MAX)
        .await
        .expect("added")
        .artifact;
    let segment = muster_storage::work::NewSegment {
        lease,
        start: 0,
        end: 1,
        blob: "b".to_owned(),
        blob_size: 1,
        lines: 0,
        first_time: 0,
        last_time: 0,
    };
    work.append_log(&segment).await.expect("appended");
    let own = db.store.workflows(db.project);
    own.create(&manifest(), None).await.expect("made");

    let credentials = db.store.credentials(db.project);
    credentials.create(&credential(), None).await.expect("made");

    let foreign = db.new_project("foreign").await;
    let executions = db.store.executions(foreign);
    missing(executions.get(id).await);
    missing(executions.find(&id.to_string()).await);
    missing(executions.find("smoke-1").await);
    missing(executions.details(id).await);
    missing(executions.plan(id).await);
    missing(executions.resolved(id).await);
    missing(executions.events(id, 0, 10).await);
    missing(executions.cancel(id, Stop::Forced, "", None).await);
    let listed = executions.list(&Filter::default(), None, 10).await;
    assert_eq!(listed.expect("a list").items, []);
    missing(db.store.logs(foreign).head(id).await);
    let segments = db.store.logs(foreign).segments(lease.attempt, 0, 10).await;
    assert_eq!(segments.expect("segments"), []);
    missing(db.store.artifacts(foreign).get(artifact.id).await);
    let artifacts = db.store.artifacts(foreign);
    missing(artifacts.list(id, &Below::default(), None, 10).await);
    missing(artifacts.folders(id, "", None, 10).await);
    for manifests in [db.store.workflows(foreign), db.store.templates(foreign)] {
        missing(manifests.get("smoke", None).await);
        missing(manifests.get("smoke", Some(1)).await);
        missing(manifests.update(&manifest(), None, None).await);
        missing(manifests.delete("smoke", None).await);
        assert_eq!(manifests.list(None, 10).await.expect("a list").items, []);
    }
    let others = db.store.credentials(foreign);
    missing(others.get("token").await);
    missing(others.value("token").await);
    missing(others.update(&credential(), None, false, None).await);
    missing(others.delete("token", None).await);
    assert_eq!(others.list(None, 10).await.expect("a list").items, []);
    let kept = credentials.value("token").await.expect("it stays");
    assert_eq!(kept.1, credential().value);
    let execution = db.store.executions(db.project).get(id).await.expect("it");
    assert!(!execution.state().is_terminal(), "nobody canceled it");
}

async fn a_request_id_of_another_project_reveals_nothing(db: Database) {
    let request = request("CreateExecution", 1);
    let own = db.store.executions(db.project);
    let identity = own.reserve("smoke").await.expect("a number");
    let made = own.create(new_execution(identity), Some(&request)).await;
    made.expect("made");
    let foreign = db.new_project("foreign").await;
    missing(db.store.executions(foreign).replay(&request).await);
}

async fn the_same_names_live_in_two_projects(db: Database) {
    let foreign = db.new_project("foreign").await;
    for project in [db.project, foreign] {
        let made = db.store.workflows(project).create(&manifest(), None).await;
        made.expect("made");
        let made = db
            .store
            .credentials(project)
            .create(&credential(), None)
            .await;
        made.expect("made");
        let executions = db.store.executions(project);
        let identity = executions.reserve("smoke").await.expect("a number");
        let made = executions.create(new_execution(identity), None).await;
        assert_eq!(made.expect("made").value.display_name, "smoke-1");
    }
}
