//! One stream of an agent to the server, as the network lets it be.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use muster_proto::v1::{
    LinkRequest, LinkResponse, agent_link_service_client::AgentLinkServiceClient,
    link_request::Message as Out, link_response::Message as In,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{client::Authed, life::Life};

/// What came and is not heard yet; `closed` when nothing more comes.
#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<LinkResponse>,
    closed: bool,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Wire {
    outbox: mpsc::UnboundedSender<LinkRequest>,
    inbox: Arc<Mutex<Inbox>>,
    /// What was said and did not arrive yet.
    delayed: Vec<Out>,
}

impl Wire {
    /// Opens a stream; it breaks when this is dropped.
    pub(crate) fn open(
        life: &Life,
        mut link: AgentLinkServiceClient<Authed>,
    ) -> anyhow::Result<Self> {
        let (outbox, requests) = mpsc::unbounded_channel();
        let inbox: Arc<Mutex<Inbox>> = Arc::default();
        let heard = Arc::downgrade(&inbox);
        let requests = UnboundedReceiverStream::new(requests);
        life.spawn(async move {
            let hear = |change: &mut dyn FnMut(&mut Inbox)| match heard.upgrade() {
                None => false,
                Some(inbox) => {
                    change(&mut inbox.lock().unwrap_or_else(PoisonError::into_inner));
                    true
                }
            };
            if let Ok(answers) = link.link(requests).await {
                let mut answers = answers.into_inner();
                while let Ok(Some(message)) = answers.message().await {
                    let mut message = Some(message);
                    if !hear(&mut |inbox| inbox.messages.extend(message.take())) {
                        return;
                    }
                }
            }
            hear(&mut |inbox| inbox.closed = true);
        })?;
        Ok(Self {
            outbox,
            inbox,
            delayed: Vec::new(),
        })
    }

    /// Says something; it waits when the way is cut.
    pub(crate) fn say(&mut self, message: Out, arrives: bool) {
        self.delayed.push(message);
        if arrives {
            self.arrive();
        }
    }

    /// What waited arrives.
    pub(crate) fn arrive(&mut self) {
        for message in self.delayed.drain(..) {
            let message = LinkRequest {
                message: Some(message),
            };
            // A stream that is broken takes nothing, and is seen to be by its inbox.
            let _broken = self.outbox.send(message);
        }
    }

    /// The next message.
    pub(crate) fn hear(&mut self) -> Option<In> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.messages.pop_front()?.message
    }

    /// Whether the stream has ended and everything was heard.
    pub(crate) fn is_over(&self) -> bool {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.closed && inbox.messages.is_empty()
    }
}
