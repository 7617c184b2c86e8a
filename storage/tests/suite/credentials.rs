//! Credentials: values go in sealed and come out the same, once for each name.

use muster_storage::{
    Error,
    credential::{NewCredential, Sealed},
};

use crate::fixture::{Database, request};

on_every_database!(
    a_value_is_kept_as_it_was_sealed,
    a_name_is_taken_once,
    a_value_is_replaced_and_counted,
    a_missing_one_is_made_only_where_that_is_allowed,
    many_that_set_the_same_name_at_once_make_one,
    a_deleted_one_is_gone_and_its_name_free,
    credentials_are_listed_by_name_in_pages,
    values_under_other_keys_are_counted,
);

fn new(name: &str, byte: u8) -> NewCredential {
    NewCredential {
        name: name.to_owned(),
        value: Sealed {
            key: "first".to_owned(),
            bytes: vec![byte; 70_000],
        },
        description: Some(format!("for {name}")),
    }
}

async fn a_value_is_kept_as_it_was_sealed(db: Database) {
    let credentials = db.store.credentials(db.project);
    let made = credentials.create(&new("token", 1), None).await;
    let made = made.expect("it is made").value;
    assert_eq!((made.revision, made.project), (1, db.project));
    assert_eq!(made.description, "for token");
    let (found, sealed) = credentials.value("token").await.expect("it is there");
    assert_eq!(found, made);
    assert_eq!(sealed, new("token", 1).value);
    assert_eq!(credentials.get("token").await.expect("it is there"), made);
}

async fn a_name_is_taken_once(db: Database) {
    let credentials = db.store.credentials(db.project);
    let request = request("CreateCredential", 1);
    let first = credentials.create(&new("token", 1), Some(&request)).await;
    let first = first.expect("it is made").value;
    let again = credentials.create(&new("token", 1), Some(&request)).await;
    let again = again.expect("the same request");
    assert!(again.replayed && again.value == first);
    let taken = credentials.create(&new("token", 2), None).await;
    assert!(
        matches!(taken, Err(Error::AlreadyExists { .. })),
        "{taken:?}"
    );
}

async fn a_value_is_replaced_and_counted(db: Database) {
    let credentials = db.store.credentials(db.project);
    let made = credentials.create(&new("token", 1), None).await;
    let made = made.expect("it is made").value;
    db.advance(5);
    let other = NewCredential {
        description: None,
        ..new("token", 2)
    };
    let updated = credentials.update(&other, Some(1), false, None).await;
    let updated = updated.expect("it is the newest").value;
    assert_eq!((updated.id, updated.revision), (made.id, 2));
    assert_eq!(updated.description, "for token", "it is kept");
    assert!(updated.update_time > made.update_time && updated.create_time == made.create_time);
    let (found, sealed) = credentials.value("token").await.expect("it is there");
    assert_eq!((found, sealed), (updated, other.value.clone()));
    let late = credentials.update(&other, Some(1), false, None).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
}

async fn a_missing_one_is_made_only_where_that_is_allowed(db: Database) {
    let credentials = db.store.credentials(db.project);
    let refused = credentials
        .update(&new("token", 1), None, false, None)
        .await;
    assert!(refused.expect_err("not there").is_not_found());
    let made = credentials.update(&new("token", 1), None, true, None).await;
    assert_eq!(made.expect("it is made").value.revision, 1);
}

async fn many_that_set_the_same_name_at_once_make_one(db: Database) {
    let mut calls = tokio::task::JoinSet::new();
    for byte in 0..6 {
        let (store, project) = (db.store.clone(), db.project);
        calls.spawn(async move {
            let credentials = store.credentials(project);
            let set = credentials
                .update(&new("token", byte), None, true, None)
                .await;
            set.expect("each is stored").value.revision
        });
    }
    let mut revisions = calls.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3, 4, 5, 6]);
}

async fn a_deleted_one_is_gone_and_its_name_free(db: Database) {
    let credentials = db.store.credentials(db.project);
    let made = credentials.create(&new("token", 1), None).await;
    let made = made.expect("it is made").value;
    let request = request("DeleteCredential", 1);
    for replayed in [false, true] {
        let deleted = credentials.delete("token", Some(&request)).await;
        assert_eq!(deleted.expect("it is deleted").replayed, replayed);
    }
    let gone = credentials.value("token").await;
    assert!(gone.expect_err("it is gone").is_not_found());
    let again = credentials.create(&new("token", 2), None).await;
    assert_ne!(again.expect("the name is free").value.id, made.id);
}

async fn credentials_are_listed_by_name_in_pages(db: Database) {
    let credentials = db.store.credentials(db.project);
    for name in ["b", "a-b", "a0"] {
        let made = credentials.create(&new(name, 1), None).await;
        made.expect("it is made");
    }
    let first = credentials.list(None, 2).await.expect("a page");
    let names: Vec<_> = first.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["a-b", "a0"]);
    let rest = credentials.list(first.next.as_deref(), 2).await;
    let rest = rest.expect("the rest");
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

async fn values_under_other_keys_are_counted(db: Database) {
    let credentials = db.store.credentials(db.project);
    let made = credentials.create(&new("token", 1), None).await;
    made.expect("it is made");
    let count = async |key| db.store.credentials_under_other_keys(key).await;
    assert_eq!(count("first").await.expect("a count"), 0);
    assert_eq!(count("second").await.expect("a count"), 1);
}
