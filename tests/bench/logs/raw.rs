//! The limit: the same messages over gRPC on loopback, taken by a client that only counts them.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bytes::Bytes;
use futures::{Stream, stream};
use muster_proto::v1::{
    LogChunk, ReadLogRequest, ReadLogResponse,
    log_service_client::LogServiceClient,
    log_service_server::{LogService, LogServiceServer},
    read_log_response::Item,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

struct Raw {
    text: Bytes,
    count: usize,
}

#[tonic::async_trait]
impl LogService for Raw {
    type ReadLogStream = Pin<Box<dyn Stream<Item = Result<ReadLogResponse, Status>> + Send>>;

    async fn read_log(
        &self,
        _request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let text = self.text.clone();
        let all = (0..self.count).map(move |number| {
            let chunk = LogChunk {
                data: super::piece(&text, number),
                step: "s1".to_owned(),
                ..LogChunk::default()
            };
            Ok(ReadLogResponse {
                item: Some(Item::Chunk(chunk)),
            })
        });
        Ok(Response::new(Box::pin(stream::iter(all))))
    }
}

/// Streams messages; returns how long it took.
pub(super) async fn stream(text: &Bytes, count: usize) -> anyhow::Result<Duration> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let raw = Raw {
        text: text.clone(),
        count,
    };
    let serving = tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(LogServiceServer::new(raw))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut client = LogServiceClient::connect(format!("http://{address}")).await?;
    let begin = Instant::now();
    let mut answers = client
        .read_log(ReadLogRequest::default())
        .await?
        .into_inner();
    let mut found = 0;
    while let Some(answer) = answers.message().await? {
        if let Some(Item::Chunk(chunk)) = answer.item {
            found += chunk.data.len();
        }
    }
    let time = begin.elapsed();
    ensure!(found == count * super::CHUNK, "{found} bytes");
    serving.abort();
    Ok(time)
}
