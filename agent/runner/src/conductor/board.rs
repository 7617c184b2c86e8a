//! What happened so far: a snapshot of all steps with a sequence that grows with every change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_proto::runner::v1::{Phase, Progress, StepState, StepStatus};
use muster_spec::plan::{Operation, Plan, Step};
use tokio::sync::watch;

use crate::clock::now_ms;

/// The snapshot.
pub(crate) struct Board {
    progress: Mutex<Progress>,
    sequence: watch::Sender<u64>,
}

impl Board {
    /// All steps of a plan, queued.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut steps = Vec::new();
        add(&mut steps, "", &plan.steps);
        let progress = Progress {
            sequence: 1,
            phase: Phase::Running.into(),
            steps,
            start_time_ms: now_ms(),
        };
        Self {
            progress: Mutex::new(progress),
            sequence: watch::Sender::new(1),
        }
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

    /// The steps are over.
    pub(crate) fn finish(&self) {
        let mut progress = self.lock();
        progress.phase = Phase::Finishing.into();
        self.touch(&mut progress);
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Progress {
        self.lock().clone()
    }

    /// Tells when the sequence grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    fn touch(&self, progress: &mut Progress) {
        progress.sequence += 1;
        self.sequence.send_replace(progress.sequence);
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
