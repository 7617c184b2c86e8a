//! Members of suites that nobody waits for (`async`): a run on this machine stays until they have
//! ended, since nothing would go on with them after it. What they come to does not count.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream::FuturesUnordered};
use muster_proto::v1::{Execution, ListExecutionsRequest, execution::State};

use crate::{
    arguments::Global,
    client::{Client, PAGE_SIZE, pages},
    command::{cancel, note, wait},
    embedded::LocalAgent,
    error::Error,
    json,
    signal::Interruptions,
};

/// States of what has not ended.
const ACTIVE: [State; 6] = [
    State::Queued,
    State::Assigned,
    State::Preparing,
    State::Running,
    State::Paused,
    State::Finishing,
];
/// Most names that are told.
const NAMED: usize = 10;

/// All that is run by the agent of this process.
pub(super) struct Session<'a> {
    pub(super) client: &'a Client,
    /// The session in the targets of executions.
    pub(super) label: &'a str,
}

/// Waits until all that belongs to a session has ended. An interruption cancels it, the second one
/// kills it, the third one leaves; `interrupted` counts as the first one.
pub(super) async fn wait_for_all(
    session: &Session<'_>,
    agent: &mut LocalAgent,
    interruptions: &mut Interruptions,
    interrupted: bool,
    global: &Global,
) -> Result<(), Error> {
    let client = session.client;
    let mut asked = u32::from(interrupted);
    let mut told = BTreeSet::new();
    // One that ends may have begun others.
    loop {
        let active = active(session).await?;
        if active.is_empty() {
            return Ok(());
        }
        let is_new: Vec<&Execution> = active
            .iter()
            .filter(|one| told.insert(one.name.clone()))
            .collect();
        if !is_new.is_empty() {
            note(global, &waiting(&is_new));
        }
        if asked > 0 {
            stop(client, &active, asked > 1).await;
        }
        let mut ends: FuturesUnordered<_> = active
            .iter()
            .map(|one| wait::wait(client, &one.name))
            .collect();
        loop {
            tokio::select! {
                ended = ends.next() => match ended {
                    Some(execution) => tell(&execution?, global),
                    None => break,
                },
                () = interruptions.next() => {
                    asked += 1;
                    if asked > 2 {
                        return Ok(());
                    }
                    stop(client, &active, asked > 1).await;
                }
                error = agent.ended() => return Err(error),
            }
        }
    }
}

/// What belongs to a session and has not ended, without workers and services.
async fn active(session: &Session<'_>) -> Result<Vec<Execution>, Error> {
    let client = session.client;
    let all = pages(async |page_token| {
        let request = ListExecutionsRequest {
            parent: client.parent(),
            page_size: PAGE_SIZE,
            page_token,
            states: ACTIVE.iter().map(|&state| state.into()).collect(),
            ..ListExecutionsRequest::default()
        };
        let response = client
            .call(async || client.executions().list_executions(request.clone()).await)
            .await?;
        Ok((response.executions, response.next_page_token))
    });
    let mut all = all.await?;
    all.retain(|one| {
        let labels = one.target.as_ref().map(|target| &target.r#match);
        let wanted = labels.and_then(|labels| labels.get(LocalAgent::LABEL));
        wanted.is_some_and(|wanted| wanted.values.iter().any(|value| value == session.label))
    });
    Ok(all)
}

fn waiting(active: &[&Execution]) -> String {
    let names = active.iter().take(NAMED);
    let names: Vec<&str> = names.map(|one| one.display_name.as_str()).collect();
    let more = match active.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "waiting for what it has started and does not wait for itself: {}{more}; interrupt to cancel",
        names.join(", ")
    )
}

fn tell(execution: &Execution, global: &Global) {
    let state = json::state(execution.state()).replace('_', " ");
    note(global, &format!("{}: {state}", execution.display_name));
}

/// Cancels all. One that can not be canceled is waited for, or left by the next interruption.
async fn stop(client: &Client, active: &[Execution], force: bool) {
    for one in active {
        let why = "interrupted by the user";
        if let Err(error) = cancel::cancel(client, one.name.clone(), force, why).await {
            tracing::warn!(execution = one.display_name, %error, "can not cancel");
        }
    }
}
