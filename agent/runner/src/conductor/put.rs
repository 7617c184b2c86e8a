//! One HTTP PUT of a file whose size is known, over HTTP or HTTPS: its bytes are sent as they come, and no
//! more of them are held than one piece that waits. What is put where is not known here; the URL is a
//! secret and stands in no error.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request};
use http_body_util::StreamBody;
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use muster_proto::runner::v1::DirectUpload;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{direct::Direct, download::Place};

/// How long it may take to reach the store: where egress is closed, nothing answers.
const CONNECT: Duration = Duration::from_secs(5);
/// How long no byte may go on its way.
const STALL: Duration = Duration::from_secs(60);
/// How long the answer may take when all was sent.
const ANSWER: Duration = Duration::from_secs(300);
/// How long all of it may take: the server waits no longer.
const WHOLE: Duration = Duration::from_secs(3600);
/// What a connection holds of what is to be sent.
const BUFFER: usize = 64 << 10;

/// A PUT on its way. Dropped before its end it leaves nothing in the store.
pub(super) struct Put {
    /// Gone when all was sent.
    body: Option<mpsc::Sender<Bytes>>,
    answer: JoinHandle<Result<(), String>>,
}

impl Put {
    /// Reaches the store and begins. An error is for people.
    pub(super) async fn begin(direct: &Direct, given: &DirectUpload) -> Result<Self, String> {
        let url: http::Uri = given
            .url
            .parse()
            .map_err(|_bad| "its URL can not be read".to_owned())?;
        let place = Place::of(&url).ok_or("its URL has no host")?;
        let Place {
            host, bare, port, ..
        } = place;
        let (body, mut pieces) = mpsc::channel::<Bytes>(1);
        let pieces = stream::poll_fn(move |context| pieces.poll_recv(context));
        let pieces = StreamBody::new(pieces.map(|data| Ok::<_, Infallible>(Frame::data(data))));
        let mut request = place.request(Method::PUT);
        for (name, value) in &given.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(pieces)
            .map_err(|_bad| "its headers can not be sent".to_owned())?;
        let reach = async {
            let stream = TcpStream::connect((bare, port))
                .await
                .map_err(|error| format!("{host}:{port} can not be reached: {error}"))?;
            if !place.secure {
                return exchange(stream, request).await;
            }
            let name = ServerName::try_from(bare.to_owned())
                .map_err(|_bad| format!("{host} is no name of a server"))?;
            let stream = TlsConnector::from(direct.trust(&given.authorities)?)
                .connect(name, stream)
                .await
                .map_err(|error| format!("no secure connection to {host}:{port}: {error}"))?;
            exchange(stream, request).await
        };
        let reached = timeout(CONNECT, reach).await;
        let answer = reached.map_err(|_elapsed| {
            let seconds = CONNECT.as_secs();
            format!("{host}:{port} does not answer within {seconds} seconds")
        })??;
        Ok(Self {
            body: Some(body),
            answer,
        })
    }

    /// Sends the next bytes.
    pub(super) async fn data(&mut self, data: Bytes) -> Result<(), String> {
        let Some(body) = &self.body else {
            return Err("all was sent before".to_owned());
        };
        match timeout(STALL, body.send(data)).await {
            Ok(Ok(())) => Ok(()),
            // It was answered before its end.
            Ok(Err(_closed)) => match self.answered().await {
                Ok(()) => Err("it answered before it had all".to_owned()),
                Err(why) => Err(why),
            },
            Err(_elapsed) => Err(format!("takes nothing for {} seconds", STALL.as_secs())),
        }
    }

    /// Ends it; waits until the store has it.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.body = None;
        self.answered().await
    }

    async fn answered(&mut self) -> Result<(), String> {
        match timeout(ANSWER, &mut self.answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_aborted)) => Err("the connection broke".to_owned()),
            Err(_elapsed) => Err(format!("no answer within {} seconds", ANSWER.as_secs())),
        }
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

/// Sends a request as its body comes. The task ends with its answer.
async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    request: Request<B>,
) -> Result<JoinHandle<Result<(), String>>, String>
where
    B: hyper::body::Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    Ok(tokio::task::spawn_local(async move {
        let connection = async {
            // What is wrong with it is told to the request.
            drop(connection.await);
            std::future::pending::<Infallible>().await
        };
        let answer = tokio::select! {
            answer = timeout(WHOLE, sender.send_request(request)) => answer,
            never = connection => match never {},
        };
        let answer = answer.map_err(|_elapsed| "took longer than an hour".to_owned())?;
        let status = answer.map_err(broken)?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("it answers {status}")),
        }
    }))
}
