//! Reads of the same thing that are asked for at the same time, done once. Nobody gets what was
//! read before it asked: who comes while a read is under way waits for the next one.

use std::{collections::BTreeMap, fmt};

use futures::future::join_all;

use crate::{Error, Store, gather::Gathered};

/// What a read is for. Equal keys read the same.
pub(crate) trait Shared: Clone + fmt::Debug + Ord + Send + Sync + 'static {
    /// What is read.
    type Value: Clone + fmt::Debug + Send + 'static;

    /// Its name in errors and measurements.
    const OPERATION: &'static str;

    /// Reads it.
    fn read(&self, store: &Store) -> impl Future<Output = Result<Self::Value, Error>> + Send;
}

/// A read that waits for its turn.
#[derive(Debug)]
pub(crate) struct Read<K: Shared>(pub(crate) K);

impl<K: Shared> Gathered for Read<K> {
    type Answer = K::Value;

    const OPERATION: &'static str = K::OPERATION;

    async fn all(store: &Store, calls: &[Self]) -> Result<Vec<Result<K::Value, Error>>, Error> {
        let mut wanted: BTreeMap<&K, usize> = BTreeMap::new();
        for Read(key) in calls {
            *wanted.entry(key).or_default() += 1;
        }
        let reads = wanted.into_iter().map(async |(key, count)| {
            let first = key.read(store).await;
            let mut values = Vec::with_capacity(count);
            for _ in 1..count {
                values.push(match &first {
                    Ok(value) => Ok(value.clone()),
                    // An error can not be given to several.
                    Err(_) => key.read(store).await,
                });
            }
            values.push(first);
            (key, values)
        });
        let mut read: BTreeMap<&K, Vec<Result<K::Value, Error>>> =
            join_all(reads).await.into_iter().collect();
        let answers = calls.iter().map(|Read(key)| {
            let value = read.get_mut(key).and_then(Vec::pop);
            value.unwrap_or_else(|| Err(Error::internal(K::OPERATION, "a read has no answer")))
        });
        Ok(answers.collect())
    }
}
