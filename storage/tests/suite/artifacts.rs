//! Artifacts: once per path and attempt, listed by path.

use muster_core::execution::{IllegalTransition, Lease};
use muster_storage::{
    Error,
    artifact::{Below, Folder, NewArtifact, Preview},
    work::NewDirect,
};

use crate::fixture::Database;

on_every_database!(
    an_artifact_is_listed_when_it_is_complete,
    the_same_file_again_is_a_repeat,
    a_changed_file_replaces_the_old_one,
    artifacts_are_listed_by_path_in_pages,
    folders_are_counted_and_listed_in_pages,
    a_lost_lease_adds_nothing,
    bytes_are_counted_up_to_a_limit,
    a_blob_that_is_given_out_is_doomed_until_it_is_an_artifact,
    what_is_given_out_counts_and_belongs_to_its_attempt,
);

fn file(path: &str, content: &str) -> NewArtifact {
    NewArtifact {
        path: path.to_owned(),
        size: 3,
        sha256: content.repeat(32),
        content_type: "text/plain".to_owned(),
        preview: Preview::Text,
        mode: 0o100_644,
        step: "s1".to_owned(),
        blob: format!("artifacts/{path}/{content}"),
        report: None,
    }
}

async fn an_artifact_is_listed_when_it_is_complete(db: Database) {
    let (agent, assignment) = db.running().await;
    let new = file("out/result.xml", "aa");
    let added = db
        .store
        .agent(agent)
        .add_artifact(assignment.attempt.lease(), &new, i64::MAX)
        .await;
    let added = added.expect("added");
    assert_eq!(added.discard, None);
    assert_eq!(added.artifact.mode, 0o644);
    let artifacts = db.store.artifacts(db.project);
    let found = artifacts.get(added.artifact.id).await.expect("by id");
    assert_eq!(found, added.artifact);
    let listed = artifacts
        .list(assignment.execution.id, &Below::default(), None, 10)
        .await
        .expect("a list");
    assert_eq!(listed.items, [found]);
    let execution = db
        .store
        .executions(db.project)
        .get(assignment.execution.id)
        .await;
    let execution = execution.expect("it");
    assert_eq!(execution.artifact_count, 1);
    assert!(
        execution.revision > assignment.execution.revision,
        "watchers see it"
    );
}

async fn the_same_file_again_is_a_repeat(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let first = work
        .add_artifact(lease, &file("a", "aa"), i64::MAX)
        .await
        .expect("added");
    let mut again = file("a", "aa");
    again.blob = "artifacts/second".to_owned();
    let repeat = work
        .add_artifact(lease, &again, i64::MAX)
        .await
        .expect("a repeat");
    assert_eq!(repeat.artifact, first.artifact);
    assert_eq!(repeat.discard.as_deref(), Some("artifacts/second"));
    // The very same call must not give its own blob away.
    let repeat = work
        .add_artifact(lease, &file("a", "aa"), i64::MAX)
        .await
        .expect("a repeat");
    assert_eq!(repeat.discard, None);
    let execution = db
        .store
        .executions(db.project)
        .get(assignment.execution.id)
        .await;
    assert_eq!(execution.expect("it").artifact_count, 1);
}

async fn a_changed_file_replaces_the_old_one(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    work.add_artifact(lease, &file("a", "aa"), i64::MAX)
        .await
        .expect("added");
    let changed = work
        .add_artifact(lease, &file("a", "bb"), i64::MAX)
        .await
        .expect("replaced");
    assert_eq!(changed.discard.as_deref(), Some("artifacts/a/aa"));
    let listed = db
        .store
        .artifacts(db.project)
        .list(assignment.execution.id, &Below::default(), None, 10)
        .await;
    let listed = listed.expect("a list");
    assert_eq!(listed.items, [changed.artifact]);
    let execution = db
        .store
        .executions(db.project)
        .get(assignment.execution.id)
        .await;
    assert_eq!(execution.expect("it").artifact_count, 1);
}

async fn artifacts_are_listed_by_path_in_pages(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    for path in ["b", "a/x", "a-y", "Z", "ä"] {
        work.add_artifact(lease, &file(path, "aa"), i64::MAX)
            .await
            .expect("added");
    }
    let artifacts = db.store.artifacts(db.project);
    let mut paths = Vec::new();
    let mut after = None;
    loop {
        let page = artifacts
            .list(
                assignment.execution.id,
                &Below::default(),
                after.as_ref(),
                2,
            )
            .await;
        let page = page.expect("a page");
        paths.extend(page.items.into_iter().map(|item| item.path));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paths, ["Z", "a-y", "a/x", "b", "ä"]);
}

async fn folders_are_counted_and_listed_in_pages(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    for path in [
        "top",
        "a/x",
        "a/b/y",
        "a/b/c/z",
        "a-b/x",
        "a%/x",
        "ä/ö/x",
        "ä/x",
        ".muster/archive",
    ] {
        let added = work.add_artifact(lease, &file(path, "aa"), i64::MAX).await;
        added.expect("added");
    }
    let (artifacts, id) = (db.store.artifacts(db.project), assignment.execution.id);
    let folders = async |folder: &str| {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = artifacts.folders(id, folder, after.as_deref(), 2).await;
            let page = page.expect("a page");
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let folder = |path: &str, files: i64| Folder {
        path: path.to_owned(),
        files,
        bytes: files * 3,
    };
    assert_eq!(
        folders("").await,
        [
            folder("a", 3),
            folder("a%", 1),
            folder("a-b", 1),
            folder("ä", 2)
        ]
    );
    assert_eq!(folders("a").await, [folder("a/b", 2)]);
    assert_eq!(folders("ä").await, [folder("ä/ö", 1)]);
    assert_eq!(folders("a/b/c").await, []);
    assert_eq!(folders("top").await, []);
    for (below, direct, expected) in [
        ("", true, &["top"][..]),
        ("a", false, &["a/b/c/z", "a/b/y", "a/x"]),
        ("a", true, &["a/x"]),
        ("ä", true, &["ä/x"]),
        ("a%", false, &["a%/x"]),
        ("none", false, &[]),
    ] {
        let below = Below {
            folder: below.to_owned(),
            direct,
        };
        let listed = artifacts.list(id, &below, None, 10).await.expect("a list");
        let paths: Vec<_> = listed.items.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths, expected, "{below:?}");
        assert!(paths.iter().all(|path| below.has(path)), "{below:?}");
        assert!(!below.has("b/x") || (below.folder.is_empty() && !direct));
    }
}

async fn a_lost_lease_adds_nothing(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let stale = Lease { epoch: 9, ..lease };
    let lost = |result: Result<_, Error>| {
        matches!(
            result,
            Err(Error::IllegalTransition(
                IllegalTransition::LeaseLost { .. }
            ))
        )
    };
    assert!(lost(
        work.add_artifact(stale, &file("a", "aa"), i64::MAX).await
    ));
    work.decline(lease, "", "").await.expect("declined");
    assert!(lost(
        work.add_artifact(lease, &file("a", "aa"), i64::MAX).await
    ));
    let other = db.new_agent("other").await;
    let refused = db
        .store
        .agent(other)
        .add_artifact(lease, &file("a", "aa"), i64::MAX)
        .await;
    assert!(refused.expect_err("not its own").is_not_found());
}

async fn bytes_are_counted_up_to_a_limit(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let sized = |path: &str, content: &str, size: i64| NewArtifact {
        size,
        ..file(path, content)
    };
    for (new, fits) in [
        (sized("a", "aa", 60), true),
        (sized("b", "aa", 41), false),
        (sized("a", "bb", 90), true),
        (sized("b", "aa", 10), true),
        (sized("c", "aa", 1), false),
    ] {
        let added = work.add_artifact(lease, &new, 100).await;
        assert_eq!(added.is_ok(), fits, "{new:?}");
    }
    let executions = db.store.executions(db.project);
    let execution = executions.get(assignment.execution.id).await.expect("it");
    assert_eq!(
        (execution.artifact_count, execution.artifact_bytes),
        (2, 100)
    );
}

fn given(db: &Database, key: &str, size: i64) -> NewDirect {
    NewDirect {
        key: key.to_owned(),
        size,
        delete_time: db.in_seconds(5400),
    }
}

async fn a_blob_that_is_given_out_is_doomed_until_it_is_an_artifact(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let keeper = db.store.keeper();
    for key in ["artifacts/a/aa", "never"] {
        let may = work.give_out_blob(lease, &given(&db, key, 3), 100).await;
        assert!(may.expect("it answers"));
    }
    assert_eq!(keeper.count_doomed_blobs().await.expect("a number"), 2);
    assert_eq!(
        keeper.doomed_blobs(10).await.expect("a list"),
        [""; 0],
        "not yet"
    );

    let after = db.in_seconds(900);
    let listed = work
        .add_direct_artifact(lease, &file("a", "aa"), 100, after)
        .await;
    assert_eq!(listed.expect("listed").discard, None);
    assert_eq!(keeper.count_doomed_blobs().await.expect("a number"), 1);
    // The answer was lost: the same again is a repeat.
    let again = work
        .add_direct_artifact(lease, &file("a", "aa"), 100, after)
        .await;
    assert_eq!(again.expect("a repeat").discard, None);

    // Too late for the other one: it may be deleted any moment.
    db.advance(4600);
    let mut late = file("b", "bb");
    late.blob = "never".to_owned();
    let refused = work
        .add_direct_artifact(lease, &late, 100, db.in_seconds(900))
        .await;
    assert!(refused.expect_err("too late").is_not_found());
    db.advance(1000);
    let due = async || keeper.doomed_blobs(10).await.expect("a list");
    assert_eq!(due().await, ["never"]);
    // Who has begun to put it in time may end after it was deleted, so it is deleted once more.
    keeper.forget_blobs(&due().await).await.expect("gone");
    assert_eq!(due().await, [""; 0]);
    db.advance(24 * 3600);
    assert_eq!(due().await, ["never"]);
    keeper.forget_blobs(&due().await).await.expect("gone");
    assert_eq!(keeper.count_doomed_blobs().await.expect("a number"), 0);
}

async fn what_is_given_out_counts_and_belongs_to_its_attempt(db: Database) {
    let (agent, assignment) = db.running().await;
    let (work, lease) = (db.store.agent(agent), assignment.attempt.lease());
    let may = async |key: &str, size| {
        let may = work.give_out_blob(lease, &given(&db, key, size), 100).await;
        may.expect("it answers")
    };
    assert!(may("first", 60).await);
    assert!(!may("second", 41).await, "60 may come already");
    assert!(may("second", 40).await);
    assert!(!may("third", 1).await);
    // Nobody else makes an artifact of it, and nothing that was not given out becomes one.
    let other = db.new_agent("other").await;
    db.submit("other").await;
    let theirs = db.claim_one(other).await;
    let mut stolen = file("a", "aa");
    stolen.blob = "first".to_owned();
    let after = db.in_seconds(900);
    let refused = db
        .store
        .agent(other)
        .add_direct_artifact(theirs.attempt.lease(), &stolen, 100, after)
        .await;
    assert!(refused.expect_err("not theirs").is_not_found());
    let refused = work
        .add_direct_artifact(lease, &file("a", "aa"), 100, after)
        .await;
    assert!(refused.expect_err("not given out").is_not_found());
    // A lost lease gets none.
    let stale = Lease {
        epoch: lease.epoch + 1,
        ..lease
    };
    let none = work.give_out_blob(stale, &given(&db, "x", 1), 100).await;
    assert!(
        matches!(none, Err(Error::IllegalTransition(..))),
        "{none:?}"
    );
    // Their number has an end too.
    for number in 0..98 {
        assert!(may(&format!("n{number}"), 0).await);
    }
    assert!(!may("one more", 0).await);
}
