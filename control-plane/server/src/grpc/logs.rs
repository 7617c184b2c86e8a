//! `muster.v1.LogService`.

use muster_proto::v1::{
    LogEnd, LogGap, ReadLogRequest, ReadLogResponse, log_service_server::LogService,
    read_log_response::Item,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Answers, Api, name};
use crate::app::{Error, LogItem, LogRange};

#[tonic::async_trait]
impl LogService for Api {
    type ReadLogStream = Answers<ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        if message.offset < 0 {
            return Err(Error::invalid("offset", "must not be negative").into());
        }
        if message.attempt < 0 {
            return Err(Error::invalid("attempt", "must not be negative").into());
        }
        let range = LogRange {
            epoch: (message.attempt > 0).then_some(message.attempt),
            offset: message.offset,
            follow: message.follow,
            step: message.step,
        };
        let items = self.app.read_log(&caller, project, id, range).await?;
        let answers = ReceiverStream::new(items).map(|item| match item {
            Ok(item) => Ok(ReadLogResponse {
                item: Some(show(item)),
            }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn show(item: LogItem) -> Item {
    match item {
        LogItem::Chunk(chunk) => Item::Chunk(chunk),
        LogItem::Gap { offset, size } => Item::Gap(LogGap {
            offset,
            size_bytes: size,
            message: "these bytes never arrived".to_owned(),
        }),
        LogItem::End(summary) => Item::End(LogEnd {
            size_bytes: summary.size,
            sha256: summary.sha256.unwrap_or_default(),
            complete: summary.complete,
        }),
    }
}
