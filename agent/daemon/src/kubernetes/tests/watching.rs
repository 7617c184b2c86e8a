//! The watch on pods that breaks, against an API server that a test plays: it ends streams, has
//! forgotten the versions that a watch wants to go on from (410 Gone, as an answer and as an event),
//! and lists too little.

use std::convert::Infallible;

use axum::{body::Body, extract::RawQuery, http::Response};
use muster_proto::v1::attempt_report::Phase;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};

use super::*;

/// How an API server says that it has forgotten a version.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gone {
    /// As the answer to the watch.
    Answer,
    /// As an event of the watch, and the watch ends.
    Event,
}

/// The pods of a namespace, with all that is told of them.
#[derive(Default)]
struct Pods {
    version: u64,
    /// Watches that begin below can not.
    oldest: u64,
    pods: BTreeMap<AttemptId, Value>,
    history: Vec<(u64, Value)>,
    watches: Vec<mpsc::UnboundedSender<Value>>,
    /// Not in the next whole list.
    hidden: Option<AttemptId>,
    lists: usize,
    gones: usize,
}

struct ApiServer {
    state: Mutex<Pods>,
    gone: Gone,
}

impl Pods {
    fn tell(&mut self, kind: &str, id: AttemptId, status: Value) {
        self.version += 1;
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": format!("pod-{id}"),
                "uid": format!("uid-{id}"),
                "resourceVersion": self.version.to_string(),
                "labels": {job::ATTEMPT: id.to_string()},
            },
            "status": status,
        });
        match kind {
            "DELETED" => self.pods.remove(&id),
            _ => self.pods.insert(id, object.clone()),
        };
        let event = json!({"type": kind, "object": object});
        self.history.push((self.version, event.clone()));
        self.watches
            .retain(|watch| watch.send(event.clone()).is_ok());
    }

    /// All watches break, and the history is forgotten.
    fn break_watches(&mut self, gone: Gone) {
        if gone == Gone::Event {
            let event = json!({"type": "ERROR", "object": expired()});
            for watch in &self.watches {
                watch.send(event.clone()).ok();
            }
        }
        self.watches.clear();
    }

    fn forget(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        self.history.clear();
    }
}

fn expired() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410,
    })
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    answer
        .body(Body::from(value.to_string()))
        .expect("an answer")
}

async fn serve(
    State(server): State<Arc<ApiServer>>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    let is_watch = matches!(parameter(&query, "watch"), Some("1" | "true"));
    let mut pods = server.state.lock().expect("no panic");
    if uri.path().contains("/jobs/") {
        let missing = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "NotFound", "code": 404});
        return json_answer(StatusCode::NOT_FOUND, &missing);
    }
    if !uri.path().ends_with("/pods") {
        // No events of Jobs, now or later.
        if is_watch {
            let (sender, receiver) = mpsc::unbounded_channel();
            pods.watches.push(sender);
            return stream(receiver);
        }
        let list = json!({"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        return json_answer(StatusCode::OK, &list);
    }
    if is_watch {
        let from = parameter(&query, "resourceVersion").and_then(|from| from.parse().ok());
        let from: u64 = from.unwrap_or(0);
        if from < pods.oldest {
            pods.gones += 1;
            if server.gone == Gone::Answer {
                return json_answer(StatusCode::GONE, &expired());
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            sender
                .send(json!({"type": "ERROR", "object": expired()}))
                .ok();
            return stream(receiver);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        for (version, event) in &pods.history {
            if *version > from {
                sender.send(event.clone()).ok();
            }
        }
        pods.watches.push(sender);
        return stream(receiver);
    }
    // Who asks for one is told of that one; who asks for all may be told too little.
    let wanted = parameter(&query, "labelSelector").unwrap_or_default();
    let one = pods
        .pods
        .keys()
        .find(|id| wanted.contains(&id.to_string()))
        .copied();
    let all = !wanted.contains(job::ATTEMPT.rsplit('/').next().unwrap_or_default());
    let hidden = match all {
        true => {
            pods.lists += 1;
            pods.hidden.take()
        }
        false => None,
    };
    let items: Vec<&Value> = pods
        .pods
        .iter()
        .filter(|(id, _)| {
            if all {
                Some(**id) != hidden
            } else {
                Some(**id) == one
            }
        })
        .map(|(_, pod)| pod)
        .collect();
    let list = json!({
        "kind": "PodList", "apiVersion": "v1",
        "metadata": {"resourceVersion": pods.version.to_string()},
        "items": items,
    });
    json_answer(StatusCode::OK, &list)
}

fn stream(events: mpsc::UnboundedReceiver<Value>) -> Response<Body> {
    let lines = UnboundedReceiverStream::new(events);
    let lines = lines.map(|event| Ok::<_, Infallible>(format!("{event}\n")));
    let answer = Response::builder().header("content-type", "application/json");
    answer.body(Body::from_stream(lines)).expect("an answer")
}

/// The status of a pod that waits for a node, in these words.
fn waiting(words: &str) -> Value {
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words,
    });
    json!({"phase": "Pending", "conditions": [condition]})
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn nothing_is_missed(gone: Gone) {
    let server = Arc::new(ApiServer {
        state: Mutex::default(),
        gone,
    });
    let router = Router::new()
        .fallback(serve)
        .with_state(Arc::clone(&server));
    let context = Arc::new(context(client_of(router).await));
    let Backend::Kubernetes(backend) = &context.backend else {
        panic!("the backend of Kubernetes");
    };
    let shared = Arc::clone(&backend.shared);
    let attempts: Vec<_> = (0..4)
        .map(|_| context.attempts.add(AttemptId::generate(), 1, Past::None).0)
        .collect();
    let [evicted, deleted, going, hidden] = &attempts[..] else {
        panic!("four attempts");
    };
    let change = |kind: &str, attempt: &Attempt, status: Value| {
        let mut pods = server.state.lock().expect("no panic");
        pods.tell(kind, attempt.id, status);
    };
    for attempt in &attempts {
        shared.jobs().insert(attempt.id, "tests".to_owned());
        change("ADDED", attempt, waiting("word 1"));
    }
    let watching = super::super::watch::run(Arc::clone(&context), shared, "tests".to_owned());
    let watching = tokio::spawn(watching);
    let words = |attempt: &Attempt| attempt.report().map(|report| report.message);
    for attempt in &attempts {
        let told = || words(attempt).as_deref() == Some("word 1");
        eventually("the first list is told", told).await;
    }
    change("MODIFIED", going, waiting("word 2"));
    let told = || words(going).as_deref() == Some("word 2");
    eventually("the watch tells changes", told).await;

    // Whatever happens while no watch is there is in no event that comes later.
    {
        let mut pods = server.state.lock().expect("no panic");
        pods.break_watches(gone);
        let status = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
        pods.tell("MODIFIED", evicted.id, status);
        pods.tell("DELETED", deleted.id, waiting("word 1"));
        pods.tell("MODIFIED", going.id, waiting("word 3"));
        pods.forget();
        pods.hidden = Some(hidden.id);
    }
    let lost = |attempt: &Attempt| {
        let report = attempt.report()?;
        (report.phase() == Phase::Lost).then_some(report.reason)
    };
    eventually("an eviction is seen", || {
        lost(evicted).as_deref() == Some("EVICTED")
    })
    .await;
    eventually("a deletion is seen", || {
        lost(deleted).as_deref() == Some("POD_DELETED")
    })
    .await;
    let told = || words(going).as_deref() == Some("word 3");
    eventually("what runs is seen as it is now", told).await;
    {
        let pods = server.state.lock().expect("no panic");
        assert!(pods.lists >= 2, "it has listed again");
        assert!(pods.hidden.is_none(), "a list was short");
        assert!(gone == Gone::Event || pods.gones > 0, "versions were gone");
    }
    // The new watch tells changes as the first one did.
    change("MODIFIED", going, waiting("word 4"));
    let told = || words(going).as_deref() == Some("word 4");
    eventually("the next watch tells changes", told).await;
    assert_eq!(lost(going), None);
    assert_eq!(lost(hidden), None, "one short list is no proof");
    watching.abort();
}

#[tokio::test]
async fn a_watch_whose_version_is_gone_lists_again_and_misses_nothing() {
    nothing_is_missed(Gone::Answer).await;
}

#[tokio::test]
async fn a_watch_that_is_told_in_the_middle_that_its_version_is_gone_misses_nothing() {
    nothing_is_missed(Gone::Event).await;
}
