//! Migrations and connecting.

use muster_storage::{Error, Options, Store, project};

use crate::fixture::Database;

on_every_database!(
    the_default_project_is_made_once,
    an_unknown_migration_is_refused_and_nothing_changes,
    servers_that_start_together_do_not_disturb_each_other,
);

async fn the_default_project_is_made_once(db: Database) {
    let again = db.another_store().await;
    let projects = again.projects().list(None, 10).await.expect("projects");
    let names: Vec<_> = projects.items.iter().map(|item| &item.name).collect();
    assert_eq!(names, [project::DEFAULT]);
    assert_eq!(projects.items[0].id, db.project);
    again.ping().await.expect("it answers");
    again.close().await;
}

async fn an_unknown_migration_is_refused_and_nothing_changes(db: Database) {
    let insert = "INSERT INTO seaql_migrations (version, applied_at) \
                  VALUES ('m20991231_000001_rename_everything', 0)";
    db.execute(insert).await;
    let refused = Store::connect(&db.url, &Options::default()).await;
    let error = refused.expect_err("it is refused");
    assert!(matches!(error, Error::UnknownSchema { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("m20991231_000001_rename_everything"),
        "{text}"
    );
    assert!(text.contains("newer"), "the cure is named: {text}");
    let delete = "DELETE FROM seaql_migrations WHERE version LIKE 'm2099%'";
    db.execute(delete).await;
    db.another_store()
        .await
        .ping()
        .await
        .expect("it is as before");
}

async fn servers_that_start_together_do_not_disturb_each_other(db: Database) {
    // Back to an empty database.
    for table in [
        "taken_over",
        "counted_executions",
        "quarantined_tests",
        "test_results",
        "tests",
        "reports",
        "audit_events",
        "workflow_labels",
        "artifacts",
        "doomed_blobs",
        "missing_artifacts",
        "sealed_logs",
        "log_segments",
        "attempts",
        "execution_events",
        "execution_tags",
        "execution_steps",
        "execution_plans",
        "execution_sources",
        "executions",
        "counters",
        "manifest_revisions",
        "manifests",
        "credentials",
        "requests",
        "agents",
        "tokens",
        "projects",
        "instance",
        "seaql_migrations",
    ] {
        db.execute(&format!("DROP TABLE {table}")).await;
    }
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = db.url.clone();
        starts.spawn(async move { Store::connect(&url, &Options::default()).await });
    }
    let stores = starts.join_all().await;
    for store in stores {
        let store = store.expect("every start succeeds");
        let found = store.projects().list(None, 10).await.expect("projects");
        assert_eq!(found.items.len(), 1);
    }
}

/// PostgreSQL alone: a restart of it breaks every connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_are_replaced() {
    crate::fixture::on_postgres(|db| async move {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let db = db.clone();
            calls.spawn(async move { db.submit("fill the pool").await });
        }
        calls.join_all().await;
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        db.execute(terminate).await;
        db.submit("a write is tried again").await;
        db.execute(terminate).await;
        db.store.ping().await.expect("a read is tried again");
    })
    .await;
}

/// SQLite does not wait by itself for the lock that the change to the write-ahead log needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_sqlite_file_may_be_opened_by_many_at_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("muster.db").display());
        let mut opened = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let url = url.clone();
            opened.spawn(async move { Store::connect(&url, &Options::default()).await });
        }
        for store in opened.join_all().await {
            store.expect("each is served").close().await;
        }
    }
}

#[tokio::test]
async fn a_new_sqlite_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("muster.db");
    let url = format!("sqlite://{}", file.display());
    let store = Store::connect(&url, &Options::default()).await;
    let _store = store.expect("a database");
    for name in ["muster.db", "muster.db-wal"] {
        let permissions = std::fs::metadata(folder.path().join(name))
            .expect("the file is there")
            .permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn what_can_not_be_opened_is_refused_with_its_cure() {
    let folder = tempfile::tempdir().expect("a directory");
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "this is no database, but long enough to look like one\n".repeat(99),
    )
    .expect("a file");
    let cases = [
        ("mysql://localhost/x".to_owned(), "sqlite:///absolute/path"),
        ("sqlite://relative.db".to_owned(), "not absolute"),
        ("sqlite:///nowhere/at/all/muster.db".to_owned(), "directory"),
        (format!("sqlite://{}", text.display()), "name another file"),
        (
            "postgres://nobody:secret@127.0.0.1:1/x".to_owned(),
            "check host",
        ),
    ];
    for (url, cure) in cases {
        let error = Store::connect(&url, &Options::default()).await;
        let error = error.expect_err("it is refused").to_string();
        assert!(error.contains(cure), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
