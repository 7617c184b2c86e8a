//! A web server on loopback: repositories by git's own `http-backend`, and files.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command};

pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    root: PathBuf,
    /// What the header `authorization` must be.
    authorization: Option<String>,
    /// How many requests still fail.
    failures: AtomicUsize,
    requests: AtomicUsize,
}

impl Web {
    /// Serves what is in a folder: repositories `*.git`, and files.
    pub(crate) async fn serve(root: &Path, authorization: Option<&str>, failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            root: root.to_owned(),
            authorization: authorization.map(str::to_owned),
            failures: AtomicUsize::new(failures),
            requests: AtomicUsize::new(0),
        });
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&served);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn plain(status: u16, header: Option<(&str, &str)>) -> Answer {
    let mut answer = Response::builder().status(status);
    if let Some((name, value)) = header {
        answer = answer.header(name, value);
    }
    Ok(answer.body(Full::default()).unwrap())
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Answer {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let fails = state
        .failures
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if fails.is_ok() {
        return plain(503, None);
    }
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    if state.authorization.is_some() && header("authorization") != state.authorization {
        return plain(401, Some(("www-authenticate", "Basic realm=\"git\"")));
    }
    let path = request.uri().path().to_owned();
    if let Some(target) = path.strip_prefix("/redirect/") {
        let target = match target.contains("://") {
            true => target.to_owned(),
            false => format!("/{target}"),
        };
        return plain(302, Some(("location", &target)));
    }
    // As servers do that give a repository without its ending another address.
    if let Some((name, rest)) = path.split_once("/info/refs")
        && rest.is_empty()
        && !name.ends_with(".git")
    {
        let target = format!("{name}.git/info/refs");
        return plain(302, Some(("location", &target)));
    }
    if !path.contains(".git/") {
        return match std::fs::read(state.root.join(path.trim_start_matches('/'))) {
            Ok(content) => Ok(Response::new(Full::from(content))),
            Err(_) => plain(404, None),
        };
    }
    let mut backend = Command::new("git");
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &state.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &path)
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REQUEST_METHOD", request.method().as_str());
    for (name, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "HTTP_GIT_PROTOCOL"),
    ] {
        if let Some(value) = header(name) {
            backend.env(variable, &value);
        }
    }
    if let Some(protocol) = header("git-protocol") {
        backend.env("GIT_PROTOCOL", protocol);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut child = backend
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    tokio::spawn(async move { drop(input.write_all(&body).await) });
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(':').unwrap();
        answer = match name {
            "Status" => answer.status(value.trim()[..3].parse::<u16>().unwrap()),
            name => answer.header(name, value.trim()),
        };
    }
    Ok(answer.body(Full::from(output[end + 4..].to_vec())).unwrap())
}
