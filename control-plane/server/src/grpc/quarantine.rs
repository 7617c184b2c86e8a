//! Tests in quarantine, between the wire and the use cases.

use jiff::SignedDuration;
use muster_proto::v1::{self, QuarantineTestRequest, quarantine_test_request::Expiration as Told};
use muster_storage::quarantine::{Mark, QuarantinedTest};

use super::{convert, test_cases::show_test};
use crate::app::{Error, Expiration};

/// When a test is to leave quarantine.
pub(super) fn read_expiration(message: &QuarantineTestRequest) -> Result<Expiration, Error> {
    match message.expiration {
        None => Ok(Expiration::Unsaid),
        Some(Told::ExpireTime(time)) => convert::read_time("expire_time", time).map(Expiration::At),
        Some(Told::Ttl(ttl)) => {
            // Whatever is outside of a duration is outside of what is allowed.
            let seconds = ttl.seconds.clamp(-1_000_000_000, 1_000_000_000);
            let nanos = ttl.nanos.clamp(-999_999_999, 999_999_999);
            Ok(Expiration::After(
                SignedDuration::from_secs(seconds) + SignedDuration::from_nanos(nanos.into()),
            ))
        }
    }
}

/// The same as text, for the audit log and to tell requests apart.
pub(super) fn expiration(message: &QuarantineTestRequest) -> String {
    match message.expiration {
        None => String::new(),
        Some(Told::ExpireTime(time)) => convert::read_time("expire_time", time)
            .map_or_else(|_odd| format!("{time:?}"), |time| time.to_string()),
        Some(Told::Ttl(ttl)) => format!("{}.{:09}s", ttl.seconds, ttl.nanos),
    }
}

pub(super) fn show_mark(mark: Mark) -> v1::Quarantine {
    v1::Quarantine {
        reason: mark.reason,
        expire_time: Some(convert::timestamp(mark.expire_time)),
    }
}

pub(super) fn show(project: &str, entry: QuarantinedTest) -> v1::QuarantinedTest {
    v1::QuarantinedTest {
        test: Some(show_test(project, entry.test)),
        workflow: entry.workflow,
        quarantine: Some(show_mark(entry.mark)),
        creator: entry.creator,
        create_time: Some(convert::timestamp(entry.create_time)),
    }
}
