//! Places for archives that are being made: so many of a server, and a share of them for each token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use muster_core::id::TokenId;

use crate::app::Error;

/// Most archives that a server makes at once: each may use a processor, for compression, as long as its
/// reader keeps up.
const MOST: usize = 16;
/// Most of them for one token, so that nobody keeps all others out.
const MOST_OF_ONE: usize = 8;

/// The places.
#[derive(Debug, Clone, Default)]
pub(in crate::app) struct Places(Arc<Mutex<HashMap<TokenId, usize>>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    token: TokenId,
}

impl Places {
    /// Takes a place for one who calls by that token.
    pub(super) fn take(&self, token: TokenId) -> Result<Place, Error> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&token).copied().unwrap_or(0);
        if own >= MOST_OF_ONE {
            return Err(Error::LimitReached(format!(
                "this server makes {MOST_OF_ONE} archives for this token already; try again when one is done"
            )));
        }
        if all >= MOST {
            return Err(Error::LimitReached(format!(
                "this server makes {MOST} archives already; try again when one is done"
            )));
        }
        *taken.entry(token).or_default() += 1;
        Ok(Place {
            places: self.clone(),
            token,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = self.places.0.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.token) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_a_share_and_a_place_comes_back() {
        let places = Places::default();
        let [one, two, three] = [(); 3].map(|()| TokenId::generate());
        let mut held: Vec<Place> = Vec::new();
        for token in [one, two] {
            for _ in 0..MOST_OF_ONE {
                held.push(places.take(token).expect("a place"));
            }
            let refused = places.take(token).expect_err("no share").to_string();
            assert!(refused.contains("for this token"), "{refused}");
        }
        let refused = places.take(three).expect_err("none").to_string();
        assert!(!refused.contains("for this token"), "{refused}");
        held.remove(0);
        assert!(places.take(three).is_ok());
        held.clear();
        assert!(places.0.lock().expect("a lock").is_empty());
    }
}
