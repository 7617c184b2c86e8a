//! Files that go to the object store around the agent, and those that can not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use muster_proto::runner::v1::{AgentWelcome, DirectUpload, Outcome};
use muster_spec::plan::Plan;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    agent::Manner,
    plan::{Changed as _, keep, plan, shell},
    run::Run,
};

const LARGE: usize = 3_000_000;
const MAKE: &str =
    "mkdir -p out; head -c 3000000 /dev/zero > out/a; cp out/a out/b; echo x > out/small";

/// A store that answers every PUT with one status.
struct Store {
    address: SocketAddr,
    /// Its certificate, PEM, when it speaks TLS.
    certificate: Option<String>,
    /// Bytes of each body that came whole.
    whole: Arc<Mutex<Vec<usize>>>,
    /// How many connections there were.
    connections: Arc<Mutex<usize>>,
}

impl Store {
    async fn answering(status: u16) -> Self {
        Self::start(status, None).await
    }

    /// One that speaks TLS, by a certificate of its own.
    async fn secure() -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(200, Some((acceptor, own.cert.pem()))).await
    }

    async fn start(status: u16, tls: Option<(TlsAcceptor, String)>) -> Self {
        let (acceptor, certificate) = tls.unzip();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let store = Self {
            address: listener.local_addr().unwrap(),
            certificate,
            whole: Arc::default(),
            connections: Arc::default(),
        };
        let (whole, connections) = (Arc::clone(&store.whole), Arc::clone(&store.connections));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *connections.lock().unwrap() += 1;
                let (acceptor, whole) = (acceptor.clone(), Arc::clone(&whole));
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, status, whole).await,
                        Some(acceptor) => {
                            // Who does not know it goes away.
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, status, whole).await;
                            }
                        }
                    }
                });
            }
        });
        store
    }

    fn manner(&self) -> Manner {
        let scheme = match self.certificate {
            Some(_) => "https",
            None => "http",
        };
        let url = format!(
            "{scheme}://{}/bucket/key?X-Amz-Signature=secret",
            self.address
        );
        given(&url, self.certificate.as_deref())
    }
}

/// Reads one request to its end, unless it is refused before.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    status: u16,
    whole: Arc<Mutex<Vec<usize>>>,
) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.starts_with("put /bucket/key?x-amz-signature=secret "),
        "{head}"
    );
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut left: usize = length.expect("a length").parse().unwrap();
    assert_eq!(left, LARGE);
    let mut buffer = vec![0; 65536];
    while left > 0 && status == 200 {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => left -= read,
            _ => return,
        }
    }
    if status == 200 {
        whole.lock().unwrap().push(LARGE);
    }
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    drop(stream.write_all(answer.as_bytes()).await);
    // What was not read would reset the connection before the answer is heard.
    drop(stream.shutdown().await);
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}

fn given(url: &str, authorities: Option<&str>) -> Manner {
    Manner {
        direct: Some(DirectUpload {
            url: url.to_owned(),
            authorities: Bytes::from(authorities.unwrap_or_default().to_owned()),
            ..DirectUpload::default()
        }),
        welcome: AgentWelcome {
            direct_from: 1_000_000,
            ..AgentWelcome::default()
        },
        ..Manner::default()
    }
}

fn files(script: &str) -> Plan {
    plan(vec![shell("s1", script).and(keep(Some(0), "out", &["**"]))])
}

fn sizes(run: &Run) -> BTreeMap<String, usize> {
    let heard = run.agent.heard();
    let all = heard.artifacts.iter();
    all.map(|(path, data)| (path.clone(), data.len())).collect()
}

fn map(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let pairs = pairs.iter();
    pairs
        .map(|(path, size)| ((*path).to_owned(), *size))
        .collect()
}

#[tokio::test]
async fn large_files_go_to_the_store_and_small_ones_by_the_agent() {
    let store = Store::answering(200).await;
    let mut run = Run::with(&files(MAKE), store.manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(sizes(&run), map(&[("small", 2)]));
    let direct = run.agent.heard().direct.clone();
    let direct: Vec<(&str, u64)> = direct
        .iter()
        .map(|(path, size)| (path.as_str(), *size))
        .collect();
    assert_eq!(direct, [("a", LARGE as u64), ("b", LARGE as u64)]);
    assert_eq!(*store.whole.lock().unwrap(), [LARGE, LARGE]);
    assert_eq!(run.agent.heard().remarks(), "");
}

#[tokio::test]
async fn a_store_that_refuses_is_asked_once_and_everything_comes_by_the_agent() {
    for status in [403, 503] {
        let store = Store::answering(status).await;
        let mut run = Run::with(&files(MAKE), store.manner(), &[]);
        run.ends_as(Outcome::Passed).await;
        let all = map(&[("a", LARGE), ("b", LARGE), ("small", 2)]);
        assert_eq!(sizes(&run), all, "{status}");
        assert_eq!(run.agent.heard().direct.len(), 0);
        assert_eq!(*store.connections.lock().unwrap(), 1, "{status}");
        let remarks = run.agent.heard().remarks();
        assert!(
            !remarks.contains("secret") && !remarks.contains("broke"),
            "{remarks}"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_not_reached_costs_one_try_and_no_second_reading() {
    // Nobody listens there any more.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bucket/key", nobody.local_addr().unwrap());
    drop(nobody);
    let mut run = Run::with(&files(MAKE), given(&url, None), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(
        sizes(&run),
        map(&[("a", LARGE), ("b", LARGE), ("small", 2)])
    );
    let heard = run.agent.heard();
    assert_eq!(heard.asked, ["a"], "it is remembered");
    assert_eq!(heard.remarks(), "");
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_hashed_comes_by_the_agent_as_it_is_then() {
    let store = Store::answering(200).await;
    let script = "mkdir -p /data/out; head -c 3000000 /dev/zero | tee /data/out/a > /data/out/b";
    let keep = keep(Some(0), "/data/out", &["*"]);
    let mut run = Run::with(
        &plan(vec![shell("s1", script).and(keep)]),
        store.manner(),
        &[],
    );
    run.agent.manner().spoils = vec![run.path("data/out/a")];
    run.ends_as(Outcome::Passed).await;
    {
        let heard = run.agent.heard();
        assert!(heard.artifacts["a"].ends_with(b"spoilt"));
        assert_eq!(heard.artifacts.len(), 1);
        // That says nothing of the store.
        assert_eq!(heard.direct.keys().collect::<Vec<_>>(), ["b"]);
    }
    let whole = store.whole.lock().unwrap().clone();
    assert_eq!(whole, [LARGE], "the store never got the one that changed");
}

#[tokio::test]
async fn without_a_way_everything_comes_by_the_agent_on_the_same_connection() {
    let mut run = Run::with(&files(MAKE), given("", None), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(
        sizes(&run),
        map(&[("a", LARGE), ("b", LARGE), ("small", 2)])
    );
    assert_eq!(run.agent.heard().asked, ["a", "b"]);
}

#[tokio::test]
async fn a_store_is_known_by_the_authorities_that_are_handed_on_and_by_no_others() {
    let all = map(&[("a", LARGE), ("b", LARGE), ("small", 2)]);
    let store = Store::secure().await;
    let mut run = Run::with(&files(MAKE), store.manner(), &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(sizes(&run), map(&[("small", 2)]));
    assert_eq!(*store.whole.lock().unwrap(), [LARGE, LARGE]);

    let (other, mut manner) = (Store::secure().await, store.manner());
    if let Some(given) = &mut manner.direct {
        given.authorities = Bytes::from(other.certificate.unwrap());
    }
    let mut run = Run::with(&files(MAKE), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(sizes(&run), all, "by the agent");
    assert_eq!(store.whole.lock().unwrap().len(), 2);
}
