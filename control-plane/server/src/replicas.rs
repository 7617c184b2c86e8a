//! The other servers of the same database: what is committed here is told to them, and what they
//! tell wakes this one. Sweeps stand behind all of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use muster_storage::word::{Heard, Word, Words};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How long words are gathered before they are said: many commits make one word.
const GATHER: Duration = Duration::from_millis(5);
/// Most words that wait; more of them are lost, which costs time and nothing else.
const BACKLOG: usize = 10_000;
/// How long to wait until a lost connection is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Says words to the other servers.
#[derive(Debug, Clone)]
pub(crate) struct Replicas(mpsc::Sender<Word>);

impl Replicas {
    /// Words that are to be said come from the receiver.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Word>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), receiver)
    }

    /// Tells the others, a little later.
    pub(crate) fn tell(&self, word: Word) {
        // When nobody takes words, nobody else is there.
        let _lost = self.0.try_send(word);
    }
}

/// Says what is told until `stop`.
pub(crate) async fn speak(app: Arc<App>, mut told: mpsc::Receiver<Word>, stop: CancellationToken) {
    while let Some(Some(first)) = stop.run_until_cancelled(told.recv()).await {
        tokio::time::sleep(GATHER).await;
        let mut words = BTreeSet::from([first]);
        while let Ok(word) = told.try_recv() {
            words.insert(word);
        }
        if let Err(error) = app.store.say(&words).await {
            tracing::debug!(%error, "other servers hear of it by their sweeps");
        }
    }
}

/// Hears the others until `stop`.
pub(crate) async fn hear(app: Arc<App>, stop: CancellationToken) {
    let hear = async {
        loop {
            match app.store.listen().await {
                Ok(Some(words)) => follow(&app, words).await,
                // There are no others; essential tasks do not end by themselves.
                Ok(None) => std::future::pending().await,
                Err(error) => {
                    tracing::debug!(%error, "other servers can not be heard now");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    let _stopped: Option<()> = stop.run_until_cancelled(hear).await;
}

/// Follows words until the connection breaks.
async fn follow(app: &App, mut words: Words) {
    loop {
        match words.hear().await {
            Ok(Heard::Words(words)) => {
                for word in words {
                    match word {
                        Word::Queue => app.hub.queue_changed(),
                        Word::Place => app.hub.place_freed(),
                        Word::Execution(id) => app.hub.execution_changed(id),
                        Word::Attempt(id) => app.link.look_for_orders(Some(id)),
                    }
                }
            }
            Ok(Heard::Gap) => {
                app.hub.queue_changed();
                app.link.look_for_orders(None);
            }
            Err(error) => {
                tracing::debug!(%error, "the connection to other servers is lost");
                return;
            }
        }
    }
}
