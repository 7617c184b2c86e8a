//! A fresh database for each test, and short ways to fill it.

use std::{collections::BTreeMap, future::Future, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use muster_core::{
    clock::Clock,
    execution::{Lease, Phase},
    id::{AgentId, ProjectId, TokenId},
    policy::Policy,
};
use muster_storage::{
    Options, Request, Store,
    agent::NewAgent,
    execution::{Execution, Identity, NewExecution, StepResult, StepState, Target},
    project, work,
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

/// Runs each of the named behaviours on every database.
macro_rules! on_every_database {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::fixture::on_sqlite(super::$name).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::fixture::on_postgres(super::$name).await;
                }
            )+
        }
    };
}

/// A database of one test.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) project: ProjectId,
}

pub(crate) async fn on_sqlite<F, Fut>(behaviour: F)
where
    F: FnOnce(Database) -> Fut,
    Fut: Future<Output = ()>,
{
    let folder = tempfile::tempdir().expect("a temporary directory");
    let url = format!("sqlite://{}", folder.path().join("muster.db").display());
    behaviour(Database::open(url).await).await;
}

pub(crate) async fn on_postgres<F, Fut>(behaviour: F)
where
    F: FnOnce(Database) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Some(server) = server("MUSTER_TEST_POSTGRES") else {
        return;
    };
    let name = format!("muster_test_{}", Uuid::now_v7().simple());
    admin(&server, &format!("CREATE DATABASE {name}")).await;
    let database = Database::open(with_database(&server, &name)).await;
    // In a task of its own, so that the database is dropped after a failure too.
    let result = tokio::spawn(behaviour(database)).await;
    admin(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    if let Err(error) = result {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The value of a variable that names a server, or `None` with a word about it.
pub(crate) fn server(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if value.is_none() {
        let required = std::env::var("MUSTER_TEST_REQUIRE_SERVERS").is_ok_and(|on| on == "1");
        assert!(!required, "{variable} is not set, but servers are required");
        eprintln!("skipped: {variable} is not set");
    }
    value
}

async fn admin(server: &str, statement: &str) {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL");
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .expect("the statement works");
    connection.close().await.expect("the connection closes");
}

/// The URL of another database on the same server.
fn with_database(server: &str, name: &str) -> String {
    let (address, query) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = address.split_once("://").expect("a URL");
    let host = rest.split('/').next().expect("a host");
    format!("{scheme}://{host}/{name}?{query}")
}

impl Database {
    async fn open(url: String) -> Self {
        let clock = Clock::manual("2026-11-23T12:00:00Z".parse().expect("a time"));
        let store = connect(&url, &clock).await;
        let project = store
            .projects()
            .find(project::DEFAULT)
            .await
            .expect("the default project")
            .id;
        Self {
            url,
            store,
            clock,
            project,
        }
    }

    /// Does what no server does, past the store.
    pub(crate) async fn execute(&self, statement: &str) {
        let statement = AssertSqlSafe(statement.to_owned());
        if self.url.starts_with("sqlite:") {
            let mut db = SqliteConnection::connect(&self.url).await.expect("SQLite");
            db.execute(statement).await.expect("the statement works");
            db.close().await.expect("it closes");
        } else {
            let mut db = PgConnection::connect(&self.url).await.expect("PostgreSQL");
            db.execute(statement).await.expect("the statement works");
            db.close().await.expect("it closes");
        }
    }

    /// Counts what no part of the store counts.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        if self.url.starts_with("sqlite:") {
            let mut db = SqliteConnection::connect(&self.url).await.expect("SQLite");
            let count = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
                .fetch_one(&mut db)
                .await
                .expect("a number");
            db.close().await.expect("it closes");
            count
        } else {
            let mut db = PgConnection::connect(&self.url).await.expect("PostgreSQL");
            let count = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
                .fetch_one(&mut db)
                .await
                .expect("a number");
            db.close().await.expect("it closes");
            count
        }
    }

    /// The same for what the database may refuse; what it says then.
    pub(crate) async fn try_execute(&self, statement: &str) -> Result<(), String> {
        let statement = AssertSqlSafe(statement.to_owned());
        let done = if self.url.starts_with("sqlite:") {
            let mut db = SqliteConnection::connect(&self.url).await.expect("SQLite");
            db.execute(statement).await.map(drop)
        } else {
            let mut db = PgConnection::connect(&self.url).await.expect("PostgreSQL");
            db.execute(statement).await.map(drop)
        };
        done.map_err(|error| error.to_string())
    }

    /// Another server on the same database.
    pub(crate) async fn another_store(&self) -> Store {
        connect(&self.url, &self.clock).await
    }

    pub(crate) async fn new_project(&self, name: &str) -> ProjectId {
        let new = project::NewProject {
            name: name.to_owned(),
            display_name: name.to_owned(),
        };
        let written = self.store.projects().create(&new, None).await;
        written.expect("a new project").value.id
    }

    pub(crate) async fn new_agent(&self, name: &str) -> AgentId {
        let mut token_hash = [0; 32];
        token_hash[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        let new = NewAgent {
            id: AgentId::generate(),
            name: name.to_owned(),
            token_hash,
            labels: BTreeMap::new(),
            projects: Vec::new(),
        };
        let written = self.store.agents().create(&new, None).await;
        written.expect("a new agent").value.id
    }

    pub(crate) async fn submit(&self, workflow: &str) -> Execution {
        self.submit_with(workflow, |_| {}).await
    }

    /// Submits to any project.
    pub(crate) async fn submit_to(&self, project: ProjectId, workflow: &str) -> Execution {
        let executions = self.store.executions(project);
        let identity = executions.reserve(workflow).await.expect("a number");
        let written = executions.create(new_execution(identity), None).await;
        written.expect("a new execution").value
    }

    pub(crate) async fn submit_with(
        &self,
        workflow: &str,
        change: impl FnOnce(&mut NewExecution),
    ) -> Execution {
        let executions = self.store.executions(self.project);
        let identity = executions.reserve(workflow).await.expect("a number");
        let mut new = new_execution(identity);
        change(&mut new);
        let written = executions.create(new, None).await;
        written.expect("a new execution").value
    }

    pub(crate) fn in_seconds(&self, seconds: i64) -> Timestamp {
        self.clock.now() + jiff::SignedDuration::from_secs(seconds)
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// What an agent without labels asks for; leases last 30 seconds.
    pub(crate) fn claim(&self, limit: u32) -> work::Claim {
        work::Claim {
            labels: BTreeMap::new(),
            projects: Vec::new(),
            limit,
            lease_expire_time: self.in_seconds(30),
        }
    }

    /// Claims exactly one execution.
    pub(crate) async fn claim_one(&self, agent: AgentId) -> work::Assignment {
        let claimed = self.store.agent(agent).claim(&self.claim(1)).await;
        let mut claimed = claimed.expect("a claim");
        assert_eq!(claimed.len(), 1, "one execution is claimed");
        claimed.remove(0)
    }

    /// Submits one execution and claims it with a new agent.
    pub(crate) async fn running(&self) -> (AgentId, work::Assignment) {
        self.running_under(Policy::default()).await
    }

    /// The same under a policy.
    pub(crate) async fn running_under(&self, policy: Policy) -> (AgentId, work::Assignment) {
        let agent = self.new_agent("runner").await;
        self.submit_with("smoke", |new| new.policy = policy).await;
        let assignment = self.claim_one(agent).await;
        (agent, assignment)
    }
}

async fn connect(url: &str, clock: &Clock) -> Store {
    let options = Options {
        clock: clock.clone(),
        max_connections: 8,
        ..Options::default()
    };
    Store::connect(url, &options).await.expect("a database")
}

pub(crate) fn new_execution(identity: Identity) -> NewExecution {
    NewExecution {
        identity,
        workflow_revision: 0,
        tags: BTreeMap::new(),
        labels: BTreeMap::new(),
        config: BTreeMap::new(),
        target: Target::default(),
        warnings: Vec::new(),
        priority: 0,
        creator: "tester".to_owned(),
        queue_deadline: None,
        plan: Bytes::from_static(b"{\"version\":1}"),
        steps: vec![step("s1", StepState::Queued), step("s2", StepState::Queued)],
        origin: None,
        policy: Policy::default(),
        concurrency: None,
        source: None,
        resolved: Some("kind: TestWorkflow\n".to_owned()),
        rerun: None,
    }
}

pub(crate) fn step(reference: &str, state: StepState) -> StepResult {
    StepResult {
        reference: reference.to_owned(),
        parent: String::new(),
        id: String::new(),
        display_name: reference.to_uppercase(),
        state,
        exit_code: None,
        reason: String::new(),
        message: String::new(),
        start_time: None,
        finish_time: None,
        tries: 0,
        optional: false,
        negative: false,
        paused_ms: 0,
        outputs: BTreeMap::new(),
    }
}

pub(crate) fn report(lease: Lease, sequence: i64, progress: work::Progress) -> work::Report {
    work::Report {
        lease,
        sequence,
        progress,
        reason: String::new(),
        message: String::new(),
        steps: Vec::new(),
        outputs: Vec::new(),
        start_time: None,
        warnings: Vec::new(),
        address: String::new(),
        ready: false,
        log: None,
    }
}

pub(crate) fn at(lease: Lease, sequence: i64, phase: Phase) -> work::Report {
    report(lease, sequence, work::Progress::At(phase))
}

pub(crate) fn request(method: &'static str, content: u8) -> Request {
    Request {
        caller: TokenId::generate(),
        method,
        id: Some(Uuid::new_v4()),
        hash: [content; 32],
        note: None,
    }
}

/// Nothing is tried again.
pub(crate) fn once() -> Policy {
    Policy {
        infrastructure_retries: Some(0),
        ..Policy::default()
    }
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}
