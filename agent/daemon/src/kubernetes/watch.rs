//! One watch on the pods of a namespace, one on the events of Jobs whose pods are refused.
//!
//! A watch loses things; so what is expected is compared with what is there, again and again, and
//! a pod counts as gone only when the API server says so when asked for it.

mod absent;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Event as Happening, Pod};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use muster_core::id::AttemptId;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    Shared,
    create::{may_pass, refusal},
    job,
    status::{self, Limits, Notice, Tracker},
};
use crate::{attempt::Attempt, context::Context};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often what is missing is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Before all is listed again because a version was gone.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what a dead conductor has sent may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Most refusals that are kept until the first list is complete.
const MOST_EARLY: usize = 1000;

/// What is known of one attempt's pod.
struct Watched {
    tracker: Tracker,
    pod: Option<Pod>,
    seen: bool,
    looked: Instant,
    lost: bool,
    asked: bool,
}

impl Watched {
    fn new(now: Instant) -> Self {
        Self {
            tracker: Tracker::new(now),
            pod: None,
            seen: false,
            looked: now,
            lost: false,
            asked: false,
        }
    }
}

struct Watch {
    context: Arc<Context>,
    shared: Arc<Shared>,
    namespace: String,
    watched: BTreeMap<AttemptId, Watched>,
    /// The attempts of a list that is on its way.
    listed: BTreeSet<AttemptId>,
    /// A list was complete once.
    is_complete: bool,
    /// Refusals that came before: only with the list is it known whom they still concern.
    early: Vec<Happening>,
    /// What last interrupted a watch.
    trouble: String,
}

/// Watches one namespace.
pub(super) async fn run(context: Arc<Context>, shared: Arc<Shared>, namespace: String) {
    let of_pods = |after| pods(shared.api(&namespace), &shared.selector(), after);
    let of_happenings = |after| happenings(shared.api(&namespace), after);
    let mut pods = std::pin::pin!(of_pods(Duration::ZERO));
    let mut happenings = std::pin::pin!(of_happenings(Duration::ZERO));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        context,
        shared: Arc::clone(&shared),
        namespace: namespace.clone(),
        watched: BTreeMap::new(),
        listed: BTreeSet::new(),
        is_complete: false,
        early: Vec::new(),
        trouble: String::new(),
    };
    loop {
        tokio::select! {
            Some(event) = pods.next() => match event {
                Ok(event) => watch.pod_event(event),
                Err(error) => {
                    watch.interrupted("pods", &error);
                    if is_gone(&error) {
                        pods.set(of_pods(PAUSE));
                    }
                }
            },
            Some(event) = happenings.next() => match event {
                Ok(Event::Apply(happening) | Event::InitApply(happening)) => watch.refused(happening),
                Ok(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                Err(error) => {
                    watch.interrupted("events", &error);
                    if is_gone(&error) {
                        happenings.set(of_happenings(PAUSE));
                    }
                }
            },
            _ = ticks.tick() => watch.tick(),
        }
    }
}

fn pods(
    api: Api<Pod>,
    selector: &str,
    after: Duration,
) -> impl Stream<Item = watcher::Result<Event<Pod>>> + Send + use<> {
    let config = watcher::Config::default().labels(selector).page_size(200);
    let watch = move |()| {
        let watch = watcher(api.clone(), config.clone()).default_backoff();
        watch.modify(|pod| {
            // Statuses are all that counts; specs and history are most of the bytes.
            pod.metadata.managed_fields = None;
            pod.spec = None;
        })
    };
    stream::once(sleep(after)).flat_map(watch)
}

fn happenings(
    api: Api<Happening>,
    after: Duration,
) -> impl Stream<Item = watcher::Result<Event<Happening>>> + Send + use<> {
    let config = watcher::Config::default()
        .fields("involvedObject.kind=Job,reason=FailedCreate")
        .page_size(200);
    let watch = move |()| watcher(api.clone(), config.clone()).default_backoff();
    stream::once(sleep(after)).flat_map(watch)
}

/// Whether the API server answers that it has forgotten the version from which a watch wants to go
/// on. The watcher lists again when it hears so as an event of a watch; to this answer it only asks
/// again.
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

fn attempt_of(pod: &Pod) -> Option<AttemptId> {
    pod.metadata
        .labels
        .as_ref()?
        .get(job::ATTEMPT)?
        .parse()
        .ok()
}

impl Watch {
    fn pod_event(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(attempt_of(&pod));
                self.apply(pod);
            }
            Event::Apply(pod) => self.apply(pod),
            Event::Delete(pod) => {
                if let Some(id) = attempt_of(&pod) {
                    self.apply(pod);
                    self.forget_pod(id);
                }
            }
            Event::InitDone => {
                let missing: Vec<_> = self
                    .watched
                    .keys()
                    .filter(|id| !self.listed.contains(id))
                    .copied()
                    .collect();
                for id in missing {
                    self.forget_pod(id);
                }
                self.is_complete = true;
                for happening in std::mem::take(&mut self.early) {
                    self.happened(&happening);
                }
            }
        }
    }

    /// The pod seems to be gone: ask.
    fn forget_pod(&mut self, id: AttemptId) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.pod = None;
        }
        self.look_for(id);
    }

    fn apply(&mut self, pod: Pod) {
        let Some(id) = attempt_of(&pod) else { return };
        if self.context.attempts.get(id).is_none() {
            return;
        }
        let now = Instant::now();
        let watched = self.watched.entry(id).or_insert_with(|| Watched::new(now));
        let deleted = pod.metadata.deletion_timestamp.is_some();
        watched.pod = Some(pod);
        watched.seen = true;
        self.observe(id, now);
        if deleted {
            self.ask_why(id);
        }
    }

    /// The pod is being deleted: the cluster knows why.
    fn ask_why(&mut self, id: AttemptId) {
        let (Some(attempt), Some(watched)) =
            (self.context.attempts.get(id), self.watched.get_mut(&id))
        else {
            return;
        };
        if std::mem::replace(&mut watched.asked, true) {
            return;
        }
        let deletion = absent::Deletion {
            asked: watched.pod.as_ref().and_then(absent::deletion_asked),
            disruption: watched.tracker.disruption(),
        };
        self.context.spawn(absent::why(
            Arc::clone(&self.shared),
            self.namespace.clone(),
            attempt,
            deletion,
        ));
    }

    /// Tells the attempt what its pod's status means now.
    fn observe(&mut self, id: AttemptId, now: Instant) {
        let Some(attempt) = self.context.attempts.get(id) else {
            return;
        };
        let limits = Limits {
            image_pull: self.shared.settings.image_pull_deadline,
            start: self.shared.settings.start_deadline,
        };
        let Some(watched) = self.watched.get_mut(&id) else {
            return;
        };
        let Some(pod) = &watched.pod else { return };
        if let Some(address) = pod.status.as_ref().and_then(|told| told.pod_ip.as_deref()) {
            attempt.address(address);
        }
        if let Some(ready) = status::probed(pod, attempt.work().as_deref()) {
            attempt.ready(ready);
        }
        for notice in watched.tracker.observe(pod, now, limits) {
            match notice {
                Notice::Container(status) => attempt.container(status),
                Notice::Preparing { reason, message } => attempt.preparing(&reason, &message),
                // A conductor that still talks is not lost, whatever its node says.
                Notice::Lost { reason, .. } if reason == "NODE_LOST" && attempt.is_connected() => {}
                Notice::Lost { reason, .. }
                    if reason == "START_DEADLINE" && attempt.was_connected() => {}
                Notice::Lost { reason, message } => {
                    if !watched.lost {
                        watched.lost = true;
                        self.context
                            .spawn(lose(Arc::clone(&attempt), reason, message));
                    }
                }
            }
        }
    }

    /// A watch begins again by itself; what is new about that is said once.
    fn interrupted(&mut self, what: &str, error: &watcher::Error) {
        let trouble = format!("{what}: {error}");
        if trouble == self.trouble {
            tracing::debug!(
                namespace = self.namespace,
                trouble,
                "a watch is interrupted"
            );
        } else {
            tracing::warn!(
                namespace = self.namespace,
                trouble,
                "a watch is interrupted"
            );
            self.trouble = trouble;
        }
    }

    /// A pod was refused, now or long ago.
    fn refused(&mut self, happening: Happening) {
        if self.is_complete {
            self.happened(&happening);
        } else if self.early.len() < MOST_EARLY {
            self.early.push(happening);
        }
    }

    fn happened(&self, happening: &Happening) {
        let name = happening
            .involved_object
            .name
            .as_deref()
            .unwrap_or_default();
        let Some(attempt) = job::attempt_of(name).and_then(|id| self.context.attempts.get(id))
        else {
            return;
        };
        if self
            .watched
            .get(&attempt.id)
            .is_some_and(|watched| watched.seen)
        {
            return;
        }
        let message = happening.message.as_deref().unwrap_or_default();
        if message.contains("forbidden")
            || message.contains("denied")
            || message.contains("is invalid")
        {
            match refusal(403, message) {
                passing if may_pass(passing) => attempt.preparing(passing, message),
                reason => attempt.lost(reason, message),
            }
        } else {
            attempt.preparing("POD_NOT_CREATED", message);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.expect(now);
        let attempts = &self.context.attempts;
        self.watched
            .retain(|id, _| attempts.get(*id).is_some_and(|a| a.end().is_none()));
        let ids: Vec<_> = self.watched.keys().copied().collect();
        for id in ids {
            let Some(watched) = self.watched.get(&id) else {
                continue;
            };
            if watched.pod.is_some() {
                self.observe(id, now);
            } else if self.is_complete && now - watched.looked >= LOOK {
                self.look_for(id);
            }
        }
    }

    /// Every attempt with a Job in this namespace should have a pod.
    fn expect(&mut self, now: Instant) {
        let jobs = self.shared.jobs();
        for (id, namespace) in jobs.iter() {
            if *namespace == self.namespace && self.context.attempts.get(*id).is_some() {
                self.watched.entry(*id).or_insert_with(|| Watched::new(now));
            }
        }
    }

    /// Asks the API server what became of an attempt without a pod.
    fn look_for(&mut self, id: AttemptId) {
        let Some(attempt) = self.context.attempts.get(id) else {
            return;
        };
        let Some(watched) = self.watched.get_mut(&id) else {
            return;
        };
        watched.looked = Instant::now();
        let absence = absent::Absence {
            seen: watched.seen,
            since: watched.tracker.since(),
            disruption: watched.tracker.disruption(),
        };
        self.context.spawn(absent::look(
            Arc::clone(&self.shared),
            self.namespace.clone(),
            attempt,
            absence,
        ));
    }
}

/// The attempt is lost, unless its record is on its way.
async fn lose(attempt: Arc<Attempt>, reason: String, message: String) {
    attempt.hung_up(LAST_WORDS).await;
    attempt.lost(&reason, &message);
}
