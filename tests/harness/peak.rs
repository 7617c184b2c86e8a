//! The most memory that processes had while they were watched.

use std::{collections::HashSet, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};

/// How often to look.
const PERIOD: Duration = Duration::from_millis(50);

/// Watches until it is ended.
#[derive(Debug)]
pub struct Peak {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<[u64; 3]>,
}

impl Peak {
    /// Watches a server, an agent, and all that the agent has started.
    #[must_use]
    pub fn watch([server, agent]: [u32; 2]) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watching = tokio::spawn(async move {
            let mut peak = [0; 3];
            while tokio::time::timeout(PERIOD, &mut stopped).await.is_err() {
                let run = descendants(agent).into_iter().map(resident).sum();
                for (peak, now) in peak
                    .iter_mut()
                    .zip([resident(server), resident(agent), run])
                {
                    *peak = now.max(*peak);
                }
            }
            peak
        });
        Self { stop, watching }
    }

    /// RSS in KiB: server, agent, and the others together.
    pub async fn end(self) -> [u64; 3] {
        // The task may have ended by itself, with nothing to tell.
        let _gone = self.stop.send(());
        self.watching.await.unwrap_or_default()
    }
}

/// Nothing of a process that is gone. By `statm`, which costs less than what is measured here.
fn resident(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64 / 1024
}

fn descendants(of: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (_, behind) = stat.rsplit_once(')')?;
            Some((id, behind.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut found = HashSet::from([of]);
    loop {
        let below = parents.iter().filter(|(_, parent)| found.contains(parent));
        let more: Vec<u32> = below.map(|(id, _)| *id).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            break;
        }
    }
    found.remove(&of);
    found.into_iter().collect()
}
