//! A wire that can be cut: a TCP proxy between two programs, which a test lets carry, delay, hold
//! or drop what they say to each other. It knows nothing of what they say, but for a word that it
//! may wait for, and HTTP as far as it answers requests in place of a server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// How a wire is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// It carries everything at once.
    Whole,
    /// Everything that is said through it takes this long.
    Slow(Duration),
    /// It carries nothing, and nobody is told.
    Silent,
    /// Connections are closed, and no new ones are taken.
    Cut,
    /// Whole until clients say a word for the so-manyth time, from when it is set; then the other side
    /// hears that word and answers, and the connection is closed before a byte of the answer is
    /// carried. So it is with every later one.
    CutAfter(&'static str, u64),
    /// The same, but the word is not carried.
    CutBefore(&'static str, u64),
    /// Each HTTP request is answered with this status, in place of the server. Connections that are there
    /// are closed.
    Answer(u16),
    /// Every connection is closed when its client has said so many bytes.
    CutEach(u64),
}

/// A proxy, mostly on loopback, for as long as this lives.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

/// What all connections of a proxy know and count.
#[derive(Debug)]
struct Shared {
    wire: watch::Sender<Wire>,
    words: AtomicU64,
    cuts: AtomicU64,
    held: AtomicU64,
    answers: AtomicU64,
    carried: AtomicU64,
}

impl Proxy {
    /// Starts a proxy before a server.
    ///
    /// # Errors
    ///
    /// When no port is free.
    pub async fn before(server: SocketAddr) -> anyhow::Result<Self> {
        Self::before_at(Ipv4Addr::LOCALHOST.into(), server).await
    }

    /// The same at another address of this machine, such as pods reach.
    ///
    /// # Errors
    ///
    /// When no port is free there.
    pub async fn before_at(address: IpAddr, server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            wire: watch::Sender::new(Wire::Whole),
            words: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            held: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            carried: AtomicU64::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _accepting: accepting,
        })
    }

    /// From now on the wire is like this, for connections that are there and for new ones.
    pub fn set(&self, wire: Wire) {
        self.shared.words.store(0, Ordering::SeqCst);
        self.shared.wire.send_replace(wire);
    }

    /// How many bytes were carried that clients said.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// How often it was cut for a word, or for so many bytes.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// How many requests were answered in place of the server.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::SeqCst)
    }

    /// How often a silent wire has held something back.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::SeqCst)
    }
}

/// Hears one HTTP request to its end, and answers it with a status.
async fn answer(mut client: TcpStream, status: u16) -> std::io::Result<()> {
    let mut heard = Vec::new();
    let end = loop {
        if client.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
        if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&heard[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok());
    let came = heard.len().saturating_sub(end) as u64;
    let rest = u64::saturating_sub(length.unwrap_or(0), came);
    tokio::io::copy(&mut (&mut client).take(rest), &mut tokio::io::sink()).await?;
    let body = "<Error><Code>Told</Code><Message>by a test</Message></Error>";
    let length = if head.starts_with("head ") {
        0
    } else {
        body.len()
    };
    let answer = format!(
        "HTTP/1.1 {status} Told\r\nconnection: close\r\ncontent-type: application/xml\r\ncontent-length: \
         {length}\r\n\r\n{}",
        &body[..length]
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// One direction of a connection.
struct Direction {
    wire: watch::Receiver<Wire>,
    /// What a client says; else what it hears.
    up: bool,
    shared: Arc<Shared>,
    /// The word was said on this connection: what comes back is not carried.
    said: watch::Sender<bool>,
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let wire = shared.wire.borrow().clone();
        match wire {
            Wire::Cut => continue,
            Wire::Answer(status) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    if answer(client, status).await.is_ok() {
                        shared.answers.fetch_add(1, Ordering::SeqCst);
                    }
                });
                continue;
            }
            _ => {}
        }
        let direction = |up, said: &watch::Sender<bool>| Direction {
            wire: shared.wire.subscribe(),
            up,
            shared: Arc::clone(&shared),
            said: said.clone(),
        };
        let said = watch::Sender::new(false);
        let (up, down) = (direction(true, &said), direction(false, &said));
        connections.spawn(serve(client, server, shared.wire.subscribe(), up, down));
    }
}

async fn serve(
    client: TcpStream,
    server: SocketAddr,
    mut wire: watch::Receiver<Wire>,
    up: Direction,
    down: Direction,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        // Nothing is held back that the test did not ask for.
        stream.set_nodelay(true).ok();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        // Both directions end together, as those of a connection that breaks.
        () = up.carry(from_client, to_server) => {}
        () = down.carry(from_server, to_client) => {}
        _ = wire.wait_for(|wire| matches!(wire, Wire::Cut | Wire::Answer(_))) => {}
    }
}

impl Direction {
    async fn carry(mut self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut piece = vec![0; 64 << 10];
        // The end of what was said before, in case a word is said in two pieces.
        let mut before = Vec::new();
        let mut carried = 0;
        loop {
            let Ok(size @ 1..) = from.read(&mut piece).await else {
                return;
            };
            let wire = self.wire.borrow_and_update().clone();
            match wire {
                Wire::Whole => {}
                Wire::Cut | Wire::Answer(_) => return,
                Wire::Slow(time) => tokio::time::sleep(time).await,
                Wire::Silent => {
                    self.shared.held.fetch_add(1, Ordering::SeqCst);
                    let lasting = self.wire.wait_for(|wire| *wire != Wire::Silent);
                    if lasting.await.is_err() {
                        return;
                    }
                }
                Wire::CutAfter(word, nth) if self.up => {
                    if self.is_said(word, nth, &mut before, &piece[..size]) {
                        self.said.send_replace(true);
                    }
                }
                Wire::CutBefore(word, nth) if self.up => {
                    if self.is_said(word, nth, &mut before, &piece[..size]) {
                        return;
                    }
                }
                Wire::CutEach(most) if self.up && carried >= most => {
                    self.shared.cuts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Wire::CutAfter(..) | Wire::CutBefore(..) | Wire::CutEach(_) => {}
            }
            if !self.up && *self.said.borrow() {
                // The other side has heard the word and answers it.
                return;
            }
            if to.write_all(&piece[..size]).await.is_err() {
                return;
            }
            carried += size as u64;
            if self.up {
                self.shared.carried.fetch_add(size as u64, Ordering::SeqCst);
            }
        }
    }
}

impl Direction {
    /// Whether a word is said for the `nth` time, or a later one, with this piece.
    fn is_said(&self, word: &str, nth: u64, before: &mut Vec<u8>, piece: &[u8]) -> bool {
        before.extend_from_slice(piece);
        let word = word.as_bytes();
        let found = before.windows(word.len().max(1)).any(|part| part == word);
        let rest = match found {
            true => before.len(),
            false => before.len().saturating_sub(word.len().saturating_sub(1)),
        };
        before.drain(..rest);
        let cut = found && self.shared.words.fetch_add(1, Ordering::SeqCst) + 1 >= nth;
        if cut {
            self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each piece with the same.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        address
    }

    async fn say(stream: &mut TcpStream, word: &[u8]) -> Option<Vec<u8>> {
        stream.write_all(word).await.ok()?;
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).await.ok()?;
        Some(heard)
    }

    #[tokio::test]
    async fn a_wire_carries_is_cut_for_a_word_and_carries_again() {
        let proxy = Proxy::before(echo().await).await.expect("a proxy");
        let mut stream = TcpStream::connect(proxy.address).await.expect("it listens");
        assert_eq!(say(&mut stream, b"one").await.as_deref(), Some(&b"one"[..]));
        for wire in [Wire::CutAfter("COMMIT", 2), Wire::CutBefore("COMMIT", 2)] {
            proxy.set(wire);
            let first = say(&mut stream, b"COMMIT").await;
            assert!(first.is_some(), "it is not the second time yet");
            let mut stream = TcpStream::connect(proxy.address).await.expect("it listens");
            assert_eq!(say(&mut stream, b"COM").await.as_deref(), Some(&b"COM"[..]));
            assert_eq!(say(&mut stream, b"MIT").await, None);
        }
        assert_eq!(proxy.cuts(), 2);
        proxy.set(Wire::Answer(503));
        let mut asking = TcpStream::connect(proxy.address).await.expect("it listens");
        let request = b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        asking.write_all(request).await.expect("it is heard");
        let mut heard = String::new();
        asking.read_to_string(&mut heard).await.expect("an answer");
        assert!(heard.starts_with("HTTP/1.1 503 "), "{heard}");
        assert_eq!(proxy.answers(), 1);
        proxy.set(Wire::CutEach(6));
        let carried = proxy.carried();
        let mut stream = TcpStream::connect(proxy.address).await.expect("it listens");
        for _ in 0..2 {
            assert_eq!(say(&mut stream, b"six").await.as_deref(), Some(&b"six"[..]));
        }
        assert_eq!(say(&mut stream, b"two").await, None);
        assert_eq!((proxy.cuts(), proxy.carried() - carried), (3, 6));
        proxy.set(Wire::Cut);
        assert_eq!(say(&mut stream, b"two").await, None);
        proxy.set(Wire::Slow(Duration::from_millis(1)));
        let mut stream = TcpStream::connect(proxy.address).await.expect("it listens");
        assert_eq!(say(&mut stream, b"two").await.as_deref(), Some(&b"two"[..]));
    }
}
