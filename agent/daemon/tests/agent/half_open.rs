//! A connection whose other end is gone without a word: bytes go out and nothing comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    time::timeout,
};

use crate::{
    link::{STANDIN, config},
    server::Server,
};
use muster_agent::{Agent, Config};

/// How long a side may take until it knows.
const LIMIT: Duration = Duration::from_secs(30);

/// Stands between agent and server.
struct Proxy {
    address: SocketAddr,
    /// Connections with a number up to this one are silent.
    silent: Arc<watch::Sender<u32>>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
        let address = listener.local_addr().expect("an address");
        let silent = Arc::new(watch::Sender::new(0));
        let heard = Arc::clone(&silent);
        tokio::spawn(async move {
            for number in 1.. {
                let (near, _) = listener.accept().await.expect("it accepts");
                let Ok(far) = TcpStream::connect(to).await else {
                    continue;
                };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, number, heard.subscribe()));
                tokio::spawn(pass(far_read, near_write, number, heard.subscribe()));
            }
        });
        Self { address, silent }
    }
}

/// Passes bytes on until the connection is silent; then takes them and says nothing.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u32,
    silent: watch::Receiver<u32>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if *silent.borrow() >= number {
            continue;
        }
        let bytes = bytes.get(..length).unwrap_or_default();
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn an_agent_leaves_a_silent_connection_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start();
    let proxy = Proxy::start(server.address).await;
    let config = Config {
        servers: vec![format!("http://{}", proxy.address)],
        ..config(&server, &directory.path().join("runs"), STANDIN)
    };
    let agent = Agent::start(config).await.expect("it starts");
    // No renewal is due for an hour: only the connection itself can tell.
    let hour = Duration::from_hours(1);
    let mut link = server.welcome_with(Vec::new(), (hour, hour)).await;
    link.credit(2).await;
    proxy.silent.send_replace(1);
    let again = timeout(LIMIT, server.next_link()).await;
    let again = again.expect("the agent comes back in time");
    assert_eq!(again.hello.session, link.hello.session);
    agent.stop().await.expect("no error");
}
