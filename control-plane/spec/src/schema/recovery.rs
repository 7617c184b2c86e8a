//! `execution.recovery` and `concurrency`: what follows when an attempt ends badly, and with whom a
//! run shares its turn.

use serde::{Deserialize, Serialize};

use super::field::{Found, Object, Reader, Text};

/// `execution.recovery`; all fields are templates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// `lostAgent`: `wait`, `rerun` or `fail`.
    pub lost_agent: Option<Text>,
    /// `lostAgentAfter`: a duration.
    pub lost_agent_after: Option<Text>,
    /// `interrupted`: `rerun` or `fail`.
    pub interrupted: Option<Text>,
    /// `infrastructureRetries`: a number.
    pub infrastructure_retries: Option<Text>,
    /// `testRetries`: a number.
    pub test_retries: Option<Text>,
}

/// `concurrency`; all fields are templates.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Concurrency {
    /// `group`: its name in the project.
    pub group: Option<Text>,
    /// `max`: how many of it may run.
    pub max: Option<Text>,
    /// `cancelInProgress`: a new one ends older ones that are too many.
    pub cancel_in_progress: Option<bool>,
}

impl Recovery {
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let recovery = Self {
            lost_agent: object.said(reader, "lostAgent"),
            lost_agent_after: object.said(reader, "lostAgentAfter"),
            interrupted: object.said(reader, "interrupted"),
            infrastructure_retries: object.scalar(reader, "infrastructureRetries"),
            test_retries: object.scalar(reader, "testRetries"),
        };
        object.finish(reader);
        Some(recovery)
    }

    /// This one where it says something, and `below` where it does not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            lost_agent: self.lost_agent.or(below.lost_agent),
            lost_agent_after: self.lost_agent_after.or(below.lost_agent_after),
            interrupted: self.interrupted.or(below.interrupted),
            infrastructure_retries: self.infrastructure_retries.or(below.infrastructure_retries),
            test_retries: self.test_retries.or(below.test_retries),
        }
    }

    /// All texts with their names.
    pub(crate) fn texts(&self) -> [(&'static str, Option<&Text>); 5] {
        [
            ("lostAgent", self.lost_agent.as_ref()),
            ("lostAgentAfter", self.lost_agent_after.as_ref()),
            ("interrupted", self.interrupted.as_ref()),
            (
                "infrastructureRetries",
                self.infrastructure_retries.as_ref(),
            ),
            ("testRetries", self.test_retries.as_ref()),
        ]
    }

    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        [
            &mut self.lost_agent,
            &mut self.lost_agent_after,
            &mut self.interrupted,
            &mut self.infrastructure_retries,
            &mut self.test_retries,
        ]
        .into_iter()
        .flatten()
    }
}

impl Concurrency {
    pub(super) fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let found = spec.take("concurrency");
        let Some(mut object) = found.and_then(|found| found.object(reader)) else {
            return Self::default();
        };
        let concurrency = Self {
            group: object.said(reader, "group"),
            max: object.scalar(reader, "max"),
            cancel_in_progress: object.flag(reader, "cancelInProgress"),
        };
        object.finish(reader);
        concurrency
    }

    /// This one where it says something, and `below` where it does not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            group: self.group.or(below.group),
            max: self.max.or(below.max),
            cancel_in_progress: self.cancel_in_progress.or(below.cancel_in_progress),
        }
    }

    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        [&mut self.group, &mut self.max].into_iter().flatten()
    }
}
