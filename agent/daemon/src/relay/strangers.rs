//! Connections that have not yet shown a token, by where they come from: nobody can hold so many
//! that others find no place.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many strangers there are from each address.
#[derive(Debug, Clone)]
pub(super) struct Strangers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// Most from one address. Pods behind an address translation share one, so it is not small.
    limit: usize,
}

/// One stranger; no stranger any more when this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            counts: Arc::default(),
            limit,
        }
    }

    /// Counts a stranger, or nothing when there are too many from its address already.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Stranger> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Stranger {
            strangers: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.strangers.lock().entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_with_too_many_strangers_does_not_keep_others_out() {
        let strangers = Strangers::new(2);
        let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let first = strangers.enter(address(1));
        let second = strangers.enter(address(1));
        assert!(first.is_some() && second.is_some());
        assert!(strangers.enter(address(1)).is_none());
        assert!(strangers.enter(address(2)).is_some());
        drop(first);
        assert!(strangers.enter(address(1)).is_some());
        drop(second);
        assert!(strangers.lock().is_empty(), "nobody is remembered");
    }
}
