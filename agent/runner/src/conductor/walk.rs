//! Walking the plan: conditions, tries, timeouts, nesting, and what it all comes to.

mod pardon;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    future::Future,
    io::Read as _,
    path::Path,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use muster_proto::runner::v1::{Outcome, StepState, StepStatus};
use muster_spec::{
    duration,
    plan::{Operation, Step},
};
use rustix::fs::{Mode, OFlags, fchmod, openat};

use super::{
    Run,
    children::{Started, never_starts},
    halt::{Cancel, Cause, Halt, Limits},
    operation::{At, BROKEN, Failure, Kind},
    scope::{self, Known, RESULTS, Results, Services, Sight, results_of},
    surroundings::Surroundings,
};
use crate::{
    beneath,
    clock::{file_now_ms, now_ms},
};
use pardon::{Pardon, Tried};

/// Where a step leaves its outputs, and the longest one that counts, in bytes.
const OUTPUTS: (&str, u64) = ("/testkube/outputs", 4096);

/// Reason of a step that passed although tests of it failed.
const QUARANTINED: &str = "QUARANTINED";

/// Most outputs of a step.
const MOST_OUTPUTS: usize = 1000;

/// What the run came to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Walks the whole plan.
pub(super) async fn walk(run: Rc<Run>, halt: Halt) -> Ended {
    let walk = Walk {
        context: Rc::new(scope::context(&run.plan, &run.options.namespace())),
        results: Rc::default(),
        services: Rc::default(),
        lasting: RefCell::default(),
        first_failure: RefCell::default(),
        last_failure: RefCell::default(),
        told: Cell::new(false),
        began: Cell::new(i64::MAX),
        collected: RefCell::default(),
        run: Rc::clone(&run),
    };
    if let Err(error) = make_outputs(&run) {
        let text = format!("{} can not be made: {error}", OUTPUTS.0);
        run.spool.remark("", &text).await;
    }
    let verdict = walk
        .steps(&run.plan.steps, true, &Limits::new(halt.clone()))
        .await;
    stop_services(&run, walk.lasting.take()).await;
    let canceled_by = halt
        .canceled()
        .filter(|cancel| verdict != Verdict::Passed || !walk.is_too_late(cancel));
    if let Some(cancel) = canceled_by {
        // What went wrong before it was ready says nothing of its end.
        let why = walk.last_failure.take().filter(|_| !run.board.is_ready());
        return canceled(cancel, why);
    }
    if verdict == Verdict::Passed {
        return Ended {
            outcome: Outcome::Passed,
            reason: String::new(),
            message: String::new(),
        };
    }
    Ended {
        outcome: Outcome::Failed,
        reason: verdict.reason().to_owned(),
        message: walk.first_failure.take().unwrap_or_default(),
    }
}

/// What a run comes to that was told to end. `last` is the newest failure of something that is tried
/// again and again.
fn canceled(cancel: Cancel, last: Option<String>) -> Ended {
    let (outcome, reason, message) = match (cancel.outcome, last) {
        // A service that never was ready.
        (Outcome::Failed, Some(why)) => {
            let message = format!("it was never ready: {why}");
            (Outcome::Failed, "NOT_READY", message)
        }
        (Outcome::Failed, None) => {
            let message = "stopped before it was ready".to_owned();
            (Outcome::Canceled, "CANCELED", message)
        }
        (Outcome::Aborted, _) => (Outcome::Aborted, "STOPPED", cancel.message),
        (Outcome::TimedOut, _) => (Outcome::TimedOut, "DEADLINE", cancel.message),
        (Outcome::Passed, _) => (Outcome::Passed, "NOT_NEEDED", cancel.message),
        (outcome, _) => (outcome, "CANCELED", cancel.message),
    };
    Ended {
        outcome,
        reason: reason.to_owned(),
        message,
    }
}

/// Makes the folder for outputs; steps of every user write there.
fn make_outputs(run: &Run) -> std::io::Result<()> {
    make_open(run, OUTPUTS.0)?;
    make_open(run, RESULTS)
}

/// Makes a folder in which steps of every user may write.
fn make_open(run: &Run, path: &str) -> std::io::Result<()> {
    let shared = run.volumes.shared(Path::new(path));
    let (folder, rest) = shared.ok_or(std::io::ErrorKind::InvalidInput)?;
    let folder = beneath::folder(&folder, &rest)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(&folder, ".", flags, Mode::empty())?;
    Ok(fchmod(&folder, Mode::from_raw_mode(0o777))?)
}

/// What steps came to, all that count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passed,
    /// What was tested failed.
    Failed,
    /// Something failed that is around the test: a program that is missing, a pod that is gone.
    Broken,
}

impl Verdict {
    fn of(result: &Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(failure) if is_of_the_test(failure) => Self::Failed,
            Err(_) => Self::Broken,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Passed | Self::Failed => "STEP_FAILED",
            Self::Broken => BROKEN,
        }
    }
}

struct Walk {
    run: Rc<Run>,
    context: Rc<BTreeMap<String, serde_json::Value>>,
    results: Rc<Results>,
    services: Rc<Services>,
    /// Services that live as long as the workflow.
    lasting: RefCell<Vec<Started>>,
    /// The first step that failed and counts, in words.
    first_failure: RefCell<Option<String>>,
    /// The newest failure behind which something was tried again, in words.
    last_failure: RefCell<Option<String>>,
    /// A step was told of a cancel, and may have done something else for it.
    told: Cell<bool>,
    /// When the newest process began, by the clock of files.
    began: Cell<i64>,
    /// Paths that each step has collected in all its tries, by reference.
    collected: RefCell<HashMap<String, HashSet<String>>>,
}

impl Walk {
    /// Whether a stop from outside came when all steps had been done, and nothing but artifacts was
    /// left: it changes nothing. One who cancels a run is told that it is canceled.
    fn is_too_late(&self, cancel: &Cancel) -> bool {
        cancel.outcome == Outcome::Aborted && !self.told.get()
    }

    /// Walks the steps of one group, in which `passed` is about these steps alone. Returns
    /// what those that count came to.
    fn steps<'a>(
        &'a self,
        steps: &'a [Step],
        passed: bool,
        limits: &'a Limits,
    ) -> Pin<Box<dyn Future<Output = Verdict> + 'a>> {
        Box::pin(async move {
            let mut verdict = Verdict::Passed;
            for step in steps {
                let limits = if only_keeps(step) {
                    limits.for_artifacts()
                } else if step.after {
                    limits.surviving_cancel()
                } else {
                    limits.clone()
                };
                // A cancel is a failure for conditions, so that `after` steps can tell.
                let canceled = limits.is_canceled();
                self.told.set(self.told.get() || canceled);
                let passed = passed && verdict == Verdict::Passed && !canceled;
                verdict = verdict.max(self.step(step, passed, &limits).await);
            }
            verdict
        })
    }

    /// Walks one step. Returns what it means for the group around it.
    async fn step(&self, step: &Step, passed: bool, limits: &Limits) -> Verdict {
        let reference = step.reference.as_str();
        limits.unpaused().await;
        if let Some(cause) = limits.cause() {
            let failure = Failure::stopped(&cause, reference);
            let state = match failure.kind {
                Kind::TimedOut => StepState::Skipped,
                _ => state(failure.kind),
            };
            self.mark(step, state, &failure);
            return Verdict::Broken;
        }
        let sight = self.sight(step, passed, None);
        let at = At {
            run: &self.run,
            sight: &sight,
            step: reference,
            limits,
        };
        let name = name(&at, step).await;
        match condition(&at, step, &step.condition).await {
            Ok(true) => {}
            Ok(false) => {
                let why = format!("its condition is false: {}", step.condition);
                self.mark(step, StepState::Skipped, &Failure::new("CONDITION", why));
                self.know(step, "skipped", None, false);
                return Verdict::Passed;
            }
            Err(failure) => {
                self.begin(step, &name);
                return self.finish(step, &name, 1, Tried::failed(failure)).await;
            }
        }
        self.begin(step, &name);
        if step.paused
            && let Some(cause) = self.hold(step, limits).await
        {
            let stopped = Failure::stopped(&cause, &step.reference);
            return self.finish(step, &name, 1, Tried::failed(stopped)).await;
        }
        let (tries, mut tried) = self.tries(step, passed, limits).await;
        // Of the steps in a group each tells for itself.
        let does =
            |one: &Operation| !matches!(one, Operation::Steps { .. } | Operation::Artifacts(_));
        if limits.is_canceled() && step.operations.iter().any(does) {
            self.told.set(true);
        }
        if !tried.kept {
            tried.result = self.artifacts(step, &sight, limits, tried.result).await;
        }
        self.finish(step, &name, tries, tried).await
    }

    /// A step that begins paused waits for somebody; a slot of the agent it does not take. Returns
    /// why it has to end, if so.
    async fn hold(&self, step: &Step, limits: &Limits) -> Option<Cause> {
        let name = match self.run.name.as_str() {
            "" => "EXECUTION",
            name => name,
        };
        let text = format!("paused; `muster resume {name}` lets it go on");
        self.run.spool.remark(&step.reference, &text).await;
        let _resting = self.run.board.rest();
        limits.pause().hold();
        limits.unpaused().await;
        limits.cause()
    }

    /// Tries a step as often as it may be tried.
    async fn tries(&self, step: &Step, passed: bool, limits: &Limits) -> (u32, Tried) {
        let mut tries = 1;
        loop {
            let result = invert(step.negative, self.once(step, passed, limits).await);
            let sight = self.sight(step, passed, None);
            let tried = self.judge(step, &sight, limits, result).await;
            let Some(retry) = &step.retry else {
                return (tries, tried);
            };
            let result = &tried.result;
            let is_hopeless = result.as_ref().is_err_and(|failure| {
                (retry.backoff && HOPELESS.contains(&failure.reason.as_str()))
                    || never_starts(&self.run, tries)
            });
            if tries > retry.count || limits.cause().is_some() || is_hopeless {
                return (tries, tried);
            }
            let own = status(result);
            // What this try gave out may decide.
            self.know(step, own, tried.exit_code(), true);
            let sight = self.sight(step, result.is_ok(), Some(own));
            let at = At {
                run: &self.run,
                sight: &sight,
                step: &step.reference,
                limits,
            };
            match condition(&at, step, &retry.until).await {
                Ok(true) => return (tries, tried),
                Ok(false) => {}
                Err(failure) => return (tries, Tried::failed(failure)),
            }
            tries += 1;
            self.tell_failure(step, result);
            if retry.backoff {
                tokio::select! {
                    () = tokio::time::sleep(backoff(tries)) => {}
                    _ = limits.reached() => {}
                }
            }
            let text = format!("try {tries} of {}", retry.count + 1);
            self.run.spool.remark(&step.reference, &text).await;
            self.run
                .board
                .update(&step.reference, |status| status.tries = tries);
        }
    }

    /// Tells why a step is tried again, until it is known what it comes to.
    fn tell_failure(&self, step: &Step, result: &Result<(), Failure>) {
        let Err(failure) = result else { return };
        self.last_failure.replace(Some(failure.message.clone()));
        self.run.board.update(&step.reference, |status| {
            status.reason.clone_from(&failure.reason);
            status.message.clone_from(&failure.message);
        });
    }

    /// One try, within the timeout of the step: each try has all of it.
    async fn once(&self, step: &Step, passed: bool, limits: &Limits) -> Result<(), Failure> {
        let sight = self.sight(step, passed, None);
        let at = At {
            run: &self.run,
            sight: &sight,
            step: &step.reference,
            limits,
        };
        let limits = timeout(&at, step).await?;
        self.began.set(i64::MAX);
        self.operations(step, passed, &limits).await
    }

    /// All operations but artifacts, until one fails.
    async fn operations(&self, step: &Step, passed: bool, limits: &Limits) -> Result<(), Failure> {
        let mut result = Ok(());
        let sight = self.sight(step, passed, None);
        let at = At {
            run: &self.run,
            sight: &sight,
            step: &step.reference,
            limits,
        };
        let mut started = Vec::new();
        for (index, operation) in step.operations.iter().enumerate() {
            if let Operation::Steps { steps } = operation {
                // Nested steps are walked even after a failure: their conditions decide.
                let verdict = self.steps(steps, result.is_ok(), limits).await;
                if verdict != Verdict::Passed && result.is_ok() {
                    result = Err(match limits.cause() {
                        Some(cause) => Failure::stopped(&cause, &step.reference),
                        None => Failure::new(verdict.reason(), "a step in it failed"),
                    });
                }
                continue;
            }
            if result.is_err() {
                continue;
            }
            limits.unpaused().await;
            if let Some(cause) = limits.cause() {
                result = Err(Failure::stopped(&cause, &step.reference));
                continue;
            }
            result = match operation {
                Operation::Delay { duration } => at.delay(duration).await,
                Operation::Files { container, files } => at.files(*container, files).await,
                Operation::Git(git) => at.git(git).await,
                Operation::Tarball { url, path } => at.tarball(url, path).await,
                Operation::Run(process) => {
                    self.began.set(file_now_ms());
                    at.process(process).await
                }
                Operation::Services { services, lasting } => {
                    let mut begun = Vec::new();
                    let ready = at.services(index, services, &mut begun).await;
                    match lasting {
                        true => self.lasting.borrow_mut().extend(begun),
                        false => started.extend(begun),
                    }
                    ready
                }
                Operation::Parallel(parallel) => at.parallel(index, parallel).await,
                Operation::Execute(execute) => at.execute(index, execute).await,
                Operation::Receive { archives } => at.receive(archives).await,
                Operation::Send { archives } => at.send(archives).await,
                Operation::Steps { .. } | Operation::Artifacts(_) => Ok(()),
            };
        }
        stop_services(&self.run, started).await;
        result
    }

    /// Collects artifacts, whatever the operations came to.
    async fn artifacts(
        &self,
        step: &Step,
        sight: &Sight,
        limits: &Limits,
        result: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let limits = limits.for_artifacts();
        let mut result = result;
        for operation in &step.operations {
            let Operation::Artifacts(artifacts) = operation else {
                continue;
            };
            let at = At {
                run: &self.run,
                sight,
                step: &step.reference,
                limits: &limits,
            };
            let collected = at.collect(artifacts).await;
            let collected = collected.map(|sent| self.note_collected(step, &sent.times));
            if result.is_ok() {
                result = collected;
            }
        }
        result
    }

    fn begin(&self, step: &Step, name: &str) {
        if let Some(id) = &step.id {
            // A step that wants it sees that it is not there.
            let _unwritable = make_open(&self.run, &results_of(id));
        }
        self.run.board.update(&step.reference, |status| {
            status.state = StepState::Running.into();
            name.clone_into(&mut status.display_name);
            status.start_time_ms = now_ms();
            status.tries = 1;
        });
    }

    /// Writes down what a step came to. Returns what it means for the group around it.
    async fn finish(&self, step: &Step, name: &str, tries: u32, tried: Tried) -> Verdict {
        let exit_code = tried.exit_code();
        let Tried { result, pardon, .. } = tried;
        let verdict = match step.optional {
            true => Verdict::Passed,
            false => Verdict::of(&result),
        };
        let known = status(&result);
        if let Err(failure) = &result {
            let remark = format!("{name}: {}", failure.message);
            self.run.spool.remark(&step.reference, &remark).await;
            if !step.optional {
                let mut first = self.first_failure.borrow_mut();
                // The innermost step says more than the groups around it.
                first.get_or_insert(format!(
                    "step {} ({name}): {}",
                    step.reference, failure.message
                ));
            }
        }
        if let Some(pardon) = &pardon {
            let remark = format!("{name}: {}, which does not count", pardon.message);
            self.run.spool.remark(&step.reference, &remark).await;
        }
        self.know(step, known, exit_code, true);
        self.run.board.update(&step.reference, |status| {
            status.tries = tries;
            settle(status, &result, step.negative);
            if let Some(Pardon { exit_code, message }) = pardon {
                status.exit_code = exit_code;
                QUARANTINED.clone_into(&mut status.reason);
                status.message = message;
            }
        });
        verdict
    }

    /// Marks a step and all in it that are not reached any more.
    fn mark(&self, step: &Step, state: StepState, failure: &Failure) {
        self.run.board.update(&step.reference, |status| {
            status.state = state.into();
            status.reason.clone_from(&failure.reason);
            status.message.clone_from(&failure.message);
        });
        for operation in &step.operations {
            if let Operation::Steps { steps } = operation {
                for step in steps {
                    self.mark(step, state, failure);
                }
            }
        }
    }

    /// Remembers a step for `step.<id>.*`.
    fn know(&self, step: &Step, status: &'static str, code: Option<i32>, outputs: bool) {
        if let Some(id) = &step.id {
            let outputs = if outputs {
                self.outputs()
            } else {
                BTreeMap::new()
            };
            self.run.board.outputs(&step.reference, &outputs);
            self.results.set(
                id,
                Known {
                    status,
                    code,
                    outputs,
                },
            );
        }
    }

    /// Takes the outputs that a step left, so that the next one's are its own.
    fn outputs(&self) -> BTreeMap<String, String> {
        let mut outputs = BTreeMap::new();
        let folder = self.run.volumes.real(Path::new("/testkube"));
        let Ok(folder) = fs::canonicalize(folder) else {
            return outputs;
        };
        let folder = folder.join("outputs");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if outputs.len() >= MOST_OUTPUTS {
                break;
            }
            if let Some(value) = output(&entry.path()) {
                outputs.insert(entry.file_name().to_string_lossy().into_owned(), value);
            }
        }
        outputs
    }

    fn sight(&self, step: &Step, passed: bool, own: Option<&'static str>) -> Sight {
        let id = step.id.as_deref().unwrap_or(&step.reference);
        Sight {
            folder: results_of(id),
            context: Rc::clone(&self.context),
            results: Rc::clone(&self.results),
            services: Rc::clone(&self.services),
            outputs: Rc::clone(&self.run.outputs),
            passed,
            own,
        }
    }
}

async fn condition(at: &At<'_>, step: &Step, text: &str) -> Result<bool, Failure> {
    let around = at.around_step(step, text).await?;
    at.is_true(text, &around).await
}

/// The name for people; what is wrong with it is no reason to fail, and no container is awaited.
async fn name(at: &At<'_>, step: &Step) -> String {
    if !step.name.contains("{{") {
        return step.name.clone();
    }
    let resolved = at.name(&step.name, &Surroundings::default()).await;
    resolved.unwrap_or_else(|_| step.name.clone())
}

async fn timeout(at: &At<'_>, step: &Step) -> Result<Limits, Failure> {
    let Some(timeout) = &step.timeout else {
        return Ok(at.limits.clone());
    };
    let around = at.around_step(step, timeout).await?;
    let text = at.template("timeout", timeout, &around).await?;
    if text.trim().is_empty() {
        return Ok(at.limits.clone());
    }
    let after = duration::parse(&text).map_err(|error| Failure::expression("timeout", &error))?;
    Ok(at.limits.with_timeout(&step.reference, after))
}

/// Stops services, all at once.
async fn stop_services(run: &Run, started: Vec<Started>) {
    futures::future::join_all(started.iter().map(|one| one.stop(run))).await;
}

/// How long a service waits before it is started again: twice as long each time, up to a limit.
fn backoff(tries: u32) -> Duration {
    let doubled = Duration::from_millis(100) * 2_u32.pow(tries.min(10));
    doubled.min(Duration::from_secs(20))
}

/// The content of an output that counts. No link is followed: the conductor can read more than
/// the step that made it.
fn output(path: &Path) -> Option<String> {
    let file = fs::File::from(beneath::read(path).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > OUTPUTS.1 {
        return None;
    }
    let mut value = String::new();
    file.take(OUTPUTS.1).read_to_string(&mut value).ok()?;
    Some(value)
}

/// Whether a step does nothing but keep files: neither a cancel nor a timeout around it takes
/// them away.
fn only_keeps(step: &Step) -> bool {
    let mut operations = step.operations.iter();
    !step.operations.is_empty() && operations.all(|one| matches!(one, Operation::Artifacts(_)))
}

/// Reasons that speak of the test; all others speak of what is around it.
const OF_THE_TEST: [&str; 5] = [
    "EXIT_CODE",
    "SIGNAL",
    "OUT_OF_MEMORY",
    "STEP_FAILED",
    "NEGATIVE",
];

/// Reasons behind which starting a service once more does not help.
const HOPELESS: [&str; 4] = ["NOT_FOUND", "IMAGE_CONFIG", "EXPRESSION", "STRATEGY"];

/// Whether a failure is one of what is tested.
fn is_of_the_test(failure: &Failure) -> bool {
    failure.kind == Kind::Failed && OF_THE_TEST.contains(&failure.reason.as_str())
}

/// Inverts an outcome that is the test's own; a timeout, a cancel, a missing program or image
/// stays what it is.
fn invert(negative: bool, result: Result<(), Failure>) -> Result<(), Failure> {
    match result {
        result if !negative => result,
        Ok(()) => Err(Failure::new(
            "NEGATIVE",
            "it passed, and was expected to fail",
        )),
        Err(failure) if is_of_the_test(&failure) => Ok(()),
        stopped => stopped,
    }
}

fn state(kind: Kind) -> StepState {
    match kind {
        Kind::Failed => StepState::Failed,
        Kind::TimedOut => StepState::TimedOut,
        Kind::Canceled => StepState::Canceled,
        Kind::Aborted => StepState::Aborted,
    }
}

fn exit_code(result: &Result<(), Failure>) -> Option<i32> {
    match result {
        Ok(()) => Some(0),
        Err(failure) => failure.exit_code,
    }
}

/// The status as expressions know it.
fn status(result: &Result<(), Failure>) -> &'static str {
    match result.as_ref().map_err(|failure| failure.kind) {
        Ok(()) => "passed",
        Err(Kind::Failed) => "failed",
        Err(Kind::TimedOut) => "timeout",
        Err(Kind::Canceled) => "canceled",
        Err(Kind::Aborted) => "aborted",
    }
}

fn settle(status: &mut StepStatus, result: &Result<(), Failure>, negative: bool) {
    status.finish_time_ms = now_ms();
    match result {
        Ok(()) => {
            status.state = StepState::Passed.into();
            status.exit_code = (!negative).then_some(0);
            status.reason = String::new();
            status.message = String::new();
        }
        Err(failure) => {
            status.state = state(failure.kind).into();
            status.exit_code = failure.exit_code;
            status.reason.clone_from(&failure.reason);
            status.message.clone_from(&failure.message);
        }
    }
}
