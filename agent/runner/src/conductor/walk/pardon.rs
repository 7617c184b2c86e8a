//! Forgiving a step whose tool failed because of tests in quarantine alone. Everything that is not sure
//! leaves the failure as it is.

use std::collections::HashSet;

use muster_proto::runner::v1::{VerdictGiven, VerdictWish};
use muster_spec::plan::{FAILURE_CODES, Operation, Step};

use super::{Walk, is_of_the_test};
use crate::conductor::{
    artifacts::Sent,
    halt::Limits,
    operation::{At, Failure},
    scope::Sight,
    verdict,
};

/// Most bytes of paths that are told of: all must fit into a frame.
const MOST_STALE: usize = 512 << 10;

/// A failure that does not count.
#[derive(Debug)]
pub(super) struct Pardon {
    /// Exit code of the tool all the same.
    pub(super) exit_code: Option<i32>,
    /// What is forgiven, in words.
    pub(super) message: String,
}

/// What a try of a step came to.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) result: Result<(), Failure>,
    /// Why it passed although its tool did not.
    pub(super) pardon: Option<Pardon>,
    /// Its artifacts are collected.
    pub(super) kept: bool,
}

impl From<Result<(), Failure>> for Tried {
    fn from(result: Result<(), Failure>) -> Self {
        Self {
            result,
            pardon: None,
            kept: false,
        }
    }
}

impl Tried {
    pub(super) fn failed(failure: Failure) -> Self {
        Self::from(Err(failure))
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        match &self.pardon {
            Some(pardon) => pardon.exit_code,
            None => super::exit_code(&self.result),
        }
    }
}

impl Walk {
    /// Judges a try: its artifacts are collected for that, as the reports are among them.
    pub(super) async fn judge(
        &self,
        step: &Step,
        sight: &Sight,
        limits: &Limits,
        result: Result<(), Failure>,
    ) -> Tried {
        let Err(failure) = result else {
            return result.into();
        };
        if !self.run.agent.judges() || !may_be_forgiven(step, &failure) {
            return Tried::failed(failure);
        }
        let mut kept = false;
        let judged = tokio::select! {
            biased;
            judged = self.verdict(step, sight, limits, &mut kept) => judged,
            _ = limits.reached() => None,
        };
        let pardon = judged.map(|message| Pardon {
            exit_code: failure.exit_code,
            message,
        });
        let result = match &pardon {
            Some(_) => Ok(()),
            None => Err(failure),
        };
        Tried {
            result,
            pardon,
            kept,
        }
    }

    /// What is forgiven, if it is; else a remark says why not, where that is news. `kept` is set when
    /// the artifacts are collected.
    async fn verdict(
        &self,
        step: &Step,
        sight: &Sight,
        limits: &Limits,
        kept: &mut bool,
    ) -> Option<String> {
        let ahead = VerdictWish {
            step: step.reference.clone(),
            ahead: true,
            ..VerdictWish::default()
        };
        if !self.ask(step, ahead).await?.open {
            return None;
        }
        let collected = self.collect(step, sight, limits).await;
        *kept = true;
        let sent = match collected {
            Ok(sent) => sent,
            Err(failure) => return self.refuse(step, &failure.message).await,
        };
        if !sent.whole {
            let why = "not all of its artifacts could be collected";
            return self.refuse(step, why).await;
        }
        let stale = self.stale(step, &sent.times);
        if stale.iter().map(String::len).sum::<usize>() > MOST_STALE {
            let why = "too many of the files that it collects are older than this try of it";
            return self.refuse(step, why).await;
        }
        let wish = VerdictWish {
            step: step.reference.clone(),
            stale,
            ahead: false,
        };
        let given = self.ask(step, wish).await?;
        match given.forgiven {
            true => Some(given.message),
            false => self.refuse(step, &given.message).await,
        }
    }

    /// Remembers what a step has collected.
    pub(super) fn note_collected(&self, step: &Step, times: &[(String, i64)]) {
        let mut all = self.collected.borrow_mut();
        let known = all.entry(step.reference.clone()).or_default();
        known.extend(times.iter().map(|(path, _)| path.clone()));
    }

    /// Files of a step that can not speak for its newest try: those that are older than its tool, and those
    /// of earlier tries that are not there any more.
    fn stale(&self, step: &Step, times: &[(String, i64)]) -> Vec<String> {
        let began = self.began.get();
        let fresh: HashSet<&str> = times
            .iter()
            .filter(|(_, time)| *time >= began)
            .map(|(path, _)| path.as_str())
            .collect();
        self.note_collected(step, times);
        let all = self.collected.borrow();
        let known = all.get(&step.reference).into_iter().flatten();
        known
            .filter(|path| !fresh.contains(path.as_str()))
            .cloned()
            .collect()
    }

    async fn ask(&self, step: &Step, wish: VerdictWish) -> Option<VerdictGiven> {
        let given = verdict::ask(&self.run.agent, wish).await;
        if given.is_none() {
            let why = "nobody could be asked in time whether its tests are in quarantine";
            self.refuse(step, why).await;
        }
        given
    }

    /// Says why a failure counts; an empty reason is none to speak of.
    async fn refuse(&self, step: &Step, why: &str) -> Option<String> {
        if !why.is_empty() {
            let text = format!("its failure counts: {why}");
            self.run.spool.remark(&step.reference, &text).await;
        }
        None
    }

    /// Collects the artifacts of a step; all of it is one.
    async fn collect(&self, step: &Step, sight: &Sight, limits: &Limits) -> Result<Sent, Failure> {
        let limits = limits.for_artifacts();
        let at = At {
            run: &self.run,
            sight,
            step: &step.reference,
            limits: &limits,
        };
        let mut all = Sent {
            whole: true,
            ..Sent::default()
        };
        let (mut failure, mut times) = (None, Vec::new());
        for operation in &step.operations {
            let Operation::Artifacts(artifacts) = operation else {
                continue;
            };
            // One that fails does not keep the others away.
            match at.collect(artifacts).await {
                Ok(sent) => {
                    all.whole &= sent.whole;
                    times.extend(sent.times);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        all.times = times;
        failure.map_or(Ok(all), Err)
    }
}

/// Whether reports of a step may speak for its failure: its one command, behind which there was
/// nothing more to do, ended by itself with an exit code.
fn may_be_forgiven(step: &Step, failure: &Failure) -> bool {
    let by_exit = failure.reason == "EXIT_CODE"
        && is_of_the_test(failure)
        && failure
            .exit_code
            .is_some_and(|code| FAILURE_CODES.contains(&code));
    let keeps = |one: &&Operation| matches!(one, Operation::Artifacts(_));
    let does = |one: &&Operation| {
        matches!(
            one,
            Operation::Run(_)
                | Operation::Steps { .. }
                | Operation::Parallel(_)
                | Operation::Execute(_)
        )
    };
    let operations = step.operations.iter();
    let ends_with_it = operations.clone().rfind(|one| !keeps(one));
    by_exit
        && !step.negative
        && operations.clone().any(|one| keeps(&one))
        && operations.filter(does).count() == 1
        && matches!(ends_with_it, Some(Operation::Run(_)))
}
