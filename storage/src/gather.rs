//! Calls of one kind that come at the same time, done together: who comes while others are being
//! done waits for the next turn. A busy database commits many at once, and an idle one none later
//! than without this.
//!
//! What is done together is with its own kind of call, beside the other operations.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{Error, Store, Unwritable, error::Source};

/// Most calls of one turn: what one statement carries, and how long the last one waits for the
/// first.
pub(crate) const MOST: usize = 256;

/// A call that can be done together with others of its kind.
pub(crate) trait Gathered: fmt::Debug + Sized + Send + Sync + 'static {
    /// What comes of it.
    type Answer: fmt::Debug + Send + 'static;

    /// Its name in errors and measurements.
    const OPERATION: &'static str;

    /// Does all of them, in their order. An error means that nothing of any of them was done, but
    /// for [`Error::CommitUnknown`].
    fn all(
        store: &Store,
        calls: &[Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer, Error>>, Error>> + Send;
}

/// Where calls of one kind wait for their turn.
#[derive(Debug)]
pub(crate) struct Gather<C: Gathered>(Arc<Mutex<Waiting<C>>>);

#[derive(Debug)]
struct Waiting<C: Gathered> {
    calls: VecDeque<(C, Answer<C>)>,
    /// Somebody does them, and will look again before it ends.
    working: bool,
}

type Answer<C> = oneshot::Sender<Result<<C as Gathered>::Answer, Error>>;

impl<C: Gathered> Default for Gather<C> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting {
            calls: VecDeque::new(),
            working: false,
        })))
    }
}

impl<C: Gathered> Gather<C> {
    /// Does a call, together with those that come meanwhile. It has its place among them when this
    /// returns, and is done even when the future is dropped.
    pub(crate) fn call(
        &self,
        store: &Store,
        call: C,
    ) -> impl Future<Output = Result<C::Answer, Error>> + Send + use<C> {
        let (answer, answered) = oneshot::channel();
        let begin = {
            let mut waiting = lock(&self.0);
            waiting.calls.push_back((call, answer));
            !std::mem::replace(&mut waiting.working, true)
        };
        if begin {
            let working = Working {
                waiting: Arc::clone(&self.0),
                ended: false,
            };
            tokio::spawn(work(store.clone(), working));
        }
        async move {
            answered.await.unwrap_or_else(|_ended| {
                Err(Error::CommitUnknown {
                    operation: C::OPERATION,
                    source: "this process ends, or failed while it did this".into(),
                })
            })
        }
    }
}

fn lock<C: Gathered>(waiting: &Mutex<Waiting<C>>) -> MutexGuard<'_, Waiting<C>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who does the calls. When it is gone before its end, by a panic, the next call brings another
/// one.
struct Working<C: Gathered> {
    waiting: Arc<Mutex<Waiting<C>>>,
    ended: bool,
}

impl<C: Gathered> Working<C> {
    /// The calls of the next turn; none when nobody waits, and then this one has ended.
    fn turn(&mut self) -> Option<(Vec<C>, Vec<Answer<C>>)> {
        let mut waiting = lock(&self.waiting);
        if waiting.calls.is_empty() {
            waiting.working = false;
            self.ended = true;
            return None;
        }
        let most = waiting.calls.len().min(MOST);
        Some(waiting.calls.drain(..most).unzip())
    }
}

impl<C: Gathered> Drop for Working<C> {
    fn drop(&mut self) {
        if !self.ended {
            lock(&self.waiting).working = false;
        }
    }
}

async fn work<C: Gathered>(store: Store, mut working: Working<C>) {
    while let Some((calls, answers)) = working.turn() {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        metrics::histogram!("muster_storage_gathered_calls", "operation" => C::OPERATION)
            .record(calls.len() as f64);
        let results = Box::pin(together(&store, &calls)).await;
        for (answer, result) in answers.into_iter().zip(results) {
            // Who does not wait any more does not need it.
            let _gone = answer.send(result);
        }
    }
}

/// Does calls together; where one of them would fail all, each by itself.
async fn together<C: Gathered>(store: &Store, calls: &[C]) -> Vec<Result<C::Answer, Error>> {
    let error = match C::all(store, calls).await {
        Ok(answers) => return answers,
        Err(error) => error,
    };
    if let Some(same) = of_all(&error) {
        let rest = calls.iter().skip(1).map(|_| Err(same()));
        let rest: Vec<_> = rest.collect();
        return std::iter::once(Err(error)).chain(rest).collect();
    }
    let mut answers = Vec::with_capacity(calls.len());
    if calls.len() == 1 {
        answers.push(Err(error));
        return answers;
    }
    tracing::debug!(operation = C::OPERATION, %error, "calls are done one by one");
    for call in calls {
        answers.push(match C::all(store, std::slice::from_ref(call)).await {
            Ok(mut alone) => alone.pop().unwrap_or_else(|| Err(unanswered::<C>())),
            Err(error) => Err(error),
        });
    }
    answers
}

/// Makes the same error once more, where it is about the database and not about a call.
fn of_all(error: &Error) -> Option<impl Fn() -> Error + 'static> {
    enum Of {
        Unavailable,
        Unwritable(Unwritable),
        CommitUnknown,
    }
    let (operation, source, of) = match error {
        Error::Unavailable { operation, source } => (*operation, source, Of::Unavailable),
        Error::Unwritable {
            operation,
            why,
            source,
        } => (*operation, source, Of::Unwritable(*why)),
        Error::CommitUnknown { operation, source } => (*operation, source, Of::CommitUnknown),
        _ => return None,
    };
    let source = source.to_string();
    Some(move || {
        let source = Source::from(source.clone());
        match of {
            Of::Unavailable => Error::Unavailable { operation, source },
            Of::Unwritable(why) => Error::Unwritable {
                operation,
                why,
                source,
            },
            Of::CommitUnknown => Error::CommitUnknown { operation, source },
        }
    })
}

fn unanswered<C: Gathered>() -> Error {
    Error::internal(C::OPERATION, "a call has no answer")
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::Options;

    /// What a call is told to do, and what the calls have seen.
    #[derive(Debug)]
    struct Seen {
        turns: Mutex<Vec<Vec<u32>>>,
        go: Semaphore,
    }

    #[derive(Debug)]
    struct Call(u32, Arc<Seen>);

    const REFUSED: u32 = 13;
    const PANICS: u32 = 99;

    impl Gathered for Call {
        type Answer = u32;

        const OPERATION: &'static str = "test";

        async fn all(_: &Store, calls: &[Self]) -> Result<Vec<Result<u32, Error>>, Error> {
            let seen = &calls[0].1;
            seen.go.acquire().await.expect("open").forget();
            let numbers: Vec<u32> = calls.iter().map(|call| call.0).collect();
            assert!(!numbers.contains(&PANICS), "a defect");
            seen.turns.lock().expect("whole").push(numbers.clone());
            if numbers.contains(&REFUSED) {
                return Err(Error::invalid("number", "is refused"));
            }
            Ok(numbers.into_iter().map(|number| Ok(number * 2)).collect())
        }
    }

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}", folder.path().join("muster.db").display());
        let store = Store::connect(&url, &Options::default()).await;
        store.expect("a database")
    }

    fn seen() -> Arc<Seen> {
        Arc::new(Seen {
            turns: Mutex::default(),
            go: Semaphore::new(0),
        })
    }

    fn turns(seen: &Seen) -> Vec<Vec<u32>> {
        seen.turns.lock().expect("whole").clone()
    }

    #[tokio::test]
    async fn calls_that_come_while_others_are_done_share_the_next_turn() {
        let folder = tempfile::tempdir().expect("a directory");
        let (store, seen, gather) = (store(&folder).await, seen(), Gather::default());
        let calls = (0..5).map(|number| gather.call(&store, Call(number, Arc::clone(&seen))));
        let mut calls = Box::pin(join_all(calls));
        // The first one is under way when the others come.
        assert!(futures::poll!(&mut calls).is_pending());
        seen.go.add_permits(2);
        let answers = calls.await.into_iter().map(|answer| answer.expect("done"));
        assert_eq!(answers.collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        let all: Vec<u32> = turns(&seen).into_iter().flatten().collect();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert!(turns(&seen).len() <= 2, "{:?}", turns(&seen));
    }

    #[tokio::test]
    async fn one_that_is_refused_does_not_take_the_others_with_it() {
        let folder = tempfile::tempdir().expect("a directory");
        let (store, seen, gather) = (store(&folder).await, seen(), Gather::default());
        seen.go.add_permits(100);
        let calls =
            [1, REFUSED, 2].map(|number| gather.call(&store, Call(number, Arc::clone(&seen))));
        let answers = join_all(calls).await;
        assert!(matches!(answers[0], Ok(2)), "{answers:?}");
        assert!(
            matches!(answers[1], Err(Error::Invalid { .. })),
            "{answers:?}"
        );
        assert!(matches!(answers[2], Ok(4)), "{answers:?}");
    }

    #[tokio::test]
    async fn a_call_whose_caller_is_gone_is_done_all_the_same() {
        let folder = tempfile::tempdir().expect("a directory");
        let (store, seen, gather) = (store(&folder).await, seen(), Gather::default());
        {
            let mut call = Box::pin(gather.call(&store, Call(7, Arc::clone(&seen))));
            assert!(futures::poll!(&mut call).is_pending());
        }
        seen.go.add_permits(2);
        let next = gather.call(&store, Call(8, Arc::clone(&seen))).await;
        assert!(matches!(next, Ok(16)), "{next:?}");
        let all: Vec<u32> = turns(&seen).into_iter().flatten().collect();
        assert_eq!(all, [7, 8]);
    }

    #[tokio::test]
    async fn a_defect_leaves_its_callers_in_doubt_and_the_next_ones_served() {
        let folder = tempfile::tempdir().expect("a directory");
        let (store, seen, gather) = (store(&folder).await, seen(), Gather::default());
        seen.go.add_permits(100);
        let lost = gather.call(&store, Call(PANICS, Arc::clone(&seen))).await;
        assert!(matches!(lost, Err(Error::CommitUnknown { .. })), "{lost:?}");
        let next = gather.call(&store, Call(1, Arc::clone(&seen))).await;
        assert!(matches!(next, Ok(2)), "{next:?}");
    }
}
