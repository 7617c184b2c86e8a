//! `muster.v1.QueueService`.

use muster_proto::v1::{
    GetQueueRequest, GetQueueResponse, PauseQueueRequest, PauseQueueResponse, Queue,
    ResumeQueueRequest, ResumeQueueResponse, queue_service_server::QueueService,
};
use tonic::{Request, Response, Status};

use super::{Api, request::Content};

fn queue(pause: Option<String>) -> Option<Queue> {
    Some(Queue {
        paused: pause.is_some(),
        pause_message: pause.unwrap_or_default(),
    })
}

#[tonic::async_trait]
impl QueueService for Api {
    async fn get_queue(
        &self,
        request: Request<GetQueueRequest>,
    ) -> Result<Response<GetQueueResponse>, Status> {
        let (_caller, _message) = self.authenticate(request).await?;
        let pause = self.app.get_queue().await?;
        Ok(Response::new(GetQueueResponse {
            queue: queue(pause),
        }))
    }

    async fn pause_queue(
        &self,
        request: Request<PauseQueueRequest>,
    ) -> Result<Response<PauseQueueResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let request = Content::new("PauseQueue")
            .on("queue")
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let pause = self
            .app
            .hold_queue(&caller, Some(&message.message), request.as_ref())
            .await?;
        Ok(Response::new(PauseQueueResponse {
            queue: queue(pause),
        }))
    }

    async fn resume_queue(
        &self,
        request: Request<ResumeQueueRequest>,
    ) -> Result<Response<ResumeQueueResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let request = Content::new("ResumeQueue")
            .on("queue")
            .request(&caller, &message.request_id)?;
        let pause = self.app.hold_queue(&caller, None, request.as_ref()).await?;
        Ok(Response::new(ResumeQueueResponse {
            queue: queue(pause),
        }))
    }
}
