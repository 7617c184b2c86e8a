//! What happened so far: a snapshot of all steps with a sequence that grows with every change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use muster_proto::runner::v1::{Phase, Progress, StepOutput, StepState, StepStatus};
use muster_spec::plan::{Operation, Plan, Step};
use tokio::sync::watch;

use super::mask::Secrets;
use crate::clock::now_ms;

/// The snapshot.
pub(crate) struct Board {
    progress: Mutex<Progress>,
    secrets: Arc<Secrets>,
    sequence: watch::Sender<u64>,
    /// Bytes of outputs that still fit in.
    room: AtomicUsize,
    /// How many operations wait for children.
    resting: AtomicUsize,
    /// Somebody asks the readiness probe.
    probed: AtomicBool,
    paused: Mutex<HashMap<String, i64>>,
}

/// As long as it lives, this run waits for children.
pub(crate) struct Rest<'a>(&'a Board);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if self.0.resting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.set_waiting(false);
        }
    }
}

impl Board {
    /// All steps of a plan, queued.
    pub(crate) fn new(plan: &Plan, secrets: Arc<Secrets>) -> Self {
        let mut steps = Vec::new();
        add(&mut steps, "", &plan.steps);
        let progress = Progress {
            sequence: 1,
            phase: Phase::Running.into(),
            steps,
            start_time_ms: now_ms(),
            waiting: false,
            ready: false,
            outputs: Vec::new(),
        };
        Self {
            progress: Mutex::new(progress),
            secrets,
            sequence: watch::Sender::new(1),
            room: AtomicUsize::new(ROOM),
            resting: AtomicUsize::new(0),
            probed: AtomicBool::new(false),
            paused: Mutex::default(),
        }
    }

    /// From now on nothing but children is waited for.
    pub(crate) fn rest(&self) -> Rest<'_> {
        if self.resting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.set_waiting(true);
        }
        Rest(self)
    }

    fn set_waiting(&self, waiting: bool) {
        let mut progress = self.lock();
        progress.waiting = waiting;
        self.touch(&mut progress);
    }

    /// This service is ready.
    pub(crate) fn ready(&self) {
        let mut progress = self.lock();
        if !progress.ready {
            progress.ready = true;
            self.touch(&mut progress);
        }
    }

    /// Whether it was said to be.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock().ready
    }

    /// Whether somebody asks the readiness probe already; from now on somebody does.
    pub(crate) fn is_probed(&self) -> bool {
        self.probed.swap(true, Ordering::Relaxed)
    }

    /// Changes the status of a step.
    pub(crate) fn update(&self, reference: &str, change: impl FnOnce(&mut StepStatus)) {
        let mut progress = self.lock();
        if let Some(step) = progress
            .steps
            .iter_mut()
            .find(|step| step.reference == reference)
        {
            change(step);
            shorten(step);
        }
        self.touch(&mut progress);
    }

    /// All that runs stands still.
    pub(crate) fn pause(&self) {
        let mut progress = self.lock();
        progress.phase = Phase::Paused.into();
        let now = now_ms();
        let mut since = self.paused_since();
        for step in &mut progress.steps {
            if step.state() == StepState::Running {
                step.state = StepState::Paused.into();
                since.insert(step.reference.clone(), now);
            }
        }
        self.touch(&mut progress);
    }

    /// All that stood still goes on.
    pub(crate) fn resume(&self) {
        let mut progress = self.lock();
        if progress.phase() == Phase::Paused {
            progress.phase = Phase::Running.into();
        }
        let now = now_ms();
        for (reference, since) in std::mem::take(&mut *self.paused_since()) {
            let steps = progress.steps.iter_mut();
            let Some(step) = { steps }.find(|step| step.reference == reference) else {
                continue;
            };
            step.paused_ms += u64::try_from(now - since).unwrap_or(0);
            // One that has ended meanwhile stays as it is.
            if step.state() == StepState::Paused {
                step.state = StepState::Running.into();
            }
        }
        self.touch(&mut progress);
    }

    /// Notes a value that a step gave out, in place of an older one of its name. Whether it is told
    /// on: all of them must fit into a frame beside the steps.
    pub(crate) fn output(&self, output: StepOutput) -> bool {
        let mut progress = self.lock();
        let known = progress
            .outputs
            .iter()
            .position(|one| one.name == output.name);
        let size = |one: &StepOutput| one.step.len() + one.name.len() + one.json.len();
        if let Some(index) = known {
            let older = progress.outputs.remove(index);
            self.room.fetch_add(size(&older), Ordering::Relaxed);
        }
        let told = self.take_room(size(&output));
        if told {
            progress.outputs.push(output);
        }
        self.touch(&mut progress);
        told
    }

    /// Notes the files that a step left as outputs, as far as they fit.
    pub(crate) fn outputs(&self, reference: &str, outputs: &BTreeMap<String, String>) {
        self.update(reference, |step| {
            let older: usize = step.outputs.drain().map(|(k, v)| k.len() + v.len()).sum();
            self.room.fetch_add(older, Ordering::Relaxed);
            let fitting = outputs.iter();
            let fitting = fitting.filter(|(name, value)| self.take_room(name.len() + value.len()));
            step.outputs
                .extend(fitting.map(|(name, value)| (name.clone(), value.clone())));
        });
    }

    fn take_room(&self, size: usize) -> bool {
        let left = |room: usize| room.checked_sub(size);
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        taken.is_ok()
    }

    /// The steps are over.
    pub(crate) fn finish(&self) {
        let mut progress = self.lock();
        progress.phase = Phase::Finishing.into();
        self.touch(&mut progress);
    }

    /// The newest snapshot, with secrets masked.
    pub(crate) fn snapshot(&self) -> Progress {
        let mut progress = self.lock().clone();
        self.secrets.progress(&mut progress);
        progress
    }

    /// Tells when the sequence grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    fn touch(&self, progress: &mut Progress) {
        progress.sequence += 1;
        self.sequence.send_replace(progress.sequence);
    }

    /// When each step began to stand still, milliseconds since the epoch.
    fn paused_since(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most bytes of all outputs together that are told on: a frame has 1 MiB, and the steps of the
/// largest plan need most of it.
const ROOM: usize = 128 << 10;
/// Longest name and longest message, so that a snapshot of all steps fits into a frame.
const LONGEST: (usize, usize) = (120, 500);

fn shorten(step: &mut StepStatus) {
    for (text, longest) in [
        (&mut step.display_name, LONGEST.0),
        (&mut step.message, LONGEST.1),
    ] {
        if text.len() > longest {
            text.truncate(text.floor_char_boundary(longest));
            text.push('…');
        }
    }
}

/// Adds steps in document order, children behind their parent.
fn add(all: &mut Vec<StepStatus>, parent: &str, steps: &[Step]) {
    for step in steps {
        let mut status = StepStatus {
            reference: step.reference.clone(),
            parent: parent.to_owned(),
            id: step.id.clone().unwrap_or_default(),
            display_name: step.name.clone(),
            state: StepState::Queued.into(),
            optional: step.optional,
            negative: step.negative,
            ..StepStatus::default()
        };
        shorten(&mut status);
        all.push(status);
        for operation in &step.operations {
            if let Operation::Steps { steps } = operation {
                add(all, &step.reference, steps);
            }
        }
    }
}
