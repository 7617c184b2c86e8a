//! Credentials of the project: asked of the agent when a text needs one, and kept in memory until
//! the run ends, so that all steps see the same value.

use std::{cell::RefCell, collections::BTreeMap, fmt, sync::Arc};

use muster_proto::runner::v1::{
    CredentialWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};

use super::{agent::Agent, mask::Secrets};

/// Values that were given; they are masked from then on.
pub(super) struct Credentials {
    known: RefCell<BTreeMap<String, String>>,
    secrets: Arc<Secrets>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    pub(super) fn new(secrets: Arc<Secrets>) -> Self {
        Self {
            known: RefCell::default(),
            secrets,
        }
    }

    /// The value of a credential, asked for as often as it takes; or why it will never be given.
    pub(super) async fn get(&self, agent: &Agent, name: &str) -> Result<String, String> {
        if let Some(known) = self.known.borrow().get(name) {
            return Ok(known.clone());
        }
        let question = || {
            let name = name.to_owned();
            [Said::Credential(CredentialWish { name })]
        };
        let given = agent.ask(Purpose::Credential, question, |heard| match heard {
            Heard::Credential(given) => Some(given),
            _ => None,
        });
        let given = given.await;
        if !given.error.is_empty() {
            return Err(given.error);
        }
        self.secrets.add([given.value.as_bytes()]);
        let mut known = self.known.borrow_mut();
        known.insert(name.to_owned(), given.value.clone());
        Ok(given.value)
    }
}
