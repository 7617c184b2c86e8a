//! A database whose connections break at the worst moment: after a commit was asked for, before its
//! answer is here. Nobody can know then whether it happened, so nothing is guessed and nothing done
//! twice. Every commit of every call is cut in turn, once with and once without its effect.

use std::time::Duration;

use muster_proto::v1::{
    Assignment, CreateExecutionRequest, Credit, Execution, ListExecutionEventsRequest,
    ListExecutionsRequest, Welcome, attempt_order::Action, attempt_report::Phase, execution::State,
    link_request::Message, link_response,
};
use muster_tests::proxy::{Proxy, Wire};
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, run},
    link::read_log,
    postgres,
};

/// The word that commits.
const COMMIT: &str = "COMMIT";
/// More commits than any call here has, with what else is committed meanwhile.
const MOST: u64 = 40;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A way to lose the answer of a commit.
type Cut = fn(&'static str, u64) -> Wire;

/// After the commit has happened, and before it could.
const CUTS: [Cut; 2] = [Wire::CutAfter, Wire::CutBefore];

struct Wired {
    proxy: Proxy,
    url: String,
    fixture: Fixture,
    admin: Clients,
    token: String,
    session: String,
}

impl Wired {
    async fn start() -> Option<Self> {
        let url = postgres::database().await?;
        let (before, rest) = url.split_once("://").expect("a URL");
        let (user, rest) = rest.split_once('@').unwrap_or(("postgres", rest));
        let (address, database) = rest.split_once('/').expect("a database");
        let server = tokio::net::lookup_host(address)
            .await
            .expect("an address")
            .next();
        let proxy = Proxy::before(server.expect("an address"))
            .await
            .expect("a port");
        let through = format!("{before}://{user}@{}/{database}", proxy.address);
        let fixture = Fixture::start_with(|config| {
            config.database = Some(through);
            config.lease_duration = Duration::from_secs(60);
            config.renew_interval = Duration::from_secs(20);
        })
        .await;
        Some(Self {
            admin: fixture.admin().await,
            token: fixture.agent("east").await,
            session: uuid::Uuid::now_v7().to_string(),
            proxy,
            url,
            fixture,
        })
    }

    /// Connects as the same process, which holds this; again where the database is away.
    async fn connect(&self, held: &[&Assignment]) -> (Agent, Welcome) {
        let held = Agent::held(held);
        let connected = async {
            loop {
                let hello = Agent::hello(&self.session, held.clone());
                let connected = Agent::try_to_connect(&self.fixture, &self.token, hello).await;
                if let Some(connected) = connected {
                    return connected;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connected).await;
        connected.expect("it can connect")
    }

    /// How many executions there are.
    async fn count(&mut self) -> usize {
        let request = ListExecutionsRequest {
            parent: "projects/default".to_owned(),
            page_size: 1000,
            ..ListExecutionsRequest::default()
        };
        let listed = self.admin.executions.list_executions(request).await;
        listed.expect("a list").into_inner().executions.len()
    }

    /// How often something stands in the history of an execution.
    async fn told(&mut self, name: &str, kind: &str) -> usize {
        let request = ListExecutionEventsRequest {
            parent: name.to_owned(),
            page_size: 1000,
            ..ListExecutionEventsRequest::default()
        };
        let listed = self.admin.executions.list_execution_events(request).await;
        let events = listed.expect("a list").into_inner().events;
        events.iter().filter(|event| event.r#type == kind).count()
    }

    /// The work that an agent has heard of, or hears of when it connects again.
    async fn work(&self, agent: Agent, heard: Option<Assignment>) -> (Agent, Assignment) {
        if let Some(work) = heard {
            return (agent, work);
        }
        let (mut agent, welcome) = self.connect(&[]).await;
        let order = welcome.orders.into_iter().next();
        let work = match order.and_then(|order| order.assignment) {
            Some(work) => work,
            None => agent.work().await,
        };
        (agent, work)
    }

    /// Proves that work is the first attempt of an execution, which passes with it.
    async fn pass_at_once(&mut self, mut agent: Agent, work: &Assignment, made: &Execution) {
        assert_eq!(
            (work.execution.as_str(), work.epoch),
            (made.uid.as_str(), 1)
        );
        agent.report(work, Phase::Running).await;
        agent.complete(work, b"").await;
        let done = self.admin.finished(&made.name).await;
        assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
    }

    async fn end(self) {
        drop(self.admin);
        self.fixture.server.stop().await;
        postgres::drop_database(&self.url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_whose_commit_is_unknown_is_there_once_when_it_is_repeated() {
    let Some(mut wired) = Wired::start().await else {
        return;
    };
    let mut expected = 0;
    for cut in CUTS {
        let after = matches!(cut(COMMIT, 1), Wire::CutAfter(..));
        let (mut happened, mut rounds, mut nth) = (0, 0, 0);
        loop {
            nth += 1;
            let request = CreateExecutionRequest {
                request_id: uuid::Uuid::new_v4().to_string(),
                ..run()
            };
            expected += 1;
            let cuts = wired.proxy.cuts();
            wired.proxy.set(cut(COMMIT, nth));
            let first = wired
                .admin
                .executions
                .create_execution(request.clone())
                .await;
            wired.proxy.set(Wire::Whole);
            if let Err(status) = &first {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                happened += usize::from(wired.count().await == expected);
            }
            let again = wired.admin.create(request).await;
            if let Ok(first) = &first {
                let first = first.get_ref().execution.as_ref().expect("it is told");
                assert_eq!(first.name, again.name);
            }
            assert_eq!(wired.count().await, expected, "once, at commit {nth}");
            if first.is_ok() && wired.proxy.cuts() == cuts {
                // A commit of the server's own housekeeping may have been the one that was cut.
                if after && happened == 0 && rounds < 3 {
                    (rounds, nth) = (rounds + 1, 0);
                    continue;
                }
                break;
            }
            assert!(nth < MOST, "every try was cut");
        }
        assert_eq!(
            happened > 0,
            after,
            "a commit whose answer is lost may have happened"
        );
    }
    wired.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_commit_is_unknown_is_delivered_once() {
    let Some(mut wired) = Wired::start().await else {
        return;
    };
    for cut in CUTS {
        for nth in 1..=3 {
            let (agent, welcome) = wired.connect(&[]).await;
            assert_eq!(welcome.orders, Vec::new());
            let made = wired.admin.create(run()).await;
            let cuts = wired.proxy.cuts();
            wired.proxy.set(cut(COMMIT, nth));
            let credit = Credit {
                slots: 1,
                exempt: 0,
            };
            agent.say(Message::Credit(credit)).await;
            // It hears of it, or its stream is ended since nobody knows.
            let (agent, heard) = listen(agent).await;
            wired.proxy.set(Wire::Whole);
            let (agent, work) = wired.work(agent, heard).await;
            assert!(nth > 1 || wired.proxy.cuts() > cuts, "a commit was cut");
            wired.pass_at_once(agent, &work, &made).await;
        }
    }
    wired.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_given_out_as_it_is_accepted_is_delivered_once_when_its_commit_is_unknown() {
    let Some(mut wired) = Wired::start().await else {
        return;
    };
    for cut in CUTS {
        for nth in 1..=3 {
            let (agent, _) = wired.connect(&[]).await;
            let credit = Credit {
                slots: 1,
                exempt: 0,
            };
            agent.say(Message::Credit(credit)).await;
            let request = CreateExecutionRequest {
                request_id: uuid::Uuid::new_v4().to_string(),
                ..run()
            };
            let cuts = wired.proxy.cuts();
            wired.proxy.set(cut(COMMIT, nth));
            let first = wired
                .admin
                .executions
                .create_execution(request.clone())
                .await;
            wired.proxy.set(Wire::Whole);
            if let Err(status) = &first {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            }
            let made = wired.admin.create(request).await;
            assert!(nth > 1 || wired.proxy.cuts() > cuts, "a commit was cut");
            let (agent, heard) = listen(agent).await;
            let (agent, work) = wired.work(agent, heard).await;
            wired.pass_at_once(agent, &work, &made).await;
        }
    }
    wired.end().await;
}

/// Listens until work comes or the stream ends.
async fn listen(mut agent: Agent) -> (Agent, Option<Assignment>) {
    loop {
        match agent.try_hear().await {
            Some(link_response::Message::Assignment(work)) => return (agent, Some(work)),
            Some(_) => {}
            None => return (agent, None),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_and_logs_whose_commits_are_unknown_count_once() {
    let Some(mut wired) = Wired::start().await else {
        return;
    };
    for cut in CUTS {
        let (mut agent, _) = wired.connect(&[]).await;
        let made = wired.admin.create(run()).await;
        let work = agent.work().await;
        let mut sequence = 0;
        // Each report is cut at its commit, then told again on the next stream.
        for phase in [Phase::Preparing, Phase::Running, Phase::Finishing] {
            sequence += 1;
            let mut report = agent.report_of(&work, phase);
            report.sequence = sequence;
            wired.proxy.set(cut(COMMIT, 1));
            agent.say(Message::Report(report.clone())).await;
            while agent.try_hear().await.is_some() {}
            wired.proxy.set(Wire::Whole);
            let (back, welcome) = wired.connect(&[&work]).await;
            agent = back;
            let [order] = &welcome.orders[..] else {
                panic!("one order: {:?}", welcome.orders);
            };
            assert_eq!(order.action(), Action::Adopt);
            let after = matches!(cut(COMMIT, 1), Wire::CutAfter(..));
            assert_eq!(order.sequence == sequence, after, "{order:?}");
            agent.send_report(report).await;
        }
        // So are two pieces of its log.
        let log = b"one two ";
        let mut durable = 0;
        for end in [4, 8] {
            wired.proxy.set(cut(COMMIT, 1));
            let refused = agent.log(&work, durable, &log[durable..end]).await;
            wired.proxy.set(Wire::Whole);
            refused.expect_err("nobody knows");
            let stored = agent.log(&work, durable, &log[durable..end]).await;
            assert_eq!(
                stored.expect("it is stored"),
                i64::try_from(end).expect("short")
            );
            durable = end;
        }
        // And its result.
        agent.after(sequence);
        let report = agent.completed(&work, log);
        wired.proxy.set(cut(COMMIT, 1));
        agent.say(Message::Report(report.clone())).await;
        while agent.try_hear().await.is_some() {}
        wired.proxy.set(Wire::Whole);
        let (back, welcome) = wired.connect(&[&work]).await;
        agent = back;
        match welcome.orders[0].action() {
            Action::Forget => {}
            Action::Adopt => agent.send_report(report).await,
            other => panic!("{other:?}"),
        }
        let done = wired.admin.finished(&made.name).await;
        assert_eq!((done.state(), done.attempts.len()), (State::Passed, 1));
        let (read, complete) = read_log(&mut wired.admin, &made.name, false).await;
        assert_eq!((read.as_slice(), complete), (&log[..], Some(true)));
        for kind in ["PREPARING", "RUNNING", "FINISHING", "PASSED"] {
            assert_eq!(wired.told(&made.name, kind).await, 1, "{kind}");
        }
    }
    wired.end().await;
}
