//! How the agent is reached: over TLS in a pod, by a Unix socket on a laptop.

use std::{
    env, fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use muster_proto::runner::v1::{
    AgentMessage, AgentWelcome, ConductorHello, ConductorMessage, MAX_FRAME_OF_AGENT, PROTOCOL,
    agent_message::Message as Heard, conductor_hello::Purpose, conductor_message::Message,
};
use rustix::net::sockopt;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    frame::{FrameReader, FrameWriter},
    socket,
};

/// The name in the relay's certificate.
const SERVER_NAME: &str = "muster-relay";
/// How long one try to connect may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the other end may be silent although it was spoken to.
const SILENCE: Duration = Duration::from_secs(30);
/// Pause before a connection is made again that broke before its answer.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest and longest pause between tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A stream of bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection to the agent.
pub(super) struct Connection {
    reader: FrameReader<ReadHalf<Box<dyn Stream>>>,
    writer: FrameWriter<WriteHalf<Box<dyn Stream>>>,
}

/// Hears the agent.
pub(super) struct Hearing(FrameReader<ReadHalf<Box<dyn Stream>>>);
/// Speaks to the agent.
pub(super) struct Speaking(FrameWriter<WriteHalf<Box<dyn Stream>>>);

impl Connection {
    pub(super) fn split(self) -> (Hearing, Speaking) {
        (Hearing(self.reader), Speaking(self.writer))
    }
}

impl Hearing {
    /// The next message; the end of the connection is an error.
    pub(super) async fn hear(&mut self) -> io::Result<AgentMessage> {
        match self.0.next().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// The one answer of a connection, which `wanted` knows; others are passed over.
    async fn answer<T>(&mut self, wanted: impl Fn(Heard) -> Option<T>) -> io::Result<T> {
        loop {
            match self.hear().await?.message {
                Some(Heard::Refused(_)) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Some(message) => {
                    if let Some(answer) = wanted(message) {
                        return Ok(answer);
                    }
                }
                None => {}
            }
        }
    }
}

impl Speaking {
    pub(super) async fn say(&mut self, message: Message) -> io::Result<()> {
        let message = ConductorMessage {
            message: Some(message),
        };
        self.0.send(&message).await.map_err(io::Error::other)
    }
}

/// How the agent is reached.
pub(super) struct Agent {
    way: Way,
    attempt: String,
    token: String,
    /// Makes pauses differ between conductors.
    seed: AtomicU64,
    /// The one that was heard last takes connections for verdicts.
    judges: AtomicBool,
    /// The same of those for missing files.
    notes_missing: AtomicBool,
    /// It answers artifacts that were sent before.
    resumes: AtomicBool,
}

enum Way {
    Tls {
        addresses: String,
        connector: TlsConnector,
    },
    Socket(PathBuf),
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// The secret of this attempt.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Reads `MUSTER_ATTEMPT`, `MUSTER_ATTEMPT_TOKEN`, and `MUSTER_AGENT_SOCKET` or
    /// `MUSTER_AGENT_ADDRESS` with `MUSTER_AGENT_TLS_CA`.
    pub(super) fn from_environment() -> io::Result<Self> {
        let attempt = variable("MUSTER_ATTEMPT")?;
        let way = match env::var_os("MUSTER_AGENT_SOCKET") {
            Some(path) => Way::Socket(path.into()),
            None => Way::Tls {
                addresses: variable("MUSTER_AGENT_ADDRESS")?,
                connector: connector(&variable("MUSTER_AGENT_TLS_CA")?)?,
            },
        };
        let seed = attempt.bytes().fold(1, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        Ok(Self {
            way,
            token: variable("MUSTER_ATTEMPT_TOKEN")?,
            attempt,
            seed: AtomicU64::new(seed),
            judges: AtomicBool::new(false),
            notes_missing: AtomicBool::new(false),
            resumes: AtomicBool::new(false),
        })
    }

    /// Whether the one that was heard last takes connections for verdicts: an older one would take
    /// them for others.
    pub(super) fn judges(&self) -> bool {
        self.judges.load(Ordering::Relaxed)
    }

    /// Whether it takes those for missing files.
    pub(super) fn notes_missing(&self) -> bool {
        self.notes_missing.load(Ordering::Relaxed)
    }

    /// Notes what a welcome says of that.
    pub(super) fn welcomed(&self, welcome: &AgentWelcome) {
        self.judges.store(welcome.judges, Ordering::Relaxed);
        self.notes_missing
            .store(welcome.notes_missing, Ordering::Relaxed);
        self.resumes.store(welcome.resumes, Ordering::Relaxed);
    }

    /// Whether the one that was heard last says how much of an artifact need not be sent again: an older
    /// one would wait for its data.
    pub(super) fn resumes(&self) -> bool {
        self.resumes.load(Ordering::Relaxed)
    }

    /// Connects for a purpose; tries for ever, since a test goes on without its agent.
    pub(super) async fn connect(&self, purpose: Purpose, log: (bool, u64, u64)) -> Connection {
        let mut pause = PAUSES.0;
        loop {
            if let Ok(Ok(connection)) = timeout(PATIENCE, self.try_connect(purpose, log)).await {
                return connection;
            }
            self.pause(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Asks something on a connection of its own, as often as it takes until it is answered: `question`
    /// gives what is said, and `wanted` knows the answer.
    pub(super) async fn ask<T, Q: IntoIterator<Item = Message>>(
        &self,
        purpose: Purpose,
        question: impl Fn() -> Q,
        wanted: impl Fn(Heard) -> Option<T>,
    ) -> T {
        loop {
            match self.try_to_ask(purpose, question(), &wanted).await {
                Ok(answer) => return answer,
                Err(_broken) => self.pause(AGAIN).await,
            }
        }
    }

    async fn try_to_ask<T>(
        &self,
        purpose: Purpose,
        question: impl IntoIterator<Item = Message>,
        wanted: impl Fn(Heard) -> Option<T>,
    ) -> io::Result<T> {
        let connection = self.connect(purpose, (true, 0, 0)).await;
        let (mut hearing, mut speaking) = connection.split();
        for part in question {
            speaking.say(part).await?;
        }
        hearing.answer(wanted).await
    }

    /// Waits about this long.
    pub(super) async fn pause(&self, about: Duration) {
        let seed = self.seed.load(Ordering::Relaxed);
        let next = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed.store(next, Ordering::Relaxed);
        let share = u32::try_from((next >> 33) % 1000).unwrap_or(500);
        tokio::time::sleep(about / 2 + about * share / 2000).await;
    }

    async fn try_connect(
        &self,
        purpose: Purpose,
        (has_plan, log_start, log_end): (bool, u64, u64),
    ) -> io::Result<Connection> {
        let stream: Box<dyn Stream> = match &self.way {
            Way::Socket(path) => Box::new(socket::connect(path).await?),
            Way::Tls {
                addresses,
                connector,
            } => Box::new(secure(addresses, connector).await?),
        };
        let (read, write) = tokio::io::split(stream);
        let mut connection = Connection {
            reader: FrameReader::with_limit(read, MAX_FRAME_OF_AGENT),
            writer: FrameWriter::new(write),
        };
        let hello = ConductorHello {
            attempt: self.attempt.clone(),
            token: self.token.clone(),
            protocol: PROTOCOL,
            purpose: purpose.into(),
            has_plan,
            log_start,
            log_end,
        };
        let message = ConductorMessage {
            message: Some(Message::Hello(hello)),
        };
        connection
            .writer
            .send(&message)
            .await
            .map_err(io::Error::other)?;
        Ok(connection)
    }
}

/// Connects to the first address that answers.
async fn secure(
    addresses: &str,
    connector: &TlsConnector,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
    {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                notice_silence(&stream)?;
                let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
                return connector.connect(name, stream).await;
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Has the kernel end a connection whose other end is gone without a word.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, SILENCE / 2)?;
    sockopt::set_tcp_keepintvl(stream, SILENCE / 6)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    let milliseconds = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Trusts the given certificate and no other.
fn connector(pem: &str) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}
