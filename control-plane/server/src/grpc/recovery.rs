//! The policy of a project as it is told and read.

use std::time::Duration;

use muster_core::policy::{Interrupted, LostAgent, Policy};
use muster_proto::v1::{Recovery, recovery};

use super::convert::signed;
use crate::app::Error;

pub(super) fn show(policy: &Policy) -> Recovery {
    use recovery::{Interrupted as I, LostAgent as L};
    let wait = |millis: Option<u64>| {
        millis.and_then(|millis| Duration::from_millis(millis).try_into().ok())
    };
    Recovery {
        lost_agent: match policy.lost_agent {
            None => L::Unspecified,
            Some(LostAgent::Wait) => L::Wait,
            Some(LostAgent::Rerun) => L::Rerun,
            Some(LostAgent::Fail) => L::Fail,
        }
        .into(),
        lost_agent_after: wait(policy.lost_agent_after_ms),
        interrupted: match policy.interrupted {
            None => I::Unspecified,
            Some(Interrupted::Rerun) => I::Rerun,
            Some(Interrupted::Fail) => I::Fail,
        }
        .into(),
        infrastructure_retries: policy.infrastructure_retries.map(signed),
        test_retries: policy.test_retries.map(signed),
        start_timeout: wait(policy.start_timeout_ms),
        run_timeout: wait(policy.run_timeout_ms),
        stop_grace: wait(policy.stop_grace_ms),
    }
}

pub(super) fn read(told: &Recovery) -> Result<Policy, Error> {
    use recovery::{Interrupted as I, LostAgent as L};
    Ok(Policy {
        lost_agent: match told.lost_agent() {
            L::Unspecified => None,
            L::Wait => Some(LostAgent::Wait),
            L::Rerun => Some(LostAgent::Rerun),
            L::Fail => Some(LostAgent::Fail),
        },
        lost_agent_after_ms: wait("lost_agent_after", told.lost_agent_after)?,
        interrupted: match told.interrupted() {
            I::Unspecified => None,
            I::Rerun => Some(Interrupted::Rerun),
            I::Fail => Some(Interrupted::Fail),
        },
        infrastructure_retries: number(
            "recovery.infrastructure_retries",
            told.infrastructure_retries,
        )?,
        test_retries: number("recovery.test_retries", told.test_retries)?,
        start_timeout_ms: wait("start_timeout", told.start_timeout)?,
        run_timeout_ms: wait("run_timeout", told.run_timeout)?,
        stop_grace_ms: wait("stop_grace", told.stop_grace)?,
    })
}

fn wait(field: &str, told: Option<prost_types::Duration>) -> Result<Option<u64>, Error> {
    let Some(told) = told else { return Ok(None) };
    let refused = || {
        let text = "must be more than zero, and less than 100 years";
        Error::invalid(format!("project.recovery.{field}"), text)
    };
    let wait = Duration::try_from(told).map_err(|_negative| refused())?;
    let millis = u64::try_from(wait.as_millis()).map_err(|_too_long| refused())?;
    const LONGEST: u64 = 100 * 365 * 24 * 3600 * 1000;
    if millis == 0 || millis > LONGEST {
        return Err(refused());
    }
    Ok(Some(millis))
}

/// A number of a project that can not be negative.
pub(super) fn number(field: &str, told: Option<i32>) -> Result<Option<u32>, Error> {
    let Some(told) = told else { return Ok(None) };
    let read = u32::try_from(told);
    read.map(Some).map_err(|_negative| {
        let text = format!("{told} is below 0");
        Error::invalid(format!("project.{field}"), text)
    })
}
