//! Words between the servers of one database: what one has committed and others may want to know
//! at once. A word that is lost costs time and nothing else, a sweep stands behind each; nothing is
//! decided by one. PostgreSQL carries them (`NOTIFY`); a file of SQLite has one server, and
//! commands that live shortly.

use std::{collections::BTreeSet, fmt::Write as _, str::FromStr};

use muster_core::id::{AttemptId, ExecutionId};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use sqlx::postgres::{PgListener, PgPoolOptions};
use uuid::Uuid;

use crate::{Error, Store, error};

/// The channel of all servers of a database.
const CHANNEL: &str = "muster_words";
/// Longest payload in bytes; PostgreSQL takes less than 8,000.
const LONGEST: usize = 7_000;

/// What a server has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// Something can be placed.
    Queue,
    /// A quota or a concurrency group may have a place.
    Place,
    /// An execution changed: for those who watch it.
    Execution(ExecutionId),
    /// There is a new order for the agent that has or had this attempt.
    Attempt(AttemptId),
}

/// Hears what other servers say.
#[derive(Debug)]
pub struct Words {
    listener: PgListener,
    own: Uuid,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// These words.
    Words(Vec<Word>),
    /// The connection was lost and is there again: anything may have been missed.
    Gap,
}

impl Store {
    /// Says words to the other servers of the database. Does nothing where there can be none.
    ///
    /// # Errors
    ///
    /// When the database fails: the others hear of it by their sweeps.
    pub async fn say(&self, words: &BTreeSet<Word>) -> Result<(), Error> {
        if self.backend() != DbBackend::Postgres || words.is_empty() {
            return Ok(());
        }
        for payload in payloads(self.speaker(), words) {
            let statement = Statement::from_sql_and_values(
                DbBackend::Postgres,
                "SELECT pg_notify($1, $2)",
                [CHANNEL.into(), payload.into()],
            );
            self.writer()
                .query_one_raw(statement)
                .await
                .map_err(|error| error::convert("say_words", error))?;
            metrics::counter!("muster_storage_words_said_total").increment(1);
        }
        Ok(())
    }

    /// Begins to hear the other servers of the database; `None` where there can be none.
    ///
    /// # Errors
    ///
    /// When the database can not be reached.
    pub async fn listen(&self) -> Result<Option<Words>, Error> {
        if self.backend() != DbBackend::Postgres {
            return Ok(None);
        }
        let failed = |source: sqlx::Error| Error::Unavailable {
            operation: "listen_to_words",
            source: source.into(),
        };
        // A connection of its own: it is held for as long as the server lives.
        let settings = self
            .writer()
            .get_postgres_connection_pool()
            .connect_options();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy_with((*settings).clone());
        let mut listener = PgListener::connect_with(&pool).await.map_err(failed)?;
        listener.listen(CHANNEL).await.map_err(failed)?;
        Ok(Some(Words {
            listener,
            own: self.speaker(),
        }))
    }
}

impl Words {
    /// Waits for words of others.
    ///
    /// # Errors
    ///
    /// When the connection is lost for now; call [`Store::listen`] again.
    pub async fn hear(&mut self) -> Result<Heard, Error> {
        loop {
            let heard = self.listener.try_recv().await;
            let heard = heard.map_err(|source| Error::Unavailable {
                operation: "hear_words",
                source: source.into(),
            })?;
            let Some(notification) = heard else {
                return Ok(Heard::Gap);
            };
            let told = read(notification.payload(), self.own);
            let speaker = match told {
                Told::ByOther(_) => "other",
                Told::Itself => "itself",
                Told::Unknown => "unknown",
            };
            metrics::counter!("muster_storage_words_heard_total", "speaker" => speaker)
                .increment(1);
            if let Told::ByOther(words) = told {
                return Ok(Heard::Words(words));
            }
        }
    }
}

/// What a notification says.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    ByOther(Vec<Word>),
    Itself,
    /// No server of this version says that.
    Unknown,
}

/// Words as they travel: who speaks, then each word.
fn payloads(own: Uuid, words: &BTreeSet<Word>) -> Vec<String> {
    let mut all = Vec::new();
    let mut payload = own.simple().to_string();
    for word in words {
        let length = payload.len();
        // Writing to a string can not fail.
        let _ok = match word {
            Word::Queue => write!(payload, " q"),
            Word::Place => write!(payload, " p"),
            Word::Execution(id) => write!(payload, " e{}", id.as_uuid().simple()),
            Word::Attempt(id) => write!(payload, " a{}", id.as_uuid().simple()),
        };
        if payload.len() > LONGEST {
            let last = payload.split_off(length);
            all.push(std::mem::replace(&mut payload, own.simple().to_string()));
            payload.push_str(&last);
        }
    }
    all.push(payload);
    all
}

/// Reads a payload. Words that a newer server says and this one does not know are left out.
fn read(payload: &str, own: Uuid) -> Told {
    let Some((speaker, words)) = payload.split_once(' ') else {
        return Told::Unknown;
    };
    match Uuid::from_str(speaker) {
        Ok(speaker) if speaker == own => return Told::Itself,
        Ok(_) => {}
        Err(_) => return Told::Unknown,
    }
    let words = words.split(' ').filter_map(|word| {
        let id = || Uuid::from_str(word.get(1..)?).ok();
        match word.as_bytes().first()? {
            b'q' => Some(Word::Queue),
            b'p' => Some(Word::Place),
            b'e' => Some(Word::Execution(id()?.into())),
            b'a' => Some(Word::Attempt(id()?.into())),
            _ => None,
        }
    });
    Told::ByOther(words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_travel_in_as_many_payloads_as_it_takes() {
        let own = Uuid::from_u128(1);
        let mut words: BTreeSet<Word> = (0..500)
            .map(|number| Word::Attempt(AttemptId::from(Uuid::from_u128(number))))
            .collect();
        words.extend([Word::Queue, Word::Place]);
        words.insert(Word::Execution(ExecutionId::from(Uuid::from_u128(7))));
        let payloads = payloads(own, &words);
        assert!(payloads.len() > 1);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let other = Uuid::from_u128(2);
        let heard: BTreeSet<Word> = payloads
            .iter()
            .flat_map(|payload| match read(payload, other) {
                Told::ByOther(words) => words,
                told => panic!("{told:?}"),
            })
            .collect();
        assert_eq!(heard, words);
        assert_eq!(read(&payloads[0], own), Told::Itself);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let speaker = Uuid::from_u128(2).simple();
        let heard = read(&format!("{speaker} z1 q a- "), Uuid::from_u128(1));
        assert_eq!(heard, Told::ByOther(vec![Word::Queue]));
        assert_eq!(read("nonsense", Uuid::nil()), Told::Unknown);
        assert_eq!(read("", Uuid::nil()), Told::Unknown);
    }
}
