//! An agent that is killed and comes back, with and without what it had on disk: no attempt is
//! begun twice. And one that can not write to its disk.

use std::{fs, path::Path, time::Duration};

use muster_agent::Error;
use muster_proto::v1::{
    Assignment, AttemptOrder, Refusal, attempt_order::Action, attempt_report::Phase,
    link_request::Message as Told, link_response::Message as Say, refusal::Reason,
};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, Signal, kill_process},
};
use tokio::time::timeout;

use crate::{
    conductor::Connection,
    eventually,
    link::{Run, STANDIN, Stopped, assignment, order, runs},
    server::{Link, PATIENCE, Server},
};

/// Longer than an agent takes to tell of its room.
const CREDIT: Duration = Duration::from_secs(5);

/// The stand-in that also counts how often it was started for each attempt.
fn counting() -> String {
    format!("echo \"$MUSTER_ATTEMPT\" >> ../../starts\n{STANDIN}")
}

/// How often an attempt was started.
fn starts(run: &Run, attempt: &str) -> usize {
    let starts = fs::read_to_string(run.directory.path().join("starts")).unwrap_or_default();
    starts.lines().filter(|line| *line == attempt).count()
}

/// The cluster, or somebody, takes away all that there is of an attempt.
fn take_away(stopped: &Stopped, attempt: &str, pid: i32) {
    let pid = Pid::from_raw(pid).expect("an id");
    kill_process(pid, Signal::KILL).expect("it runs");
    let directory = stopped.directory.path().join("runs").join(attempt);
    fs::remove_dir_all(directory).expect("it is there");
}

/// An agent that comes back after all of its attempt went, before the server had stored a word of
/// it; the server's order for the attempt is this.
async fn back_without(program: &str, action: Action) -> (Run, Link, Assignment) {
    let mut run = Run::start(program).await;
    let link = run.server.welcome(Vec::new()).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let given = run.given(&work).await;
    let stopped = run.stop().await;
    drop(link);
    take_away(&stopped, &work.attempt, given.pid);
    let mut run = stopped.start(program).await;
    let link = run.server.welcome(vec![order(&work, action)]).await;
    assert_eq!(link.hello.attempts.len(), 1, "the journal names it");
    (run, link, work)
}

/// Why the agent gives an attempt back.
async fn declined(link: &mut Link, attempt: &str) -> String {
    loop {
        if let Told::Decline(declined) = link.told().await
            && declined.attempt == attempt
        {
            return declined.reason;
        }
    }
}

#[tokio::test]
async fn an_attempt_that_began_and_of_which_nothing_is_left_is_not_begun_again() {
    let (run, mut link, work) = back_without(&counting(), Action::Adopt).await;
    let lost = link.report(|report| report.phase() == Phase::Lost).await;
    assert_eq!(lost.reason, "POD_GONE");
    link.acknowledge(&lost).await;
    link.meanwhile(run.forgotten(&work)).await;
    assert_eq!(starts(&run, &work.attempt), 1);
    // It is over for the journal too.
    let mut run = run.stop().await.start(&counting()).await;
    assert_eq!(run.server.link().await.hello.attempts, []);
}

#[tokio::test]
async fn an_attempt_that_was_reported_on_and_that_nobody_knows_is_not_begun() {
    let mut run = Run::start(&counting()).await;
    // The agent's disk is new, the server has stored one report and nothing of a log.
    let work = assignment();
    let adopt = AttemptOrder {
        sequence: 1,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    let lost = link.report(|report| report.phase() == Phase::Lost).await;
    assert_eq!((lost.reason.as_str(), lost.sequence), ("POD_GONE", 2));
    assert_eq!(starts(&run, &work.attempt), 0);
}

#[tokio::test]
async fn an_attempt_that_was_given_and_not_begun_is_begun_once_by_the_next_process() {
    let mut run = Run::start(&counting()).await;
    // No lease ever holds, so nothing begins.
    let times = (Duration::from_secs(60), Duration::from_nanos(1));
    let mut link = run.server.welcome_with(Vec::new(), times).await;
    let work = assignment();
    link.assign(work.clone()).await;
    let preparing = link
        .report(|report| report.phase() == Phase::Preparing)
        .await;
    link.acknowledge(&preparing).await;
    let mut run = run.stop().await.start(&counting()).await;
    drop(link);
    // It was reported on, but this agent knows that it has not begun.
    let adopt = AttemptOrder {
        sequence: preparing.sequence,
        ..order(&work, Action::Adopt)
    };
    let mut link = run.server.welcome(vec![adopt]).await;
    assert_eq!(link.hello.attempts.len(), 1, "the journal names it");
    link.meanwhile(run.given(&work)).await;
    assert_eq!(starts(&run, &work.attempt), 1);
}

#[tokio::test]
async fn what_the_server_does_not_know_is_forgotten() {
    let (run, mut link, work) = back_without(STANDIN, Action::Kill).await;
    link.meanwhile(run.forgotten(&work)).await;
    let mut run = run.stop().await.start(STANDIN).await;
    assert_eq!(run.server.link().await.hello.attempts, []);
}

#[tokio::test]
async fn a_newer_process_takes_the_journal_and_the_older_one_begins_nothing() {
    let mut run = Run::start(&counting()).await;
    let older = run.server.welcome(Vec::new()).await;
    let newer = run.another(&counting()).await;
    // The server has not heard of the newer one yet, and gives work to the older one.
    let work = assignment();
    older.assign(work.clone()).await;
    let ended = timeout(PATIENCE, run.agent.ended()).await;
    let error = ended.expect("it ends in time").expect_err("for a reason");
    assert!(matches!(error, Error::Superseded), "{error}");
    assert_eq!(starts(&run, &work.attempt), 0);
    let orders = vec![order(&work, Action::Adopt)];
    let mut link = run.server.welcome(orders).await;
    let given = link.meanwhile(run.given(&work)).await;
    // The older one has taken its own socket with it, and not the newer one's.
    let connected = Connection::control(&given, &work.attempt, false);
    let (_control, welcome) = link.meanwhile(connected).await;
    assert_eq!(welcome.plan, work.plan);
    assert_eq!(starts(&run, &work.attempt), 1);
    newer.stop().await.expect("no error");
}

#[tokio::test]
async fn a_superseded_process_leaves_what_runs_to_the_newer_one() {
    let mut run = Run::start(&counting()).await;
    let older = run.server.welcome(Vec::new()).await;
    let work = assignment();
    older.assign(work.clone()).await;
    let given = run.given(&work).await;
    let newer = run.another(&counting()).await;
    let orders = vec![AttemptOrder {
        sequence: 1,
        ..order(&work, Action::Adopt)
    }];
    let mut link = run.server.welcome(orders).await;
    assert_eq!(link.hello.attempts.len(), 1);
    older
        .say(Say::Refusal(Refusal {
            reason: Reason::Superseded.into(),
            ..Refusal::default()
        }))
        .await;
    let ended = timeout(PATIENCE, run.agent.ended()).await;
    assert!(matches!(
        ended.expect("it ends in time"),
        Err(Error::Superseded)
    ));
    let connected = Connection::control(&given, &work.attempt, true);
    let (mut control, _) = link.meanwhile(connected).await;
    control.progress(1).await;
    link.report(|report| report.phase() == Phase::Running).await;
    assert!(runs(given.pid));
    assert_eq!(starts(&run, &work.attempt), 1);
    newer.stop().await.expect("no error");
}

#[tokio::test]
async fn a_disk_that_can_not_be_written_begins_nothing_and_keeps_what_runs() {
    let mut run = Run::start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let running = assignment();
    link.assign(running.clone()).await;
    let given = run.given(&running).await;
    // Something that is no file in the journal's place: also root can not write to it.
    let journal = run.runs().join("agent.journal");
    let aside = journal.with_extension("aside");
    fs::rename(&journal, &aside).expect("it is there");
    fs::create_dir(&journal).expect("the place is free");
    refuses_work(&mut run, &mut link).await;

    let (mut control, _) = Connection::control(&given, &running.attempt, false).await;
    control.log(0, "one\n").await;
    control.durable(4).await;
    fs::remove_dir(&journal).expect("it is empty");
    fs::rename(&aside, &journal).expect("the place is free");
    link.credit(1).await;
    let next = assignment();
    link.assign(next.clone()).await;
    link.meanwhile(run.given(&next)).await;
}

/// Work comes, is given back with a reason, and none is asked for any more.
async fn refuses_work(run: &mut Run, link: &mut Link) {
    for _twice in 0..2 {
        let work = assignment();
        link.assign(work.clone()).await;
        assert_eq!(declined(link, &work.attempt).await, "AGENT_STORAGE");
        link.credit(0).await;
        assert!(!run.has_directory(&work));
    }
}

/// A small disk, for as long as this lives.
struct Disk(std::path::PathBuf);

impl Disk {
    /// None, and a word about it, where this user can not mount.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("it is writable");
        match mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"size=256k") {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                let required = std::env::var_os("MUSTER_TEST_REQUIRE_MOUNT").is_some();
                assert!(!required, "cannot mount: {error}");
                eprintln!("skipped: a full disk needs the right to mount one: {error}");
                None
            }
        }
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let full = fs::write(self.0.join("filler"), vec![0; 1 << 20]);
        full.expect_err("more than it holds");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

#[tokio::test]
async fn a_full_disk_begins_nothing_and_a_free_one_does_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Disk::mount(&directory.path().join("runs")) else {
        return;
    };
    let server = Server::start();
    let mut run = Stopped { directory, server }.start(STANDIN).await;
    let mut link = run.server.welcome(Vec::new()).await;
    let running = assignment();
    link.assign(running.clone()).await;
    let given = run.given(&running).await;
    disk.fill();
    // There may be room for some lines in the last page of the file, and not for more.
    let mut refused = false;
    for _ in 0..64 {
        let work = assignment();
        link.assign(work.clone()).await;
        let reason = loop {
            match link.told().await {
                Told::Decline(declined) => break declined.reason,
                Told::Report(report) if report.phase() == Phase::Lost => {
                    link.acknowledge(&report).await;
                    break report.reason;
                }
                _ => {}
            }
        };
        refused = reason == "AGENT_STORAGE";
        if refused {
            break;
        }
        // The journal had room, the directory had not.
        assert_eq!(reason, "CONDUCTOR_START");
        // Where it was the note of its end that had no room, there is no credit, and the next is refused.
        let _withdrawn = timeout(CREDIT, link.credit(1)).await;
    }
    assert!(refused);
    link.credit(0).await;
    assert!(runs(given.pid), "what runs goes on");
    // Again with a full disk from the start: what runs is found all the same.
    let mut run = run.stop().await.start(STANDIN).await;
    let orders = vec![order(&running, Action::Adopt)];
    let mut link = run.server.welcome(orders).await;
    assert_eq!(link.hello.attempts.len(), 1);
    link.credit(0).await;
    disk.free();
    link.credit(1).await;
    let next = assignment();
    link.assign(next.clone()).await;
    let next = link.meanwhile(run.given(&next)).await;
    for pid in [given.pid, next.pid] {
        let pid = Pid::from_raw(pid).expect("an id");
        kill_process(pid, Signal::KILL).expect("it runs");
    }
    run.agent.stop().await.expect("no error");
    eventually("the processes are gone", || {
        (!runs(given.pid) && !runs(next.pid)).then_some(())
    })
    .await;
}
