//! Finding executions: each filter, all together, in pages, on every database alike.

use jiff::Timestamp;
use muster_core::execution::{Outcome, Phase, State, Stop};
use muster_storage::{
    execution::{Concurrency, Execution, Filter, Period},
    retention::{self, Part},
    work::{Completion, Progress},
};

use crate::fixture::{Database, map, report};

on_every_database!(
    each_filter_finds_what_fits_and_nothing_else,
    filters_hold_together,
    labels_and_texts_are_taken_literally,
    labels_that_no_workflow_needs_are_forgotten_and_come_back,
    times_bound_what_is_found,
    pages_are_stable_and_meet_without_gap,
    what_lies_far_back_is_found_by_going_on,
    nothing_of_another_project_is_found,
);

async fn find(db: &Database, filter: &Filter) -> Vec<String> {
    let executions = db.store.executions(db.project);
    let page = executions.list(filter, None, 100).await.expect("a page");
    assert_eq!(page.next, None, "there are few");
    page.items
        .into_iter()
        .map(|item| item.display_name)
        .collect()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Four executions: `api-1` has passed on the agent `east`, `api-2` was canceled, `apidocs-1` waits in
/// a group, `web-1` runs on `east`.
async fn four(db: &Database) -> [Execution; 4] {
    let agent = db.new_agent("east").await;
    let first = db
        .submit_with("api", |new| {
            new.tags = map(&[("branch", "main")]);
            new.labels = map(&[("team", "core"), ("tier", "1")]);
            new.workflow_revision = 3;
        })
        .await;
    let lease = db.claim_one(agent).await.attempt.lease();
    let work = db.store.agent(agent);
    for (sequence, progress) in [
        Progress::At(Phase::Preparing),
        Progress::At(Phase::Running),
        Progress::Completed(Completion {
            outcome: Outcome::Passed,
            reason: String::new(),
            message: String::new(),
            log_size: 0,
            log_sha256: String::new(),
            finish_time: None,
        }),
    ]
    .into_iter()
    .enumerate()
    {
        let sequence = i64::try_from(sequence).expect("few") + 1;
        let told = report(lease, sequence, progress);
        work.report(told).await.expect("it is taken");
    }
    let second = db
        .submit_with("api", |new| {
            new.labels = map(&[("team", "web")]);
            new.workflow_revision = 4;
        })
        .await;
    let executions = db.store.executions(db.project);
    executions
        .cancel(second.id, Stop::Orderly, "The Disk is FULL (100%)", None)
        .await
        .expect("it is canceled");
    let fourth = db.submit("web").await;
    db.claim_one(agent).await;
    let third = db
        .submit_with("apidocs", |new| {
            new.concurrency = Some(Concurrency {
                group: "deploy".to_owned(),
                most: 1,
            });
        })
        .await;
    [first, second, third, fourth]
}

async fn each_filter_finds_what_fits_and_nothing_else(db: Database) {
    four(&db).await;
    let none = Filter::default;
    let label =
        |key: &str, value: Option<&str>| [(key.to_owned(), value.map(str::to_owned))].into();
    let cases: Vec<(Filter, &[&str])> = vec![
        (none(), &["apidocs-1", "web-1", "api-2", "api-1"]),
        (
            Filter {
                workflow: text("api"),
                ..none()
            },
            &["api-2", "api-1"],
        ),
        (
            Filter {
                workflow: text("ap"),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                workflow_prefix: text("api"),
                ..none()
            },
            &["apidocs-1", "api-2", "api-1"],
        ),
        (
            Filter {
                workflow_prefix: text("x"),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                workflow_revision: Some(4),
                workflow: text("api"),
                ..none()
            },
            &["api-2"],
        ),
        (
            Filter {
                states: vec![State::Passed],
                ..none()
            },
            &["api-1"],
        ),
        (
            Filter {
                states: vec![State::Passed, State::Queued],
                ..none()
            },
            &["apidocs-1", "api-1"],
        ),
        (
            Filter {
                states: vec![State::Assigned, State::Running],
                ..none()
            },
            &["web-1"],
        ),
        (
            Filter {
                states: vec![State::TimedOut],
                ..none()
            },
            &[],
        ),
        (
            Filter {
                tags: map(&[("branch", "main")]),
                ..none()
            },
            &["api-1"],
        ),
        (
            Filter {
                tags: map(&[("branch", "mai")]),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                labels: label("team", Some("core")),
                ..none()
            },
            &["api-1"],
        ),
        (
            Filter {
                labels: label("team", None),
                ..none()
            },
            &["api-2", "api-1"],
        ),
        (
            Filter {
                labels: label("team", Some("1")),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                labels: label("core", None),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                agent: text("east"),
                ..none()
            },
            &["web-1", "api-1"],
        ),
        (
            Filter {
                agent: text("eas"),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                text: text("disk is full (100%"),
                ..none()
            },
            &["api-2"],
        ),
        (
            Filter {
                text: text("canceled"),
                ..none()
            },
            &["api-2"],
        ),
        (
            Filter {
                text: text("100_)"),
                ..none()
            },
            &[],
        ),
        (
            Filter {
                concurrency_group: text("deploy"),
                ..none()
            },
            &["apidocs-1"],
        ),
        (
            Filter {
                concurrency_group: text("dep"),
                ..none()
            },
            &[],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(find(&db, &filter).await, expected, "{filter:?}");
    }
}

async fn filters_hold_together(db: Database) {
    four(&db).await;
    let all = Filter {
        workflow: text("api"),
        workflow_prefix: text("ap"),
        workflow_revision: Some(3),
        states: vec![State::Passed],
        tags: map(&[("branch", "main")]),
        labels: [("team".to_owned(), text("core")), ("tier".to_owned(), None)].into(),
        agent: text("east"),
        ..Filter::default()
    };
    assert_eq!(find(&db, &all).await, ["api-1"]);
    let other = Filter {
        agent: text("west"),
        ..all.clone()
    };
    assert_eq!(find(&db, &other).await, [""; 0]);
    let other = Filter {
        text: text("disk"),
        ..all
    };
    assert_eq!(find(&db, &other).await, [""; 0]);
}

/// A server remembers for an hour what is noted: it must not rely on what is gone.
async fn labels_that_no_workflow_needs_are_forgotten_and_come_back(db: Database) {
    let team = Filter {
        labels: [("team".to_owned(), text("core"))].into(),
        ..Filter::default()
    };
    let labels = map(&[("team", "core")]);
    let run = async |workflow: &str| {
        let run = db.submit_with(workflow, |new| new.labels = labels.clone());
        run.await.id
    };
    let remove = async |id| {
        let executions = db.store.executions(db.project);
        let ended = executions.cancel(id, Stop::Orderly, "", None).await;
        ended.expect("it has ended");
        let retained = db.store.retained(db.project);
        let deleted = retained.delete(id, Part::All, true, None).await;
        assert!(matches!(
            deleted.expect("deleted"),
            retention::Outcome::Deleted(_)
        ));
    };
    let forget = async || {
        let forgotten = db.store.keeper().forget_labels(100).await;
        forgotten.expect("swept")
    };
    run("kept").await;
    remove(run("gone").await).await;
    assert_eq!(forget().await, 0, "only marked");
    db.advance(2 * 3600);
    assert_eq!(forget().await, 0, "a server may rely on it");
    // It is needed once more: it is noted again, and has its time from the next mark on.
    let second = run("gone").await;
    db.advance(4 * 3600);
    assert_eq!(forget().await, 0);
    assert_eq!(find(&db, &team).await, ["gone-2", "kept-1"]);
    remove(second).await;
    assert_eq!(forget().await, 0);
    db.advance(4 * 3600);
    assert_eq!(forget().await, 1);
    assert_eq!(forget().await, 0);
    assert_eq!(find(&db, &team).await, ["kept-1"]);
    run("gone").await;
    assert_eq!(find(&db, &team).await, ["gone-3", "kept-1"]);
}

async fn labels_and_texts_are_taken_literally(db: Database) {
    let odd = [
        ("a\"b", "c\\d"),
        ("%", "_"),
        ("k", "x\",\"team\":\"core"),
        ("ü", "Ü"),
    ];
    db.submit_with("odd", |new| new.labels = map(&odd)).await;
    for (key, value) in odd {
        let labels = [(key.to_owned(), text(value))].into();
        let filter = Filter {
            labels,
            ..Filter::default()
        };
        assert_eq!(find(&db, &filter).await, ["odd-1"], "{key}={value}");
    }
    // What stands in a value is no label, also where the workflow has had one with it.
    db.submit_with("odd", |new| new.labels = map(&[("team", "core")]))
        .await;
    for value in [text("core"), None] {
        let labels = [("team".to_owned(), value)].into();
        let filter = Filter {
            labels,
            ..Filter::default()
        };
        assert_eq!(find(&db, &filter).await, ["odd-2"]);
    }
}

async fn times_bound_what_is_found(db: Database) {
    // Ids carry the time of this machine.
    let now = Timestamp::now();
    let behind = now.duration_since(db.clock.now()).as_secs();
    db.advance(u64::try_from(behind).expect("the clock of tests is behind"));
    let [first, ..] = four(&db).await;
    db.advance(60);
    let later = db.submit("late").await;
    let period = |since, until| Period { since, until };
    let begin = first.create_time;
    let none = Filter::default;
    for (filter, count) in [
        (
            Filter {
                created: period(Some(begin), None),
                ..none()
            },
            5,
        ),
        (
            Filter {
                created: period(Some(later.create_time), None),
                ..none()
            },
            1,
        ),
        (
            Filter {
                created: period(None, Some(later.create_time)),
                ..none()
            },
            4,
        ),
        (
            Filter {
                created: period(None, Some(begin)),
                ..none()
            },
            0,
        ),
        (
            Filter {
                finished: period(Some(begin), None),
                ..none()
            },
            2,
        ),
        (
            Filter {
                finished: period(None, Some(later.create_time)),
                ..none()
            },
            2,
        ),
        (
            Filter {
                finished: period(Some(later.create_time), None),
                ..none()
            },
            0,
        ),
    ] {
        assert_eq!(find(&db, &filter).await.len(), count, "{filter:?}");
    }
}

async fn pages_are_stable_and_meet_without_gap(db: Database) {
    for number in 0..25 {
        db.submit_with("many", |new| {
            if number % 2 == 0 {
                new.tags = map(&[("even", "yes")]);
            }
        })
        .await;
    }
    let executions = db.store.executions(db.project);
    let filter = Filter {
        tags: map(&[("even", "yes")]),
        workflow_prefix: text("m"),
        ..Filter::default()
    };
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = executions.list(&filter, after, 4).await.expect("a page");
        seen.extend(page.items.into_iter().map(|item| item.number));
        // One that comes meanwhile is newer than the page.
        db.submit("many").await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<i64> = (0..13).map(|index| 25 - index * 2).collect();
    assert_eq!(seen, expected);
}

async fn what_lies_far_back_is_found_by_going_on(db: Database) {
    let old = db.submit_with("old", |new| new.workflow_revision = 1).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..700 {
        let db = db.clone();
        calls.spawn(async move { db.submit("old").await });
    }
    calls.join_all().await;
    // No index knows revisions, so that windows grow until the oldest execution is in one.
    let filter = Filter {
        workflow: text("old"),
        workflow_revision: Some(1),
        ..Filter::default()
    };
    let executions = db.store.executions(db.project);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = executions.list(&filter, after, 10).await.expect("a page");
        seen.extend(page.items.into_iter().map(|item| item.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [old.id]);
}

async fn nothing_of_another_project_is_found(db: Database) {
    four(&db).await;
    let other = db.new_project("other").await;
    let executions = db.store.executions(other);
    let none = Filter::default;
    for filter in [
        none(),
        Filter {
            workflow: text("api"),
            ..none()
        },
        Filter {
            workflow_prefix: text("a"),
            ..none()
        },
        Filter {
            states: vec![State::Passed, State::Queued, State::Assigned],
            ..none()
        },
        Filter {
            tags: map(&[("branch", "main")]),
            ..none()
        },
        Filter {
            labels: [("team".to_owned(), None)].into(),
            ..none()
        },
        Filter {
            agent: text("east"),
            ..none()
        },
        Filter {
            text: text("disk"),
            ..none()
        },
        Filter {
            concurrency_group: text("deploy"),
            ..none()
        },
    ] {
        let page = executions.list(&filter, None, 10).await.expect("a page");
        assert!(page.items.is_empty() && page.next.is_none(), "{filter:?}");
    }
}
