//! `muster queue`: whether anything is given out.

use clap::{Args, Subcommand};
use muster_proto::v1::{GetQueueRequest, PauseQueueRequest, Queue, ResumeQueueRequest};
use serde::Serialize;

use crate::{
    arguments::Global,
    client::{Client, request_id},
    error::Error,
    exit::Exit,
    json,
    place::Session,
};

const EXAMPLES: &str = "\
Examples:
  muster queue
  muster queue pause -m 'the registry moves'
  muster queue resume";

/// Hold the queue of all projects, or let it go on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let nothing begin, of any project; what runs goes on. For administrators
    Pause {
        /// Shown to people as the reason
        #[arg(long, short, value_name = "TEXT", default_value = "")]
        message: String,
    },
    /// Let the queue go on; for administrators
    Resume,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    paused: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pause_message: String,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let done = perform(&session.client, arguments.command).await;
    session.close().await;
    show(done?, global)?;
    Ok(Exit::Success)
}

async fn perform(client: &Client, command: Option<Command>) -> Result<Queue, Error> {
    let queue = match command {
        None => {
            let response = client
                .call(async || client.queue().get_queue(GetQueueRequest {}).await)
                .await?;
            response.queue
        }
        Some(Command::Pause { message }) => {
            let request = PauseQueueRequest {
                request_id: request_id(),
                message,
            };
            let response = client
                .call(async || client.queue().pause_queue(request.clone()).await)
                .await?;
            response.queue
        }
        Some(Command::Resume) => {
            let request = ResumeQueueRequest {
                request_id: request_id(),
            };
            let response = client
                .call(async || client.queue().resume_queue(request.clone()).await)
                .await?;
            response.queue
        }
    };
    Ok(queue.unwrap_or_default())
}

fn show(queue: Queue, global: &Global) -> Result<(), Error> {
    if global.json() {
        return json::print(&Shown {
            paused: queue.paused,
            pause_message: queue.pause_message,
        });
    }
    let text = match (queue.paused, queue.pause_message.as_str()) {
        (false, _) => "The queue is open.\n".to_owned(),
        (true, "") => "The queue is paused.\n".to_owned(),
        (true, message) => format!("The queue is paused: {message}\n"),
    };
    super::print(&text)
}
