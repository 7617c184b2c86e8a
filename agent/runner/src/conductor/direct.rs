//! Whether artifacts go to the object store around the agent: from which size on, and not any more once
//! this pod has seen that it can not.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use rustls::ClientConfig;

use super::download;
use crate::fail;

/// What this pod knows of the way around the agent.
#[derive(Debug)]
pub(super) struct Direct {
    from: Cell<u64>,
    trust: OnceCell<Arc<ClientConfig>>,
}

impl Direct {
    /// Files of so many bytes or more; 0 for none.
    pub(super) const fn new(from: u64) -> Self {
        Self {
            from: Cell::new(from),
            trust: OnceCell::new(),
        }
    }

    /// From which size on files go directly; 0 when none does.
    pub(super) fn from(&self) -> u64 {
        self.from.get()
    }

    /// Nothing more goes directly, for this reason; told once, where nobody looks but who wonders.
    pub(super) fn give_up(&self, why: &str) {
        if self.from.replace(0) > 0 {
            fail::say(format_args!(
                "artifacts go by the agent from now on, the object store does not take them: {why}"
            ));
        }
    }

    /// Whether it is known which authorities the store is known by.
    pub(super) fn has_authorities(&self) -> bool {
        self.trust.get().is_some()
    }

    /// How the store is known: by these authorities, or those of the image when there are none.
    pub(super) fn trust(&self, authorities: &[u8]) -> Result<Arc<ClientConfig>, String> {
        if let Some(trust) = self.trust.get() {
            return Ok(Arc::clone(trust));
        }
        let trust = match authorities {
            [] => download::trust(),
            given => download::trust_in(given),
        };
        let trust = trust.map_err(|error| error.to_string())?;
        Ok(Arc::clone(self.trust.get_or_init(|| trust)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_has_given_up_does_not_try_again() {
        let direct = Direct::new(7);
        assert_eq!(direct.from(), 7);
        direct.give_up("no answer");
        direct.give_up("no answer");
        assert_eq!(direct.from(), 0);
    }
}
