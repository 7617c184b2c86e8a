//! Streams of an agent to the server, as the network lets them be.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use muster_proto::v1::{
    LinkRequest, LinkResponse, LogChunk, StreamLogRequest,
    agent_link_service_client::AgentLinkServiceClient, link_request::Message as Out,
    link_response::Message as In,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{client::Authed, servers::Servers};

/// What came and is not heard yet; `closed` when nothing more comes.
#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<LinkResponse>,
    closed: bool,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Wire {
    /// To which server.
    pub(crate) server: usize,
    outbox: mpsc::UnboundedSender<LinkRequest>,
    inbox: Arc<Mutex<Inbox>>,
    /// What was said and did not arrive yet.
    delayed: Vec<Out>,
}

impl Wire {
    /// Opens a stream; it breaks when this is dropped.
    pub(crate) fn open(
        servers: &Servers,
        server: usize,
        mut link: AgentLinkServiceClient<Authed>,
    ) -> anyhow::Result<Self> {
        let (outbox, requests) = mpsc::unbounded_channel();
        let inbox: Arc<Mutex<Inbox>> = Arc::default();
        let heard = Arc::downgrade(&inbox);
        let requests = UnboundedReceiverStream::new(requests);
        servers.spawn(server, async move {
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
            server,
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

/// A stream of a log that stays open.
#[derive(Debug)]
pub(crate) struct LogWire {
    /// To which server.
    pub(crate) server: usize,
    pub(crate) attempt: String,
    epoch: i64,
    outbox: mpsc::UnboundedSender<StreamLogRequest>,
    /// What is durable, as it was told; `None` at the end of the stream.
    answers: mpsc::UnboundedReceiver<Option<i64>>,
    /// The next byte to send, once the server has said where to begin.
    offset: Option<usize>,
    /// The server has ended it.
    over: bool,
}

impl LogWire {
    /// Opens a stream.
    pub(crate) fn open(
        servers: &Servers,
        server: usize,
        mut link: AgentLinkServiceClient<Authed>,
        attempt: &str,
        epoch: i64,
    ) -> anyhow::Result<Self> {
        let (outbox, requests) = mpsc::unbounded_channel();
        let (heard, answers) = mpsc::unbounded_channel();
        let requests = UnboundedReceiverStream::new(requests);
        servers.spawn(server, async move {
            if let Ok(stream) = link.stream_log(requests).await {
                let mut stream = stream.into_inner();
                while let Ok(Some(answer)) = stream.message().await {
                    if heard.send(Some(answer.durable_offset)).is_err() {
                        return;
                    }
                }
            }
            // Whoever does not listen any more has dropped it.
            let _gone = heard.send(None);
        })?;
        let wire = Self {
            server,
            attempt: attempt.to_owned(),
            epoch,
            outbox,
            answers,
            offset: None,
            over: false,
        };
        wire.send(Vec::new());
        Ok(wire)
    }

    /// What is durable now, when it was told anew.
    pub(crate) fn hear(&mut self) -> Option<i64> {
        let mut durable = None;
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Some(offset) => {
                    durable = durable.max(Some(offset));
                    self.offset
                        .get_or_insert_with(|| usize::try_from(offset).unwrap_or(usize::MAX));
                }
                None => self.over = true,
            }
        }
        durable
    }

    /// Whether the server has ended it.
    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    /// Sends what was not sent on it yet.
    pub(crate) fn send_rest(&mut self, log: &[u8]) {
        let Some(offset) = self.offset else {
            return;
        };
        let Some(data) = log.get(offset..).filter(|data| !data.is_empty()) else {
            return;
        };
        let chunk = LogChunk {
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            data: data.to_vec().into(),
            step: "s1".to_owned(),
            ..LogChunk::default()
        };
        self.offset = Some(offset + data.len());
        self.send(vec![chunk]);
    }

    fn send(&self, chunks: Vec<LogChunk>) {
        // One that is broken is seen to be by its answers.
        let _broken = self.outbox.send(StreamLogRequest {
            attempt: self.attempt.clone(),
            epoch: self.epoch,
            chunks,
            // Its pods keep everything.
            first_offset: 0,
        });
    }
}
