//! Databases that take no changes: full disks, broken disks, read-only servers. What runs goes on.

use std::time::Duration;

use muster_core::clock::Clock;
use muster_proto::v1::{
    Assignment, AttemptRef, AttemptReport, RenewLeases, attempt_report::Phase, execution::State,
    link_request::Message, link_response, refusal::Reason,
};
use muster_server::Config;
use muster_tests::disk::{Breakable, Disk};
use tonic::{Code, Status};

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, run},
    postgres,
};

const LEASE: Duration = Duration::from_secs(8);
const RENEW: Duration = Duration::from_secs(4);
/// The sweep of leases comes once in this time.
const LOOK: Duration = Duration::from_millis(1100);
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn slow_leases(config: &mut Config) {
    config.lease_duration = LEASE;
    config.renew_interval = RENEW;
    // Whose lease ends loses it at once.
    config.recovery.lost_agent_after_ms = Some(0);
}

/// The reason of a refusal, as programs read it.
fn reason(status: &Status) -> Option<&'static str> {
    let details = String::from_utf8_lossy(status.details()).into_owned();
    ["DATABASE_FULL", "DATABASE_READ_ONLY"]
        .into_iter()
        .find(|reason| details.contains(reason))
}

/// An agent with one attempt that runs and one that has not begun, while the database takes no
/// changes, and after.
struct Outage {
    clock: Clock,
    admin: Clients,
    agent: Agent,
    begun: Assignment,
    waiting: Assignment,
    renewal: i64,
    /// What is stored of the log of the one that runs.
    logged: Vec<u8>,
}

/// What a database has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    None,
    /// Small changes, sometimes: a full disk has what was written before and is not needed any more.
    Little,
}

impl Outage {
    async fn prepare(fixture: &Fixture, clock: &Clock) -> Self {
        let mut admin = fixture.admin().await;
        let token = fixture.agent("east").await;
        let (mut agent, _) = Agent::connect(fixture, &token, Vec::new()).await;
        let mut work = Vec::new();
        for _ in 0..2 {
            admin.create(run()).await;
            work.push(agent.work().await);
        }
        let waiting = work.remove(1);
        let begun = work.remove(0);
        agent.report(&begun, Phase::Running).await;
        let durable = agent.log(&begun, 0, b"before ").await;
        assert_eq!(durable.expect("it is stored"), 7);
        Self {
            clock: clock.clone(),
            admin,
            agent,
            begun,
            waiting,
            renewal: 0,
            logged: b"before ".to_vec(),
        }
    }

    /// Submits until a submission is refused, and returns why. There may be room for some.
    async fn submit_until_refused(&mut self) -> Status {
        for _ in 0..20_000 {
            if let Err(status) = self.admin.executions.create_execution(run()).await {
                return status;
            }
        }
        panic!("nothing is refused");
    }

    /// Submits until a submission is accepted.
    async fn submit_until_accepted(&mut self) {
        let accepted = async {
            while let Err(status) = self.admin.executions.create_execution(run()).await {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let accepted = tokio::time::timeout(PATIENCE, accepted).await;
        accepted.expect("all goes on by itself when the database takes changes");
    }

    /// Renews the leases of both attempts; whether that was answered, and what is lost then.
    async fn renew(&mut self) -> Option<Vec<AttemptRef>> {
        self.renewal += 1;
        self.agent
            .say(Message::Renew(RenewLeases {
                sequence: self.renewal,
                attempts: Agent::held(&[&self.begun, &self.waiting]),
            }))
            .await;
        // What no server can read is refused at once, after all that was said before it.
        self.agent
            .say(Message::Report(AttemptReport::default()))
            .await;
        let mut lost = None;
        loop {
            match self.agent.hear().await {
                link_response::Message::Renewed(renewed) => {
                    assert_eq!(renewed.sequence, self.renewal);
                    lost = Some(renewed.lost);
                }
                link_response::Message::Refusal(refusal) => {
                    assert_eq!(refusal.reason(), Reason::Invalid, "{refusal:?}");
                    return lost;
                }
                other => panic!("nobody told it that: {other:?}"),
            }
        }
    }

    /// Lets the server's clock go on, and time for it to look at leases.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::sleep(2 * LOOK).await;
    }

    /// The database takes no changes: nothing new is accepted, what is not stored is not
    /// acknowledged, and what runs is left alone.
    async fn endure(&mut self, expected: &str, room: Room) {
        for _ in 0..3 {
            let status = match room {
                Room::None => {
                    let refused = self.admin.executions.create_execution(run()).await;
                    refused.expect_err("it can not be stored")
                }
                Room::Little => self.submit_until_refused().await,
            };
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert_eq!(reason(&status), Some(expected), "{status:?}");
        }
        match (self.renew().await, room) {
            (None, _) => {}
            (Some(lost), Room::Little) => assert_eq!(lost, Vec::new()),
            (Some(_), Room::None) => panic!("a lease that is not stored is not renewed"),
        }
        self.log(b"mean", room).await;
        // Reading goes on.
        let name = self.name(&self.begun.execution);
        assert_eq!(self.admin.get(&name).await.state(), State::Running);
    }

    /// Tells more of a log, which is acknowledged if there is room.
    async fn log(&mut self, more: &[u8], room: Room) {
        let told = self.agent.log(&self.begun, self.logged.len(), more).await;
        match (told, room) {
            (Ok(durable), Room::Little) => {
                self.logged.extend_from_slice(more);
                assert_eq!(i64::try_from(self.logged.len()), Ok(durable));
            }
            (Ok(_), Room::None) => panic!("what is not durable is not acknowledged"),
            (Err(refused), _) => assert_eq!(refused.code(), Code::Unavailable, "{refused:?}"),
        }
    }

    /// It takes changes again: all goes on, and no lease has ended for that time.
    async fn go_on(&mut self) {
        self.submit_until_accepted().await;
        self.pass(Duration::from_secs(3)).await;
        // Longer than a lease after the last renewal that was stored.
        self.pass(Duration::from_secs(3)).await;
        assert_eq!(self.renew().await, Some(Vec::new()), "no lease is lost");
        self.finish().await;
    }

    async fn finish(&mut self) {
        let (begun, before) = (self.begun.clone(), self.logged.len());
        self.logged.extend_from_slice(b"meanwhile");
        let durable = self.agent.log(&begun, before, b"meanwhile").await;
        let durable = durable.expect("it is stored");
        assert_eq!(i64::try_from(self.logged.len()), Ok(durable));
        self.agent.complete(&begun, &self.logged).await;
        let waiting = self.waiting.clone();
        self.agent.report(&waiting, Phase::Running).await;
        self.agent.complete(&waiting, b"").await;
        for work in [begun, waiting] {
            let done = self.admin.finished(&self.name(&work.execution)).await;
            assert_eq!(done.state(), State::Passed);
            assert_eq!(done.attempts.len(), 1, "{:?}", done.attempts);
            assert!(done.log.expect("a log").complete);
        }
    }

    fn name(&self, execution: &str) -> String {
        format!("projects/default/executions/{execution}")
    }
}

fn clock() -> Clock {
    Clock::manual(jiff::Timestamp::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_sqlite_refuses_what_is_new_and_ends_nothing() {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = Disk::mount(&folder.path().join("disk"), 24 << 20).expect("a disk");
    let Some(disk) = disk else { return };
    let clock = clock();
    let fixture = Fixture::start_at(clock.clone(), |config| {
        slow_leases(config);
        let file = disk.path().join("muster.db");
        config.database = Some(format!("sqlite://{}", file.display()));
    })
    .await;
    let mut outage = Outage::prepare(&fixture, &clock).await;
    for _ in 0..2 {
        disk.fill().expect("it is full");
        let status = outage.submit_until_refused().await;
        assert_eq!(reason(&status), Some("DATABASE_FULL"), "{status:?}");
        outage.pass(Duration::from_secs(3)).await;
        outage.endure("DATABASE_FULL", Room::Little).await;
        disk.free().expect("it was full");
        outage.submit_until_accepted().await;
        assert_eq!(outage.renew().await, Some(Vec::new()));
    }
    disk.fill().expect("it is full");
    outage.submit_until_refused().await;
    outage.pass(Duration::from_secs(3)).await;
    outage.endure("DATABASE_FULL", Room::Little).await;
    disk.free().expect("it was full");
    outage.go_on().await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_disk_of_sqlite_is_named_and_a_repaired_one_goes_on() {
    let folder = tempfile::tempdir().expect("a directory");
    let Some(mut disk) = Breakable::mount(folder.path(), 32 << 20).expect("a disk") else {
        return;
    };
    let clock = clock();
    let file = format!("sqlite://{}", disk.path().join("muster.db").display());
    let settings = |config: &mut Config| {
        slow_leases(config);
        config.database = Some(file.clone());
    };
    let fixture = Fixture::start_at(clock.clone(), settings).await;
    let mut outage = Outage::prepare(&fixture, &clock).await;
    disk.fail().expect("it breaks");
    outage.endure("DATABASE_READ_ONLY", Room::None).await;
    outage.pass(Duration::from_secs(3)).await;
    outage.endure("DATABASE_READ_ONLY", Room::None).await;
    // A disk is repaired without anybody on it.
    let Outage {
        begun,
        waiting,
        logged,
        ..
    } = outage;
    let fixture = fixture
        .restart_with(clock.clone(), settings, || {
            disk.repair().expect("nobody uses it");
        })
        .await;
    let token = fixture.new_token_of("east").await;
    let held = Agent::held(&[&begun, &waiting]);
    let (mut agent, _) = Agent::connect(&fixture, &token, held).await;
    agent.after(10);
    let mut outage = Outage {
        clock,
        admin: fixture.admin().await,
        agent,
        begun,
        waiting,
        renewal: 0,
        logged,
    };
    assert_eq!(outage.renew().await, Some(Vec::new()), "no lease is lost");
    outage.finish().await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_postgresql_refuses_what_is_new_and_ends_nothing() {
    let Some(url) = postgres::database().await else {
        return;
    };
    let clock = clock();
    let fixture = Fixture::start_at(clock.clone(), |config| {
        slow_leases(config);
        config.database = Some(url.clone());
    })
    .await;
    let mut outage = Outage::prepare(&fixture, &clock).await;
    postgres::make_read_only(&url, true).await;
    let status = outage.submit_until_refused().await;
    assert_eq!(reason(&status), Some("DATABASE_READ_ONLY"), "{status:?}");
    outage.pass(Duration::from_secs(3)).await;
    outage.endure("DATABASE_READ_ONLY", Room::None).await;
    postgres::make_read_only(&url, false).await;
    outage.go_on().await;
    fixture.server.stop().await;
    postgres::drop_database(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgresql_refuses_what_is_new_and_ends_nothing() {
    let small = muster_tests::postgres::Server::start(32 << 20).await;
    let Some(small) = small.expect("it starts") else {
        return;
    };
    let clock = clock();
    let fixture = Fixture::start_at(clock.clone(), |config| {
        slow_leases(config);
        config.database = Some(small.url.clone());
    })
    .await;
    let mut outage = Outage::prepare(&fixture, &clock).await;
    small.disk.fill().expect("it is full");
    let status = outage.submit_until_refused().await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(reason(&status), Some("DATABASE_FULL"), "{status:?}");
    // Small changes may still have room where rows are.
    outage.pass(Duration::from_secs(3)).await;
    outage.renew().await;
    small.disk.free().expect("it was full");
    outage.go_on().await;
    fixture.server.stop().await;
}
