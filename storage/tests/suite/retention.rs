//! What is kept and what goes: whole units, nothing of them left, and no blob forgotten.

use std::time::Duration;

use muster_core::{
    execution::{Outcome as Ending, State, Stop},
    id::{AgentId, ExecutionId},
    retention::Retention,
};
use muster_storage::{
    artifact::{Below, NewArtifact, NewMissing, Preview},
    execution::{Execution, Origin, Pin, Role},
    manifest::NewManifest,
    project::{Hold, Settings},
    retention::{Deleted, Kept, Outcome, Part, Space, Turn, Usage},
    work::{Assignment, Completion, NewSegment, Progress},
};

use crate::fixture::{Database, map, report, request};

on_every_database!(
    a_deleted_execution_leaves_no_row_and_no_blob_that_nobody_will_delete,
    a_unit_goes_as_a_whole_or_not_at_all,
    what_is_pinned_or_held_or_still_written_stays,
    logs_and_artifacts_go_apart_from_their_row,
    of_two_that_delete_at_once_one_does,
    a_repeated_request_deletes_nothing_more,
    units_come_newest_first_with_all_that_belongs_to_them,
    workflows_say_themselves_how_long_they_are_kept,
    space_is_summed_up_by_workflow_and_by_execution,
    a_turn_is_taken_by_one_server,
    a_blob_that_can_not_be_deleted_is_put_off,
    blobs_that_no_row_names_are_found,
    nothing_of_another_project_is_deleted_or_seen,
);

const FILES: Part = Part::Files {
    logs: true,
    artifacts: false,
};

/// Leaves a log of two segments and an artifact.
async fn leave(db: &Database, agent: AgentId, work: &Assignment) {
    let (lease, attempt) = (work.attempt.lease(), work.attempt.id);
    let agent = db.store.agent(agent);
    for (start, end) in [(0, 10), (10, 30)] {
        let segment = NewSegment {
            lease,
            start,
            end,
            blob: format!("logs/{attempt}/{start}"),
            blob_size: 5,
            lines: 1,
            first_time: 0,
            last_time: 0,
        };
        agent.append_log(&segment).await.expect("appended");
    }
    let file = NewArtifact {
        path: "out/a".to_owned(),
        size: 100,
        sha256: "aa".repeat(32),
        content_type: String::new(),
        preview: Preview::Text,
        mode: 0,
        step: String::new(),
        blob: format!("artifacts/{}/a", work.execution.id),
        report: None,
    };
    let added = agent.add_artifact(lease, &file, i64::MAX).await;
    added.expect("added");
    let missing = NewMissing {
        path: "out/b".to_owned(),
        step: String::new(),
        reason: "BROKEN".to_owned(),
        message: String::new(),
    };
    let noted = agent.miss_artifacts(lease, &[missing]).await;
    noted.expect("noted");
}

/// Ends a run; its log is finished when `whole`.
async fn end(db: &Database, agent: AgentId, work: &Assignment, outcome: Ending, whole: bool) {
    let completion = Completion {
        outcome,
        reason: String::new(),
        message: String::new(),
        log_size: 30,
        log_sha256: "aa".to_owned(),
        finish_time: None,
    };
    let lease = work.attempt.lease();
    let told = report(lease, 1, Progress::Completed(completion));
    let agent = db.store.agent(agent);
    agent.report(told).await.expect("it is heard");
    if whole {
        let summary = muster_storage::execution::LogSummary {
            size: 30,
            sha256: Some("aa".to_owned()),
            complete: true,
        };
        let finished = db.store.queue().finish_log(work.attempt.id, &summary).await;
        finished.expect("it is finished");
    }
}

/// A run that has ended and left something.
async fn ended(db: &Database, name: &str, outcome: Ending) -> Execution {
    let agent = db
        .new_agent(&format!("agent-{}", uuid::Uuid::now_v7()))
        .await;
    db.submit(name).await;
    let work = db.claim_one(agent).await;
    leave(db, agent, &work).await;
    end(db, agent, &work, outcome, true).await;
    db.advance(1);
    work.execution
}

fn deleted(outcome: Outcome) -> Deleted {
    match outcome {
        Outcome::Deleted(deleted) => deleted,
        other => panic!("it stays: {other:?}"),
    }
}

async fn delete(db: &Database, id: ExecutionId) -> Outcome {
    let retained = db.store.retained(db.project);
    let outcome = retained.delete(id, Part::All, false, None).await;
    outcome.expect("an answer")
}

async fn rows(db: &Database) -> Vec<(&'static str, i64)> {
    let mut rows = Vec::new();
    for table in [
        "executions",
        "execution_plans",
        "execution_steps",
        "execution_events",
        "execution_tags",
        "execution_sources",
        "attempts",
        "log_segments",
        "sealed_logs",
        "artifacts",
        "missing_artifacts",
    ] {
        let count = db.count(&format!("SELECT COUNT(*) FROM {table}")).await;
        rows.push((table, count));
    }
    rows
}

async fn a_deleted_execution_leaves_no_row_and_no_blob_that_nobody_will_delete(db: Database) {
    let agent = db.new_agent("runner").await;
    let made = db
        .submit_with("smoke", |new| {
            new.tags = map(&[("branch", "main")]);
            new.source = Some("kind: TestWorkflow".to_owned());
        })
        .await;
    let work = db.claim_one(agent).await;
    leave(&db, agent, &work).await;
    end(&db, agent, &work, Ending::Passed, true).await;
    let before = rows(&db).await;
    let filled = before.iter().filter(|(_, count)| *count > 0).count();
    assert_eq!(filled, before.len() - 1, "all but sealed logs: {before:?}");
    let gone = deleted(delete(&db, made.id).await);
    assert_eq!(gone.ids, [made.id]);
    assert_eq!(
        (gone.log_bytes, gone.artifact_bytes, gone.blobs),
        (30, 100, 3)
    );
    let after = rows(&db).await;
    assert!(after.iter().all(|(_, count)| *count == 0), "{after:?}");
    let doomed = db.store.keeper().doomed_blobs(10).await.expect("keys");
    let attempt = work.attempt.id;
    assert_eq!(
        doomed,
        [
            format!("artifacts/{}/a", made.id),
            format!("logs/{attempt}/0"),
            format!("logs/{attempt}/10"),
        ]
    );
    db.store.keeper().forget_blobs(&doomed).await.expect("done");
    assert_eq!(
        db.store.keeper().count_doomed_blobs().await.expect("none"),
        0
    );
    // What comes late finds nothing to be added to.
    let late = NewSegment {
        lease: work.attempt.lease(),
        start: 30,
        end: 31,
        blob: "late".to_owned(),
        blob_size: 1,
        lines: 0,
        first_time: 0,
        last_time: 0,
    };
    let late = db.store.agent(agent).append_log(&late).await;
    assert!(late.expect_err("it is gone").is_not_found());
    let again = db.submit("smoke").await;
    assert_eq!(again.number, 2, "a number is never given again");
}

/// A parent that has ended, with a child that has not.
async fn family(db: &Database) -> (Execution, AgentId, Assignment) {
    let agent = db
        .new_agent(&format!("family-{}", uuid::Uuid::now_v7()))
        .await;
    let parent = db.submit("suite").await;
    let work = db.claim_one(agent).await;
    db.submit_with("member", |new| {
        new.origin = Some(Origin {
            parent: parent.id,
            attempt: work.attempt.id,
            group: "g".to_owned(),
            index: 0,
            step: "s1".to_owned(),
            role: Role::Detached,
            description: String::new(),
            inputs: None,
            taken_over: false,
        });
    })
    .await;
    let child = db.claim_one(agent).await;
    leave(db, agent, &work).await;
    end(db, agent, &work, Ending::Passed, true).await;
    (parent, agent, child)
}

async fn a_unit_goes_as_a_whole_or_not_at_all(db: Database) {
    let (parent, agent, child) = family(&db).await;
    assert_eq!(
        delete(&db, parent.id).await,
        Outcome::Kept(Kept::Unfinished)
    );
    leave(&db, agent, &child).await;
    end(&db, agent, &child, Ending::Failed, true).await;
    let kept = Kept::Child { root: parent.id };
    assert_eq!(delete(&db, child.execution.id).await, Outcome::Kept(kept));
    let gone = deleted(delete(&db, parent.id).await);
    assert_eq!(gone.ids, [parent.id, child.execution.id]);
    assert_eq!((gone.log_bytes, gone.blobs), (60, 6));
    let after = rows(&db).await;
    assert!(after.iter().all(|(_, count)| *count == 0), "{after:?}");
}

async fn what_is_pinned_or_held_or_still_written_stays(db: Database) {
    let agent = db.new_agent("runner").await;
    let queued = db.submit("smoke").await;
    assert_eq!(
        delete(&db, queued.id).await,
        Outcome::Kept(Kept::Unfinished)
    );
    let work = db.claim_one(agent).await;
    leave(&db, agent, &work).await;
    let id = work.execution.id;
    assert_eq!(delete(&db, id).await, Outcome::Kept(Kept::Unfinished));
    end(&db, agent, &work, Ending::Passed, false).await;
    assert_eq!(delete(&db, id).await, Outcome::Kept(Kept::LogOpen));
    let summary = muster_storage::execution::LogSummary::default();
    let finished = db.store.queue().finish_log(work.attempt.id, &summary).await;
    finished.expect("it is finished");

    let executions = db.store.executions(db.project);
    let pin = Pin {
        creator: "ada".to_owned(),
        message: "to be looked at".to_owned(),
        create_time: db.clock.now(),
    };
    let pinned = executions.pin(id, &pin, None).await.expect("pinned");
    assert_eq!(pinned.pin, Some(pin));
    assert_eq!(delete(&db, id).await, Outcome::Kept(Kept::Pinned));

    let hold = Hold {
        until: db.in_seconds(60),
        message: "by ada".to_owned(),
    };
    let held = Settings {
        hold: Some(hold.clone()),
        ..Settings::default()
    };
    let projects = db.store.projects();
    projects.set(db.project, &held, None).await.expect("held");
    let retained = db.store.retained(db.project);
    let forced = retained.delete(id, Part::All, true, None).await;
    let kept = Kept::Held {
        until: hold.until,
        message: hold.message,
    };
    assert_eq!(forced.expect("an answer"), Outcome::Kept(kept));
    db.advance(61);
    assert_eq!(delete(&db, id).await, Outcome::Kept(Kept::Pinned));
    let free = executions
        .unpin(id, "by ada", None)
        .await
        .expect("it is free");
    assert_eq!(free.pin, None);
    let events = executions.events(id, 0, 100).await.expect("events").items;
    let kinds: Vec<_> = events.iter().map(|event| &*event.kind).collect();
    assert!(
        kinds.contains(&"PINNED") && kinds.contains(&"UNPINNED"),
        "{kinds:?}"
    );
    deleted(delete(&db, id).await);
}

async fn logs_and_artifacts_go_apart_from_their_row(db: Database) {
    let run = ended(&db, "smoke", Ending::Failed).await;
    let retained = db.store.retained(db.project);
    let gone = retained.delete(run.id, FILES, false, None).await;
    let gone = deleted(gone.expect("an answer"));
    assert_eq!(
        (gone.log_bytes, gone.artifact_bytes, gone.blobs),
        (30, 0, 2)
    );
    let executions = db.store.executions(db.project);
    let details = executions.details(run.id).await.expect("its row stays");
    let left = &details.execution;
    assert_eq!(left.logs_delete_time, Some(db.clock.now()));
    assert_eq!((left.artifacts_delete_time, left.log.size), (None, 30));
    let attempt = details.attempts[0].id;
    let logs = db.store.logs(db.project);
    assert_eq!(logs.layout(attempt).await.expect("none"), []);
    let artifacts = db.store.artifacts(db.project);
    let list = artifacts.list(run.id, &Below::default(), None, 10).await;
    assert_eq!(list.expect("a list").items.len(), 1);
    let events = executions
        .events(run.id, 0, 100)
        .await
        .expect("events")
        .items;
    assert_eq!(events.last().expect("one").kind, "LOGS_DELETED");
    let unit = &retained.units("smoke", None, 9).await.expect("it").items[0].unit;
    assert!(!unit.has_logs && unit.has_artifacts);
    assert_eq!((unit.log_bytes, unit.artifact_bytes), (0, 100));
    let rest = deleted(delete(&db, run.id).await);
    assert_eq!((rest.log_bytes, rest.blobs), (0, 1));
}

async fn of_two_that_delete_at_once_one_does(db: Database) {
    let run = ended(&db, "smoke", Ending::Failed).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, project) = (db.another_store().await, db.project);
        calls.spawn(async move {
            let retained = store.retained(project);
            retained.delete(run.id, Part::All, false, None).await
        });
    }
    let answers = calls.join_all().await;
    let done = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Outcome::Deleted(_))));
    assert_eq!(done.count(), 1, "{answers:?}");
    let missing = |error: &muster_storage::Error| error.is_not_found();
    let late = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(late.into_iter().all(missing), "{answers:?}");
}

async fn a_repeated_request_deletes_nothing_more(db: Database) {
    let run = ended(&db, "smoke", Ending::Failed).await;
    let request = request("DeleteExecution", 1);
    let retained = db.store.retained(db.project);
    assert!(!retained.has_done(&request).await.expect("an answer"));
    let first = retained
        .delete(run.id, Part::All, false, Some(&request))
        .await;
    deleted(first.expect("deleted"));
    let again = retained
        .delete(run.id, Part::All, false, Some(&request))
        .await;
    assert_eq!(again.expect("a repeat"), Outcome::Repeated);
    assert!(retained.has_done(&request).await.expect("an answer"));
}

async fn units_come_newest_first_with_all_that_belongs_to_them(db: Database) {
    let (parent, agent, child) = family(&db).await;
    let retained = db.store.retained(db.project);
    let units = retained.units("suite", None, 9).await.expect("units").items;
    assert_eq!((units[0].id, units[0].executions), (parent.id, 2));
    assert_eq!(units[0].unit.finish_time, None, "a part of it runs");
    db.advance(5);
    leave(&db, agent, &child).await;
    end(&db, agent, &child, Ending::Failed, true).await;
    let pin = Pin {
        creator: String::new(),
        message: String::new(),
        create_time: db.clock.now(),
    };
    let executions = db.store.executions(db.project);
    let pinned = executions.pin(child.execution.id, &pin, None).await;
    pinned.expect("a part of it is pinned");
    let unit = &retained.units("suite", None, 9).await.expect("units").items[0].unit;
    assert_eq!(unit.finish_time, Some(db.clock.now()));
    assert_eq!((unit.log_bytes, unit.artifact_bytes), (60, 200));
    assert!(unit.pinned);
    assert_eq!(unit.state, State::Passed);
    assert_eq!(
        delete(&db, parent.id).await,
        Outcome::Kept(Kept::Pinned),
        "a pin of a part holds the whole"
    );
    let alone = retained
        .units("member", None, 9)
        .await
        .expect("units")
        .items;
    assert_eq!(alone, [], "a member is judged with its suite");

    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(ended(&db, "smoke", Ending::Passed).await.id);
    }
    db.submit("smoke").await;
    made.reverse();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = retained.units("smoke", before, 2).await.expect("a page");
        found.extend(page.items.iter().map(|unit| unit.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, made);
    let names = retained.names(&found).await.expect("names");
    assert_eq!(names[&made[4]], "smoke-1");
}

async fn workflows_say_themselves_how_long_they_are_kept(db: Database) {
    for name in ["a", "b", "c"] {
        ended(&db, name, Ending::Passed).await;
    }
    let workflows = db.store.workflows(db.project);
    let chosen = |age| Retention {
        max_age_ms: Some(age),
        ..Retention::default()
    };
    let new = |age| NewManifest {
        name: "b".to_owned(),
        text: "text".to_owned(),
        labels: map(&[]),
        description: String::new(),
        retention: chosen(age),
    };
    workflows.create(&new(5), None).await.expect("stored");
    let retained = db.store.retained(db.project);
    let page = retained.workflows(None, 2).await.expect("a page");
    assert_eq!(
        page.items,
        [
            ("a".to_owned(), Retention::default()),
            ("b".to_owned(), chosen(5))
        ]
    );
    let page = retained.workflows(page.next.as_deref(), 2).await;
    let page = page.expect("a page");
    assert_eq!(page.items, [("c".to_owned(), Retention::default())]);
    assert_eq!(page.next, None);
    workflows.update(&new(6), None, None).await.expect("stored");
    let page = retained.workflows(Some("a"), 1).await.expect("a page");
    assert_eq!(page.items[0].1, chosen(6));
    workflows.delete("b", None).await.expect("deleted");
    let page = retained.workflows(Some("a"), 1).await.expect("a page");
    assert_eq!(page.items[0].1, Retention::default());
}

async fn space_is_summed_up_by_workflow_and_by_execution(db: Database) {
    let first = ended(&db, "a", Ending::Passed).await;
    ended(&db, "a", Ending::Passed).await;
    ended(&db, "b", Ending::Passed).await;
    db.submit("c").await;
    let retained = db.store.retained(db.project);
    let space = |executions, log_bytes, artifact_bytes| Space {
        executions,
        log_bytes,
        artifact_bytes,
    };
    let usage = |name: &str, space| Usage {
        name: name.to_owned(),
        space,
    };
    let all = retained.usage(None, 10).await.expect("sums").items;
    let expected = [usage("a", space(2, 60, 200)), usage("b", space(1, 30, 100))];
    assert_eq!(all, expected);
    let page = retained.usage(None, 1).await.expect("sums");
    assert_eq!(page.next.as_deref(), Some("a"));
    let trimmed = retained.delete(first.id, FILES, false, None).await;
    trimmed.expect("its log goes");
    let all = retained.usage(None, 1).await.expect("sums").items;
    assert_eq!(all, [usage("a", space(2, 30, 200))]);
    let largest = retained.largest(2).await.expect("a list");
    let names: Vec<_> = largest.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["b-1", "a-2"]);
    assert_eq!(largest[0].space, space(1, 30, 100));
}

async fn a_turn_is_taken_by_one_server(db: Database) {
    let minute = Duration::from_secs(60);
    let other = db.another_store().await;
    let (first, second) = (db.store.keeper(), other.keeper());
    let (one, two) = tokio::join!(
        first.take_turn(Turn::Retention, minute),
        second.take_turn(Turn::Retention, minute),
    );
    let (one, two) = (one.expect("an answer"), two.expect("an answer"));
    assert_ne!(one, two);
    let apart = other.keeper().take_turn(Turn::Blobs, minute).await;
    assert!(apart.expect("an answer"), "turns do not share");
    db.advance(59);
    let early = other.keeper().take_turn(Turn::Retention, minute).await;
    assert!(!early.expect("an answer"));
    db.advance(1);
    let due = other.keeper().take_turn(Turn::Retention, minute).await;
    assert!(due.expect("an answer"));
    let far = Duration::from_secs(3600 * 24 * 365);
    let wrong = other.keeper().take_turn(Turn::Orphans, far).await;
    assert!(wrong.expect("set by a clock that is wrong"));
    let cured = db.store.keeper().take_turn(Turn::Orphans, minute).await;
    assert!(cured.expect("an answer"), "it does not wait for a year");
}

async fn a_blob_that_can_not_be_deleted_is_put_off(db: Database) {
    let run = ended(&db, "smoke", Ending::Passed).await;
    delete(&db, run.id).await;
    let keeper = db.store.keeper();
    let all = keeper.doomed_blobs(10).await.expect("keys");
    let until = db.in_seconds(60);
    let put_off = keeper.put_off_blobs(&all[..1], until).await;
    put_off.expect("it is put off");
    let now = keeper.doomed_blobs(10).await.expect("keys");
    assert_eq!(now, all[1..]);
    db.advance(60);
    assert_eq!(keeper.doomed_blobs(10).await.expect("keys").len(), 3);
}

async fn blobs_that_no_row_names_are_found(db: Database) {
    let stays = ended(&db, "smoke", Ending::Passed).await;
    let goes = ended(&db, "smoke", Ending::Passed).await;
    let executions = db.store.executions(db.project);
    let details = executions.details(stays.id).await.expect("it");
    let attempt = details.attempts[0].id;
    delete(&db, goes.id).await;
    let orphans = [
        format!("logs/{attempt}/77"),
        format!("logs/{}/0", uuid::Uuid::now_v7()),
        format!("artifacts/{}/b", stays.id),
    ];
    let mut keys = vec![
        format!("logs/{attempt}/0"),
        format!("artifacts/{}/a", stays.id),
        // Noted already.
        format!("artifacts/{}/a", goes.id),
        // Somebody else's.
        "logs/mine/0".to_owned(),
        "backup/of/all".to_owned(),
    ];
    keys.extend(orphans.iter().cloned());
    let found = db.store.keeper().unnamed_blobs(&keys).await;
    assert_eq!(found.expect("keys"), orphans);
}

async fn nothing_of_another_project_is_deleted_or_seen(db: Database) {
    let run = ended(&db, "smoke", Ending::Passed).await;
    let foreign = db.new_project("foreign").await;
    let retained = db.store.retained(foreign);
    let refused = retained.delete(run.id, Part::All, true, None).await;
    assert!(refused.expect_err("it is another's").is_not_found());
    let units = retained.units("smoke", None, 9).await;
    assert_eq!(units.expect("none").items, []);
    assert_eq!(retained.workflows(None, 9).await.expect("none").items, []);
    assert_eq!(retained.usage(None, 9).await.expect("none").items, []);
    assert_eq!(retained.largest(9).await.expect("none"), []);
    assert!(retained.names(&[run.id]).await.expect("none").is_empty());
    let executions = db.store.executions(foreign);
    let pin = Pin {
        creator: String::new(),
        message: String::new(),
        create_time: db.clock.now(),
    };
    let refused = executions.pin(run.id, &pin, None).await;
    assert!(refused.expect_err("it is another's").is_not_found());
    let refused = executions.unpin(run.id, "", None).await;
    assert!(refused.expect_err("it is another's").is_not_found());
    let refused = executions.cancel(run.id, Stop::Forced, "", None).await;
    assert!(refused.expect_err("it is another's").is_not_found());
}
