//! The listener: HTTP/1.1 and HTTP/2 on one port, with limits for clients that mean no good.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Layer as _;

/// How long a client may take for its TLS handshake or its HTTP/1.1 head.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 connection is asked whether it lives, and how long it may think: a dead
/// one is gone within twice this, which is less than half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Most calls at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// Most bytes of headers.
const MAX_HEADERS: u32 = 16 << 10;
/// Most streams that a client may reset before the connection is closed.
const MAX_RESETS: usize = 200;

/// The address at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves until `stop`, then lets calls end within `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: CancellationToken,
    grace: Duration,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(1 << 20)
        // Far more than streams can fill: many that wait, such as logs for a store that is away, must
        // not keep renewals and reports of their connection from coming in.
        .initial_connection_window_size(1 << 30)
        .max_frame_size(64 << 10);
    let builder = Arc::new(builder);
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let graceful = GracefulShutdown::new();
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: others may end meanwhile.
                    tracing::warn!(%error, "a connection can not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no-delay was refused");
        }
        let builder = Arc::clone(&builder);
        let known = Extension(Peer(peer.ip())).layer(router.clone());
        let service = TowerToHyperService::new(known);
        let acceptor = acceptor.clone();
        let watcher = graceful.watcher();
        let cut_off = cut_off.clone();
        connections.spawn(cut_off.run_until_cancelled_owned(async move {
            let result = match acceptor {
                Some(acceptor) => {
                    let accepted = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await;
                    let stream = match accepted {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            tracing::debug!(%peer, %error, "no TLS");
                            return;
                        }
                        Err(_) => return,
                    };
                    let served = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(served.into_owned()).await
                }
                None => {
                    let served = builder.serve_connection(TokioIo::new(stream), service);
                    watcher.watch(served.into_owned()).await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, error, "a connection broke");
            }
        }));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("calls that did not end in time were cut off");
    }
    cut_off.cancel();
    connections.wait().await;
}
