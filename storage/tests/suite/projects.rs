//! Projects and tokens.

use muster_storage::{
    Error,
    project::NewProject,
    token::{NewToken, Role},
};

use crate::fixture::{Database, request};

on_every_database!(
    a_project_name_is_taken_once,
    projects_are_listed_by_name_in_pages,
    a_repeated_request_makes_one_project,
    a_token_is_found_until_it_expires_or_is_deleted,
    the_first_token_is_made_once,
    role_and_project_of_a_token_must_fit,
    tokens_are_listed_newest_first,
);

fn new_project(name: &str) -> NewProject {
    NewProject {
        name: name.to_owned(),
        display_name: "For people".to_owned(),
    }
}

fn admin(secret: u8) -> NewToken {
    NewToken {
        hash: [secret; 32],
        display_name: "admin".to_owned(),
        role: Role::Admin,
        project: None,
        expire_time: None,
    }
}

async fn a_project_name_is_taken_once(db: Database) {
    let projects = db.store.projects();
    let made = projects.create(&new_project("team"), None).await;
    let made = made.expect("it is made").value;
    assert_eq!(projects.get(made.id).await.expect("by id"), made);
    assert_eq!(projects.find("team").await.expect("by name"), made);
    let again = projects.create(&new_project("team"), None).await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
    assert!(
        projects
            .find("other")
            .await
            .expect_err("none")
            .is_not_found()
    );
}

async fn projects_are_listed_by_name_in_pages(db: Database) {
    let projects = db.store.projects();
    // By bytes in every database and locale: a hyphen is less than a letter.
    for name in ["a-b", "ab", "a0", "zz"] {
        db.new_project(name).await;
    }
    let first = projects.list(None, 3).await.expect("a page");
    let names: Vec<_> = first.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["a-b", "a0", "ab"]);
    let second = projects
        .list(first.next.as_deref(), 3)
        .await
        .expect("the rest");
    let names: Vec<_> = second.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["default", "zz"]);
    assert_eq!(second.next, None);
}

async fn a_repeated_request_makes_one_project(db: Database) {
    let request = request("CreateProject", 1);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (store, request) = (db.store.clone(), request.clone());
        calls.spawn(async move {
            let new = new_project("once");
            store.projects().create(&new, Some(&request)).await
        });
    }
    let results = calls.join_all().await;
    let results: Vec<_> = results
        .into_iter()
        .map(|result| result.expect("it succeeds"))
        .collect();
    assert_eq!(results.iter().filter(|result| !result.replayed).count(), 1);
    assert!(
        results
            .iter()
            .all(|result| result.value == results[0].value)
    );
    let mut other = request.clone();
    other.hash = [2; 32];
    let refused = db
        .store
        .projects()
        .create(&new_project("two"), Some(&other))
        .await;
    assert!(
        matches!(refused, Err(Error::RequestIdReused { .. })),
        "{refused:?}"
    );
}

async fn a_token_is_found_until_it_expires_or_is_deleted(db: Database) {
    let tokens = db.store.tokens();
    let new = NewToken {
        hash: [7; 32],
        display_name: "robot".to_owned(),
        role: Role::Member,
        project: Some(db.project),
        expire_time: Some(db.in_seconds(60)),
    };
    let made = tokens.create(&new, None).await.expect("it is made").value;
    assert_eq!(
        tokens.find_by_hash(&[7; 32]).await.expect("a look"),
        Some(made)
    );
    assert_eq!(tokens.find_by_hash(&[8; 32]).await.expect("a look"), None);
    db.advance(60);
    assert_eq!(tokens.find_by_hash(&[7; 32]).await.expect("a look"), None);

    let lasting = tokens
        .create(&admin(9), None)
        .await
        .expect("it is made")
        .value;
    tokens
        .delete(lasting.id, None)
        .await
        .expect("it is deleted");
    assert_eq!(tokens.find_by_hash(&[9; 32]).await.expect("a look"), None);
    let gone = tokens.delete(lasting.id, None).await;
    assert!(gone.expect_err("it is gone").is_not_found());
}

async fn the_first_token_is_made_once(db: Database) {
    let tokens = db.store.tokens();
    let first = tokens.create_first(&admin(1)).await.expect("a try");
    let first = first.expect("the first one is made");
    assert_eq!(tokens.create_first(&admin(2)).await.expect("a try"), None);
    tokens.delete(first.id, None).await.expect("it is deleted");
    assert_eq!(tokens.create_first(&admin(3)).await.expect("a try"), None);
}

async fn role_and_project_of_a_token_must_fit(db: Database) {
    let tokens = db.store.tokens();
    let mut new = admin(1);
    new.project = Some(db.project);
    let refused = tokens.create(&new, None).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    new.role = Role::Viewer;
    new.project = Some(muster_core::id::ProjectId::generate());
    let refused = tokens.create(&new, None).await;
    assert!(refused.expect_err("no such project").is_not_found());
}

async fn tokens_are_listed_newest_first(db: Database) {
    let tokens = db.store.tokens();
    let mut made = Vec::new();
    for secret in 0..5 {
        made.push(
            tokens
                .create(&admin(secret), None)
                .await
                .expect("made")
                .value,
        );
    }
    made.reverse();
    let first = tokens.list(None, 2).await.expect("a page");
    assert_eq!(first.items, made[..2]);
    let rest = tokens.list(first.next, 10).await.expect("the rest");
    assert_eq!(rest.items, made[2..]);
    assert_eq!(rest.next, None);
}
