//! Credentials of the project: asked of the agent when a text needs one, and kept in memory until
//! the run ends, so that all steps see the same value.

use std::{cell::RefCell, collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use muster_proto::runner::v1::{
    CredentialWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};

use super::{agent::Agent, mask::Secrets};

/// Pause before a broken connection is made again.
const AGAIN: Duration = Duration::from_millis(500);

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
        loop {
            match ask(agent, name).await {
                Ok(Ok(value)) => {
                    self.secrets.add([value.as_bytes()]);
                    let mut known = self.known.borrow_mut();
                    known.insert(name.to_owned(), value.clone());
                    return Ok(value);
                }
                Ok(Err(refusal)) => return Err(refusal),
                Err(_broken) => agent.pause(AGAIN).await,
            }
        }
    }
}

async fn ask(agent: &Agent, name: &str) -> io::Result<Result<String, String>> {
    let connection = agent.connect(Purpose::Credential, (true, 0, 0)).await;
    let (mut hearing, mut speaking) = connection.split();
    let wish = CredentialWish {
        name: name.to_owned(),
    };
    speaking.say(Said::Credential(wish)).await?;
    loop {
        match hearing.hear().await?.message {
            Some(Heard::Credential(given)) if given.error.is_empty() => {
                return Ok(Ok(given.value));
            }
            Some(Heard::Credential(given)) => return Ok(Err(given.error)),
            Some(Heard::Refused(_)) => return Err(io::ErrorKind::ConnectionRefused.into()),
            _ => {}
        }
    }
}
