//! Quarantine: tests whose failures do not count for a while. What that means for a step is in `judge`.

mod judge;

use jiff::{SignedDuration, Timestamp};
use muster_core::{
    name,
    quarantine::{DEFAULT, LONGEST},
};
use muster_storage::{
    Page, Request,
    quarantine::{Cursor, NewQuarantine, QuarantinedTest},
    test::Identity,
};

use super::{Access, App, Caller, Error};

/// Longest reason, in bytes.
const MAX_REASON: usize = 1024;
/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// When a test leaves quarantine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expiration {
    /// After the default.
    Unsaid,
    /// Then.
    At(Timestamp),
    /// This long from now on.
    After(SignedDuration),
}

/// A test that somebody wants in quarantine.
#[derive(Debug)]
pub(crate) struct WantedQuarantine<'a> {
    pub(crate) test: Identity,
    /// Empty for all.
    pub(crate) workflow: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) expiration: Expiration,
}

impl App {
    /// Puts a test into quarantine; one that is there gets the new reason and end.
    pub(crate) async fn quarantine_test(
        &self,
        caller: &Caller,
        project: &str,
        wanted: &WantedQuarantine<'_>,
        request: Option<&Request>,
    ) -> Result<QuarantinedTest, Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let new = NewQuarantine {
            identity: wanted.test,
            workflow: wanted.workflow.to_owned(),
            reason: wanted.reason.trim().to_owned(),
            creator: caller.name.clone(),
            expire_time: check(wanted, self.clock.now())?,
        };
        let quarantine = self.store.quarantine(project.id);
        Ok(quarantine.put(&new, request).await?.value)
    }

    /// Takes a test out of quarantine.
    pub(crate) async fn release_test(
        &self,
        caller: &Caller,
        project: &str,
        test: Identity,
        workflow: &str,
        request: Option<&Request>,
    ) -> Result<(), Error> {
        let project = self.project(caller, project, Access::Write).await?;
        let quarantine = self.store.quarantine(project.id);
        quarantine.release(test, workflow, request).await?;
        Ok(())
    }

    /// Tests that are in quarantine now, or that have left it by its end.
    pub(crate) async fn list_quarantined_tests(
        &self,
        caller: &Caller,
        project: &str,
        expired: bool,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<QuarantinedTest, Cursor>, Error> {
        let project = self.project(caller, project, Access::Read).await?;
        let quarantine = self.store.quarantine(project.id);
        Ok(quarantine.list(expired, after, limit).await?)
    }
}

/// Refuses what can not be meant. Returns the end.
fn check(wanted: &WantedQuarantine<'_>, now: Timestamp) -> Result<Timestamp, Error> {
    if !wanted.workflow.is_empty() {
        name::check_subdomain(wanted.workflow)
            .map_err(|error| Error::invalid("workflow", error.to_string()))?;
    }
    let reason = wanted.reason.trim();
    if reason.is_empty() {
        let text = "must not be empty: say why the test may fail, such as the number of its issue";
        return Err(Error::invalid("reason", text));
    }
    if reason.len() > MAX_REASON {
        let text = format!(
            "has {} bytes, at most {MAX_REASON} are allowed",
            reason.len()
        );
        return Err(Error::invalid("reason", text));
    }
    let span = |given| SignedDuration::try_from(given).unwrap_or_default();
    let (field, left) = match wanted.expiration {
        Expiration::Unsaid => ("ttl", span(DEFAULT)),
        Expiration::At(end) => ("expire_time", end.duration_since(now)),
        Expiration::After(ttl) => ("ttl", ttl),
    };
    if left <= SignedDuration::ZERO {
        return Err(Error::invalid(field, "must be in the future"));
    }
    if left > span(LONGEST) {
        let days = LONGEST.as_secs() / DAY;
        let text = format!("must be at most {days} days from now: nobody would look at it again");
        return Err(Error::invalid(field, text));
    }
    now.checked_add(left)
        .map_err(|error| Error::invalid(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(reason: &str, workflow: &str, expiration: Expiration) -> Result<Timestamp, String> {
        let wanted = WantedQuarantine {
            test: [0; 16],
            workflow,
            reason,
            expiration,
        };
        check(&wanted, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())
    }

    #[test]
    fn a_reason_and_an_end_within_bounds_are_needed() {
        let day = SignedDuration::from_hours(24);
        let at = |days| Timestamp::UNIX_EPOCH + day * days;
        assert_eq!(end("flaky", "", Expiration::Unsaid), Ok(at(14)));
        assert_eq!(
            end("flaky", "smoke", Expiration::After(day * 90)),
            Ok(at(90))
        );
        assert_eq!(end("flaky", "", Expiration::At(at(3))), Ok(at(3)));
        let long = "x".repeat(MAX_REASON + 1);
        for (reason, workflow, expiration, field) in [
            (" ", "", Expiration::Unsaid, "reason"),
            (&long, "", Expiration::Unsaid, "reason"),
            ("flaky", "No Name", Expiration::Unsaid, "workflow"),
            ("flaky", "", Expiration::After(day * 91), "ttl"),
            ("flaky", "", Expiration::After(-day), "ttl"),
            ("flaky", "", Expiration::At(at(0)), "expire_time"),
            ("flaky", "", Expiration::At(Timestamp::MAX), "expire_time"),
        ] {
            let refused = end(reason, workflow, expiration).expect_err(field);
            assert!(refused.starts_with(field), "{refused}");
        }
    }
}
