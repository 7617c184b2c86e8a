//! Claiming for one agent alone.

use muster_core::schedule::{self, Taker};

use super::{Assignment, Claim, Work};
use crate::{Error, error::Kind};

/// Most executions of one claim.
const MOST: u32 = 256;

impl Work<'_> {
    pub(super) async fn claim_alone(&self, claim: &Claim) -> Result<Vec<Assignment>, Error> {
        let limit = claim.limit.min(MOST);
        let queue = self.store.queue();
        let picture = queue.picture(limit).await?;
        let taker = Taker {
            agent: self.agent,
            labels: &claim.labels,
            projects: &claim.projects,
            room: limit,
        };
        let grants = schedule::plan(&[taker], &picture.shares, &picture.lanes, MOST as usize);
        let claimed = queue.claim(&grants, claim.lease_expire_time).await?;
        if claimed.gone.contains(&self.agent) {
            return Err(Error::not_found(Kind::Agent, self.agent));
        }
        Ok(claimed.assignments)
    }
}
