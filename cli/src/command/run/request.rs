//! From the command line to the request for an execution.

use std::collections::HashMap;

use muster_proto::v1::{
    CreateExecutionRequest, InlineWorkflow, LabelValues, QueuePolicy, Target,
    create_execution_request::Source,
};
use uuid::Uuid;

use super::Arguments;
use crate::{embedded::LocalAgent, error::Error, manifest::Manifest, place::Session};

/// How long a run of this machine may wait for its agent, which is in the same process: what
/// waits longer was left by a process that was killed.
const LOCAL_WAIT: prost_types::Duration = prost_types::Duration {
    seconds: 120,
    nanos: 0,
};

/// The request for what the user asked; on this machine for the agent with `label`.
pub(super) fn request(
    session: &Session,
    manifest: Option<&Manifest>,
    arguments: &Arguments,
    label: &str,
) -> Result<CreateExecutionRequest, Error> {
    let client = &session.client;
    let source = match (manifest, &arguments.workflow) {
        _ if arguments.execution.is_some() => {
            let id = arguments.execution.as_deref().unwrap_or_default();
            Source::Execution(client.execution_name(id)?)
        }
        (Some(manifest), _) => Source::Inline(InlineWorkflow {
            manifest: manifest.text.clone(),
            workflow: arguments.name.clone().unwrap_or_default(),
        }),
        (None, Some(name)) => Source::Workflow(client.resource_name("workflows", name)?),
        (None, None) => return Err(Error::Usage("give a FILE".to_owned())),
    };
    let target = match session.local() {
        Some(_) => Some(target(&[(LocalAgent::LABEL.to_owned(), label.to_owned())])),
        None if arguments.options.target.is_empty() && arguments.options.replicate.is_empty() => {
            None
        }
        None => Some(Target {
            replicate: arguments.options.replicate.clone(),
            ..target(&arguments.options.target)
        }),
    };
    let request_id = arguments.options.request_id.unwrap_or_else(Uuid::new_v4);
    Ok(CreateExecutionRequest {
        parent: client.parent(),
        request_id: request_id.to_string(),
        config: unique("config", &arguments.options.config)?,
        tags: unique("tag", &arguments.options.tags)?,
        target,
        queue_policy: session.local().map(|_| QueuePolicy {
            max_wait: Some(LOCAL_WAIT),
        }),
        source: Some(source),
        failed_only: arguments.failed_only,
    })
}

fn unique(flag: &str, pairs: &[(String, String)]) -> Result<HashMap<String, String>, Error> {
    let mut map = HashMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some() {
            return Err(Error::Usage(format!("--{flag} {key} is given twice")));
        }
    }
    Ok(map)
}

fn target(pairs: &[(String, String)]) -> Target {
    let mut target = Target::default();
    for (key, value) in pairs {
        let (map, key) = match key.strip_suffix('!') {
            Some(key) => (&mut target.not, key),
            None => (&mut target.r#match, key.as_str()),
        };
        let values: &mut LabelValues = map.entry(key.to_owned()).or_default();
        values.values.push(value.clone());
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn targets_of_one_name_are_alternatives() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let target = target(&[pair("a", "1"), pair("a", "2"), pair("b!", "3")]);
        assert_eq!(target.r#match["a"].values, ["1", "2"]);
        assert_eq!(target.not["b"].values, ["3"]);
    }

    #[test]
    fn a_config_value_given_twice_is_refused() {
        let pair = ("a".to_owned(), "1".to_owned());
        let error = unique("config", &[pair.clone(), pair]).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
    }
}
