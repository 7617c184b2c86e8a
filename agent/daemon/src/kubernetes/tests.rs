//! When a Job is made, and when its attempt has begun: against an API server that fails on demand.
//! Watches that break are in `watching`.

mod watching;

use std::{
    future::Future,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
};
use muster_core::id::{ExecutionId, SessionId};
use muster_proto::v1::Assignment;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    Config,
    backend::Backend,
    config::{Token, Trust},
    journal::Journal,
    lease::Leases,
};

const PATIENCE: Duration = Duration::from_secs(20);
const PLAN: &str = r#"{"version":1,"context":{},"env":[],"containers":[],"pod":{"activeDeadlineSeconds":null,"jobLabels":{},"jobAnnotations":{},"namespace":null,"spec":{}},"steps":[]}"#;

/// The API server of a cluster, as far as one attempt needs it.
struct Cluster {
    /// What was asked for, as `POST jobs`.
    calls: Mutex<Vec<String>>,
    /// The status of every answer that is not 200.
    status: AtomicU16,
    jobs: Mutex<BTreeMap<String, Value>>,
}

impl Cluster {
    fn fail(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Ordering::SeqCst);
    }

    fn count(&self, call: &str) -> usize {
        let calls = self.calls.lock().expect("no panic");
        calls.iter().filter(|made| *made == call).count()
    }

    async fn called(&self, call: &str, times: usize) {
        let end = Instant::now() + PATIENCE;
        while self.count(call) < times {
            assert!(Instant::now() < end, "no {call}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn answer(
    State(cluster): State<Arc<Cluster>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    let place = uri.path().split("/namespaces/tests/").nth(1).unwrap_or("");
    let (kind, name) = place.split_once('/').unwrap_or((place, ""));
    let call = format!("{method} {kind}");
    cluster.calls.lock().expect("no panic").push(call);
    let status = StatusCode::from_u16(cluster.status.load(Ordering::SeqCst)).expect("a status");
    let failed = |status: StatusCode| {
        let code = status.as_u16();
        let told = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "", "code": code});
        (status, told.to_string())
    };
    if status != StatusCode::OK {
        return failed(status);
    }
    let mut object: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut jobs = cluster.jobs.lock().expect("no panic");
    match (method, kind) {
        (Method::POST, "jobs") => {
            object["metadata"]["uid"] = "u".into();
            let name = object["metadata"]["name"].as_str().expect("a name");
            jobs.insert(name.to_owned(), object.clone());
            (StatusCode::CREATED, object.to_string())
        }
        (Method::GET, "jobs") => match jobs.get(name) {
            Some(job) => (StatusCode::OK, job.to_string()),
            None => failed(StatusCode::NOT_FOUND),
        },
        _ => (StatusCode::OK, object.to_string()),
    }
}

async fn cluster() -> (Arc<Cluster>, Client) {
    let cluster = Arc::new(Cluster {
        calls: Mutex::default(),
        status: AtomicU16::new(200),
        jobs: Mutex::default(),
    });
    let router = Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&cluster));
    let client = client_of(router).await;
    (cluster, client)
}

/// A client of an API server that answers like this.
async fn client_of(router: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let url = format!("http://{address}").parse().expect("a URL");
    let mut config = kube::Config::new(url);
    config.default_retry = false;
    Client::try_from(config).expect("good settings")
}

/// An agent with nothing to do, at the API server of this client.
fn context(client: Client) -> Context {
    let mut settings = config::Kubernetes::new(
        "tests",
        "runner:1",
        "10.0.0.1:8444",
        std::path::Path::new("/nowhere"),
    );
    settings.policy.level = config::PodSecurity::Baseline;
    let shared = Shared {
        client,
        settings: settings.clone(),
        key: AttemptKey::generate(),
        agent: AgentId::generate(),
        certificate: String::new(),
        registry: Registry::new(settings.registries.clone()).expect("good settings"),
        jobs: Mutex::default(),
    };
    let backend = Kubernetes {
        shared: Arc::new(shared),
    };
    Context {
        config: Config {
            servers: Vec::new(),
            token: Token::new("x"),
            trust: Trust::System,
            insecure: false,
            labels: BTreeMap::new(),
            capacity: 1,
            backend: config::Backend::Kubernetes(Box::new(settings)),
        },
        session: SessionId::generate(),
        attempts: Arc::default(),
        journal: Arc::new(Journal::volatile()),
        leases: Leases::new(),
        backend: Backend::Kubernetes(Box::new(backend)),
        uplink: watch::Sender::new(None),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}

struct Fixture {
    cluster: Arc<Cluster>,
    context: Arc<Context>,
    attempt: Arc<Attempt>,
    work: Arc<Work>,
}

impl Fixture {
    async fn new() -> Self {
        let (cluster, client) = cluster().await;
        let context = context(client);
        let (attempt, _) = context.attempts.add(AttemptId::generate(), 1, Past::None);
        attempt.assign(Assignment {
            attempt: attempt.id.to_string(),
            epoch: 1,
            execution: ExecutionId::generate().to_string(),
            project: "default".to_owned(),
            display_name: "smoke-1".to_owned(),
            plan: PLAN.into(),
            stop_after: None,
            max_log_bytes: 0,
            direct_upload_from_bytes: 0,
        });
        let work = attempt.work().expect("a plan");
        Self {
            cluster,
            context: Arc::new(context),
            attempt,
            work,
        }
    }

    async fn start(&self) -> Result<(), Denied> {
        let start = self
            .context
            .backend
            .start(&self.context, &self.attempt, &self.work);
        timeout(PATIENCE, start).await.expect("it ends in time")
    }

    /// Starts it, and does something meanwhile.
    async fn start_while(&self, meanwhile: impl Future<Output = ()>) -> Result<(), Denied> {
        tokio::join!(self.start(), meanwhile).0
    }

    fn has_begun(&self) -> bool {
        self.context.journal.entries().iter().any(|e| e.begun)
    }
}

#[tokio::test]
async fn nothing_has_begun_while_the_api_server_can_not_be_reached() {
    let fixture = Fixture::new().await;
    let cluster = &fixture.cluster;
    fixture.attempt.prove(Instant::now());
    cluster.fail(StatusCode::SERVICE_UNAVAILABLE);
    let meanwhile = async {
        cluster.called("POST secrets", 2).await;
        assert!(!fixture.has_begun());
        cluster.fail(StatusCode::OK);
    };
    fixture.start_while(meanwhile).await.expect("it is allowed");
    assert!(fixture.has_begun());
    assert_eq!(cluster.count("POST jobs"), 1);
}

#[tokio::test]
async fn a_job_waits_for_a_sure_lease() {
    let fixture = Fixture::new().await;
    let cluster = &fixture.cluster;
    let meanwhile = async {
        cluster.called("POST secrets", 1).await;
        let long_ago = Instant::now().checked_sub(Duration::from_mins(1));
        fixture.attempt.prove(long_ago.expect("a time"));
        assert!(!fixture.has_begun());
        fixture.attempt.prove(Instant::now());
    };
    fixture.start_while(meanwhile).await.expect("it is allowed");
    assert_eq!(cluster.count("POST jobs"), 1);
}

#[tokio::test]
async fn a_process_that_was_superseded_makes_no_job_that_it_was_about_to_make() {
    let fixture = Fixture::new().await;
    let cluster = &fixture.cluster;
    let meanwhile = async {
        cluster.called("POST secrets", 1).await;
        fixture.context.leases.close();
        fixture.attempt.prove(Instant::now());
    };
    fixture.start_while(meanwhile).await.expect("no refusal");
    assert_eq!(cluster.count("POST jobs"), 0);
    assert!(!fixture.has_begun());
}

#[tokio::test]
async fn an_attempt_that_an_earlier_process_has_begun_gets_no_second_job() {
    let fixture = Fixture::new().await;
    let entry = fixture.attempt.entry();
    fixture.context.journal.found(entry).expect("it is written");
    fixture.attempt.prove(Instant::now());
    let denied = fixture.start().await.expect_err("it has begun before");
    assert_eq!(denied.reason, "POD_GONE");
    assert_eq!(fixture.cluster.count("POST jobs"), 0);
}

#[tokio::test]
async fn only_an_answer_says_that_a_job_is_gone() {
    let fixture = Fixture::new().await;
    let (backend, id) = (&fixture.context.backend, fixture.attempt.id);
    assert!(!backend.has(id).await.expect("an answer"));
    fixture.cluster.fail(StatusCode::TOO_MANY_REQUESTS);
    assert!(backend.has(id).await.is_err());
    fixture.cluster.fail(StatusCode::OK);
    fixture.attempt.prove(Instant::now());
    fixture.start().await.expect("it is allowed");
    assert!(backend.has(id).await.expect("an answer"));
}
