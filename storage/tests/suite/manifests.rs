//! Workflows and templates.

use muster_core::retention::Retention;
use muster_storage::{Error, manifest::NewManifest};

use crate::fixture::{Database, map, request};

on_every_database!(
    every_change_is_a_revision_that_stays,
    a_change_based_on_an_old_revision_is_refused,
    workflows_and_templates_do_not_share_names,
    a_deleted_name_can_be_used_again,
    a_repeated_update_returns_what_it_stored,
    manifests_are_listed_by_name_in_pages,
    the_history_of_a_manifest_is_listed_newest_first_in_pages,
);

fn manifest(name: &str, text: &str) -> NewManifest {
    NewManifest {
        name: name.to_owned(),
        text: text.to_owned(),
        labels: map(&[("team", "a")]),
        description: "does things".to_owned(),
        retention: Retention::default(),
    }
}

async fn every_change_is_a_revision_that_stays(db: Database) {
    let workflows = db.store.workflows(db.project);
    let made = workflows.create(&manifest("smoke", "one"), None).await;
    let made = made.expect("made").value;
    assert_eq!(made.revision, 1);
    db.advance(10);
    let changed = workflows
        .update(&manifest("smoke", "two"), Some(1), None)
        .await;
    let changed = changed.expect("changed").value;
    assert_eq!((changed.revision, changed.id), (2, made.id));
    assert_eq!(changed.create_time, made.create_time);
    assert_eq!(changed.update_time, db.clock.now());
    assert_eq!(workflows.get("smoke", None).await.expect("newest"), changed);
    let first = workflows.get("smoke", Some(1)).await.expect("the first");
    assert_eq!(first.text, "one");
    let none = workflows.get("smoke", Some(3)).await;
    assert!(none.expect_err("no such revision").is_not_found());
}

async fn a_change_based_on_an_old_revision_is_refused(db: Database) {
    let workflows = db.store.workflows(db.project);
    workflows
        .create(&manifest("smoke", "one"), None)
        .await
        .expect("made");
    workflows
        .update(&manifest("smoke", "two"), None, None)
        .await
        .expect("changed");
    let stale = workflows
        .update(&manifest("smoke", "three"), Some(1), None)
        .await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    let missing = workflows.update(&manifest("other", "x"), None, None).await;
    assert!(missing.expect_err("not there").is_not_found());
}

async fn workflows_and_templates_do_not_share_names(db: Database) {
    let (workflows, templates) = (
        db.store.workflows(db.project),
        db.store.templates(db.project),
    );
    workflows
        .create(&manifest("same", "w"), None)
        .await
        .expect("made");
    assert!(
        templates
            .get("same", None)
            .await
            .expect_err("none")
            .is_not_found()
    );
    templates
        .create(&manifest("same", "t"), None)
        .await
        .expect("made");
    assert_eq!(workflows.get("same", None).await.expect("it").text, "w");
    assert_eq!(templates.get("same", None).await.expect("it").text, "t");
    let again = templates.create(&manifest("same", "t"), None).await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
}

async fn a_deleted_name_can_be_used_again(db: Database) {
    let workflows = db.store.workflows(db.project);
    let old = workflows
        .create(&manifest("smoke", "old"), None)
        .await
        .expect("made")
        .value;
    workflows.delete("smoke", None).await.expect("deleted");
    assert!(
        workflows
            .get("smoke", None)
            .await
            .expect_err("gone")
            .is_not_found()
    );
    assert!(
        workflows
            .delete("smoke", None)
            .await
            .expect_err("gone")
            .is_not_found()
    );
    let new = workflows
        .create(&manifest("smoke", "new"), None)
        .await
        .expect("made")
        .value;
    assert_ne!(new.id, old.id);
    assert_eq!(workflows.get("smoke", None).await.expect("it").text, "new");
}

async fn a_repeated_update_returns_what_it_stored(db: Database) {
    let workflows = db.store.workflows(db.project);
    workflows
        .create(&manifest("smoke", "one"), None)
        .await
        .expect("made");
    let request = request("UpdateWorkflow", 1);
    let two = manifest("smoke", "two");
    let first = workflows
        .update(&two, Some(1), Some(&request))
        .await
        .expect("changed");
    workflows
        .update(&manifest("smoke", "three"), None, None)
        .await
        .expect("changed");
    let again = workflows
        .update(&two, Some(1), Some(&request))
        .await
        .expect("replayed");
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.value, first.value);
    assert_eq!(
        workflows.get("smoke", None).await.expect("it").text,
        "three"
    );
}

async fn manifests_are_listed_by_name_in_pages(db: Database) {
    let workflows = db.store.workflows(db.project);
    for name in ["c", "a", "b", "gone"] {
        workflows
            .create(&manifest(name, name), None)
            .await
            .expect("made");
    }
    workflows
        .update(&manifest("b", "b2"), None, None)
        .await
        .expect("changed");
    workflows.delete("gone", None).await.expect("deleted");
    let first = workflows.list(None, 2).await.expect("a page");
    let texts: Vec<_> = first.items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["a", "b2"]);
    let rest = workflows
        .list(first.next.as_deref(), 2)
        .await
        .expect("the rest");
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.next, None);
    let templates = db
        .store
        .templates(db.project)
        .list(None, 9)
        .await
        .expect("none");
    assert_eq!(templates.items, []);
}

async fn the_history_of_a_manifest_is_listed_newest_first_in_pages(db: Database) {
    let workflows = db.store.workflows(db.project);
    let made = workflows.create(&manifest("smoke", "1"), None).await;
    made.expect("made");
    for text in ["2", "3"] {
        let new = manifest("smoke", text);
        let changed = workflows.update(&new, None, None).await;
        changed.expect("changed");
    }
    let first = workflows.revisions("smoke", None, 2).await.expect("a page");
    let texts: Vec<_> = first.items.iter().map(|one| one.text.as_str()).collect();
    assert_eq!((texts, first.next), (vec!["3", "2"], Some(2)));
    let rest = workflows.revisions("smoke", first.next, 2).await;
    let rest = rest.expect("the rest");
    assert_eq!((rest.items[0].text.as_str(), rest.next), ("1", None));
    let none = workflows.revisions("other", None, 2).await;
    assert!(none.expect_err("not there").is_not_found());
}
