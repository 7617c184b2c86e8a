//! Reads what is stored, through a handle on the database of its own: what a server of a case has
//! in memory does not count.

use muster_core::{clock::Clock, execution::State, id::ProjectId};
use muster_storage::{Options, Store, attempt::Status as Stored, execution::Filter, project};
use tokio::runtime::{Builder, Runtime};

use crate::seen::{Attempt, Execution, Log, Sight, Status};

/// Most rows of a page.
const PAGE: u32 = 100;

/// A reader of the database of a case.
pub(crate) struct Observer {
    runtime: Runtime,
    store: Store,
    project: ProjectId,
    sight: Sight,
}

impl Observer {
    /// Connects.
    pub(crate) fn connect(url: &str, clock: &Clock) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = Options {
            clock: clock.clone(),
            max_connections: 2,
            ..Options::default()
        };
        let (store, project) = runtime.block_on(async {
            let store = Store::connect(url, &options).await?;
            let project = store.projects().find(project::DEFAULT).await?.id;
            anyhow::Ok((store, project))
        })?;
        Ok(Self {
            runtime,
            store,
            project,
            sight: Sight::new(),
        })
    }

    /// All executions now. Attempts and events are read again where the execution has changed.
    pub(crate) fn look(&mut self) -> anyhow::Result<&Sight> {
        self.read(false)
    }

    /// All executions now, everything read again.
    pub(crate) fn look_closely(&mut self) -> anyhow::Result<&Sight> {
        self.read(true)
    }

    fn read(&mut self, closely: bool) -> anyhow::Result<&Sight> {
        let (store, project, known) = (&self.store, self.project, &self.sight);
        self.sight = self.runtime.block_on(async {
            let executions = store.executions(project);
            let mut sight = Sight::new();
            let mut after = None;
            loop {
                let page = executions.list(&Filter::default(), after, PAGE).await?;
                for row in page.items {
                    let id = row.id.to_string();
                    let same = known.get(&id).filter(|it| it.revision == row.revision);
                    let seen = match same {
                        Some(same) if !closely => same.clone(),
                        _ => load(store, project, row).await?,
                    };
                    sight.insert(id, seen);
                }
                after = page.next;
                if after.is_none() {
                    return anyhow::Ok(sight);
                }
            }
        })?;
        Ok(&self.sight)
    }
}

async fn load(
    store: &Store,
    project: ProjectId,
    row: muster_storage::execution::Execution,
) -> anyhow::Result<Execution> {
    let executions = store.executions(project);
    let details = executions.details(row.id).await?;
    let mut events = Vec::new();
    let mut after = 0;
    loop {
        let page = executions.events(row.id, after, PAGE).await?;
        events.extend(page.items.into_iter().map(|it| (it.sequence, it.kind)));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let row = details.execution;
    let lease = row.lifecycle.lease;
    Ok(Execution {
        submit: row.tags.get("submit").cloned().unwrap_or_default(),
        state: row.lifecycle.state,
        reason: row.reason,
        revision: row.revision,
        last_epoch: row.lifecycle.last_epoch,
        lease: lease.map(|lease| (lease.attempt.to_string(), lease.epoch)),
        finish_time: row.finish_time.map(jiff::Timestamp::as_millisecond),
        pause_wanted: row.lifecycle.pause.paused || row.lifecycle.state == State::Paused,
        log: Log {
            size: row.log.size,
            sha256: row.log.sha256.unwrap_or_default(),
            complete: row.log.complete,
        },
        attempts: details.attempts.into_iter().map(attempt).collect(),
        events,
    })
}

fn attempt(row: muster_storage::attempt::Attempt) -> Attempt {
    Attempt {
        id: row.id.to_string(),
        epoch: row.epoch,
        agent: row.agent_name,
        status: match row.status {
            Stored::Live => Status::Live,
            Stored::Completed => Status::Completed,
            Stored::Declined => Status::Declined,
            Stored::Lost => Status::Lost,
        },
        reason: row.reason,
        sequence: row.sequence,
        log_offset: row.log_offset,
        finish_time: row.finish_time.map(jiff::Timestamp::as_millisecond),
    }
}
