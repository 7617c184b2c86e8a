//! Which log is meant, and which step of it.

use muster_proto::v1::{Execution, child_origin::Role};

use super::Arguments;
use crate::{client::Client, command::get, error::Error};

/// What is to be read.
pub(super) struct Chosen {
    /// Resource name of the execution.
    pub(super) name: String,
    /// Reference of the step; empty for all.
    pub(super) step: String,
}

/// Finds the execution, or its worker or service, and the step.
pub(super) async fn choose(client: &Client, arguments: &Arguments) -> Result<Chosen, Error> {
    let is_child = arguments.worker.is_some() || arguments.service.is_some();
    if !is_child && arguments.step.is_none() {
        return Ok(Chosen {
            name: client.execution_name(&arguments.id)?,
            step: String::new(),
        });
    }
    let execution = get::execution(client, &arguments.id).await?;
    if !is_child {
        let step = step(&execution, arguments.step.as_deref().unwrap_or_default())?;
        return Ok(Chosen {
            name: execution.name,
            step,
        });
    }
    let name = child(&execution, arguments)?.name.clone();
    let step = match &arguments.step {
        Some(wanted) => step(&get::execution(client, &name).await?, wanted)?,
        None => String::new(),
    };
    Ok(Chosen { name, step })
}

/// The reference of a step by its id, name or reference.
fn step(execution: &Execution, wanted: &str) -> Result<String, Error> {
    let steps = &execution.steps;
    let found = steps
        .iter()
        .find(|step| step.reference == *wanted)
        .or_else(|| steps.iter().find(|step| step.id == *wanted))
        .or_else(|| steps.iter().find(|step| step.display_name == *wanted));
    if let Some(step) = found {
        return Ok(step.reference.clone());
    }
    let known: Vec<_> = steps
        .iter()
        .map(|step| format!("{} ({})", step.reference, step.display_name))
        .collect();
    Err(Error::Usage(format!(
        "{} has no step '{wanted}', only {}",
        execution.display_name,
        known.join(", ")
    )))
}

/// The worker or service that is meant.
fn child<'a>(execution: &'a Execution, arguments: &Arguments) -> Result<&'a Execution, Error> {
    let wanted = |child: &&Execution| {
        let Some(origin) = &child.origin else {
            return false;
        };
        let index = u32::try_from(origin.index).ok();
        match (arguments.worker, arguments.service.as_deref()) {
            (Some(worker), _) => origin.role() != Role::Service && index == Some(worker),
            (None, Some(service)) => {
                let (name, number) = match service.rsplit_once('/') {
                    Some((name, number)) => (name, number.parse().ok()),
                    None => (service, None),
                };
                let group = origin.group.split('_').next().unwrap_or_default();
                let named = group == name || group.ends_with(&format!("-{name}"));
                origin.role() == Role::Service
                    && named
                    && number.is_none_or(|number| index == Some(number))
            }
            (None, None) => false,
        }
    };
    let found: Vec<_> = execution.children.iter().filter(wanted).collect();
    match found.as_slice() {
        [one] => Ok(one),
        several => {
            let (problem, shown) = match several {
                [] => ("has no such child", execution.children.iter().collect()),
                _ => ("has several of them", found),
            };
            let names: Vec<_> = shown.iter().take(20).map(|child| label(child)).collect();
            let cure = match names.as_slice() {
                [] => "it has started none".to_owned(),
                names => format!("take one by its name: {}", names.join(", ")),
            };
            let name = &execution.display_name;
            Err(Error::Usage(format!("{name} {problem}; {cure}")))
        }
    }
}

fn label(child: &Execution) -> String {
    let origin = child.origin.clone().unwrap_or_default();
    let role = crate::json::role(origin.role());
    format!(
        "{} ({role} {}/{})",
        child.display_name, origin.group, origin.index
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use muster_proto::v1::ChildOrigin;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn execution() -> Execution {
        let child = |name: &str, role: Role, group: &str, index| Execution {
            name: name.to_owned(),
            display_name: name.to_owned(),
            origin: Some(ChildOrigin {
                role: role.into(),
                group: group.to_owned(),
                index,
                ..ChildOrigin::default()
            }),
            ..Execution::default()
        };
        Execution {
            display_name: "load-7".to_owned(),
            children: vec![
                child("w0", Role::Worker, "s2", 0),
                child("w1", Role::Worker, "s2", 1),
                child("again", Role::Worker, "s3", 1),
                child("db0", Role::Service, "db", 0),
                child("db1", Role::Service, "db", 1),
                child("cache", Role::Service, "s2-cache", 0),
            ],
            ..Execution::default()
        }
    }

    fn found(words: &[&str]) -> Result<String, String> {
        let line = Line::try_parse_from(["logs", "load-7"].iter().chain(words)).unwrap();
        child(&execution(), &line.arguments)
            .map(|child| child.name.clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn workers_and_services_are_found_by_index_and_name() {
        assert_eq!(found(&["--worker", "0"]).as_deref(), Ok("w0"));
        assert_eq!(found(&["--service", "cache"]).as_deref(), Ok("cache"));
        assert_eq!(found(&["--service", "db/1"]).as_deref(), Ok("db1"));
    }

    #[test]
    fn what_is_not_one_is_refused_with_the_names_to_choose_from() {
        let several = found(&["--worker", "1"]).unwrap_err();
        assert!(several.contains("several"), "{several}");
        assert!(
            several.contains("w1 (worker s2/1), again (worker s3/1)"),
            "{several}"
        );
        let none = found(&["--worker", "9"]).unwrap_err();
        assert!(
            none.contains("no such child; take one by its name: w0"),
            "{none}"
        );
        assert!(found(&["--service", "db"]).is_err());
    }
}
