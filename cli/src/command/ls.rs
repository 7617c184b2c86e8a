//! `muster ls`: executions, newest first.

use clap::Args;
use jiff::Timestamp;
use muster_proto::v1::{Execution, ListExecutionsRequest, execution::State, test_case};
use serde::Serialize;

use crate::{
    arguments::{Global, pair},
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    report,
    terminal::{
        measure,
        table::{Cell, Table},
    },
};

/// Largest page of the server.
const PAGE: i32 = 1000;

const EXAMPLES: &str = "\
Examples:
  muster ls
  muster ls --state failed --state aborted --limit 5
  muster ls --workflow smoke --tag branch=main --output json
  muster ls --workflow 'api-*' --label team=core --since 24h
  muster ls --state failed --text 'out of memory' --agent east --limit 0
  muster ls --test test_login --test-state failed --since 7d
  muster ls --children suite-7";

/// List executions, newest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only those of this workflow; with a * at its end, of all whose names begin so
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only those of this revision of the stored workflow
    #[arg(long, value_name = "NUMBER", requires = "workflow", value_parser = clap::value_parser!(i64).range(1..))]
    revision: Option<i64>,
    /// Only those in this state; may be given several times
    #[arg(long = "state", value_name = "STATE", value_parser = parse_state)]
    states: Vec<State>,
    /// Only those with this tag; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Only those with this label of their workflow, or with any value of it; may be given several times
    #[arg(long = "label", value_name = "NAME[=VALUE]")]
    labels: Vec<String>,
    /// Only those accepted since then: a duration back from now such as 24h, or a time
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    since: Option<Timestamp>,
    /// Only those accepted before then
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    until: Option<Timestamp>,
    /// Only those that have ended since then
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    finished_since: Option<Timestamp>,
    /// Only those that have ended before then
    #[arg(long, value_name = "TIME", value_parser = super::logs::moment)]
    finished_until: Option<Timestamp>,
    /// Only those with an attempt on this agent, which stands for its cluster
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those whose own reason or message holds this text, in either case: not messages of tests, and not
    /// logs, see `muster logs --grep`
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only those of this concurrency group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Only those with a result of this test, or of what they have started: a part of its class or name, or
    /// its identity, as `muster history` has it
    #[arg(long, value_name = "TEXT|IDENTITY")]
    test: Option<String>,
    /// Only those where that test ended so: passed, skipped, failed or error; may be given several times
    #[arg(long = "test-state", value_name = "STATE", requires = "test", value_parser = parse_test_state)]
    test_states: Vec<test_case::State>,
    /// Only what this execution has started: its workers, services and suite members
    #[arg(long, value_name = "EXECUTION")]
    children: Option<String>,
    /// At most so many; 0 for all
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
}

impl Arguments {
    /// What is said when there is nothing to list.
    fn nothing(&self) -> &'static str {
        let given = [
            &self.workflow,
            &self.children,
            &self.agent,
            &self.text,
            &self.group,
            &self.test,
        ];
        let times = [
            self.since,
            self.until,
            self.finished_since,
            self.finished_until,
        ];
        let all = given.iter().all(|it| it.is_none())
            && times.iter().all(Option::is_none)
            && self.states.is_empty()
            && self.tags.is_empty()
            && self.labels.is_empty();
        match all {
            true => "no executions; `muster run FILE` makes one",
            false => "no executions match; `muster ls` without options shows the newest of all",
        }
    }
}

#[derive(Serialize)]
struct Executions {
    executions: Vec<json::Execution>,
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let executions = list(&session.client, &arguments).await;
    session.close().await;
    let executions = executions?;
    if global.json() {
        let executions = executions.iter().map(|one| json::Execution::new(one, &[]));
        json::print(&Executions {
            executions: executions.collect(),
        })?;
    } else if executions.is_empty() {
        super::note(global, arguments.nothing());
    } else {
        super::print(&table(&executions).render(&global.stdout()))?;
    }
    Ok(Exit::Success)
}

async fn list(client: &Client, arguments: &Arguments) -> Result<Vec<Execution>, Error> {
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let named = arguments.workflow.clone().unwrap_or_default();
    let (workflow, workflow_prefix) = match named.strip_suffix('*') {
        Some("") => (String::new(), String::new()),
        Some(prefix) => (String::new(), prefix.to_owned()),
        None => (named, String::new()),
    };
    let mut request = ListExecutionsRequest {
        parent_execution: match &arguments.children {
            Some(id) => client.execution_name(id)?,
            None => String::new(),
        },
        parent: client.parent(),
        page_token: String::new(),
        page_size: 0,
        workflow,
        workflow_prefix,
        workflow_revision: arguments.revision.unwrap_or_default(),
        labels: arguments.labels.clone(),
        created_since: arguments.since.map(crate::json::wire),
        created_until: arguments.until.map(crate::json::wire),
        finished_since: arguments.finished_since.map(crate::json::wire),
        finished_until: arguments.finished_until.map(crate::json::wire),
        agent: arguments.agent.clone().unwrap_or_default(),
        text: arguments.text.clone().unwrap_or_default(),
        concurrency_group: arguments.group.clone().unwrap_or_default(),
        test: arguments.test.clone().unwrap_or_default(),
        test_states: arguments
            .test_states
            .iter()
            .map(|&state| state.into())
            .collect(),
        states: arguments.states.iter().map(|&state| state.into()).collect(),
        tags: arguments.tags.iter().cloned().collect(),
    };
    let mut executions = Vec::new();
    loop {
        let missing = limit - executions.len();
        request.page_size = i32::try_from(missing).unwrap_or(PAGE).min(PAGE);
        let response = client
            .call(async || client.executions().list_executions(request.clone()).await)
            .await?;
        executions.extend(response.executions);
        request.page_token = response.next_page_token;
        if request.page_token.is_empty() || executions.len() >= limit {
            executions.truncate(limit);
            return Ok(executions);
        }
    }
}

fn table(executions: &[Execution]) -> Table {
    let now = muster_core::clock::Clock::system().now();
    let mut table = Table::new(&["NAME", "STATE", "CREATED", "DURATION", "TAGS"]);
    for execution in executions {
        let state = execution.state();
        let mut word = json::state(state).replace('_', " ");
        if execution.pin.is_some() {
            word.push_str(", pinned");
        }
        table.row([
            execution.display_name.as_str().into(),
            Cell::styled(word, report::state_style(state)),
            age(execution, now).into(),
            duration(execution, now).into(),
            super::get::pairs(&execution.tags).into(),
        ]);
    }
    table
}

fn age(execution: &Execution, now: Timestamp) -> String {
    let created = json::time(execution.create_time.as_ref());
    created.map_or_else(String::new, |created| measure::age(created, now))
}

fn duration(execution: &Execution, now: Timestamp) -> String {
    let start = json::time(execution.start_time.as_ref());
    let finish = json::time(execution.finish_time.as_ref()).or(Some(now));
    measure::between(start, finish).map_or_else(String::new, measure::duration)
}

fn parse_state(text: &str) -> Result<State, String> {
    let wanted = format!("STATE_{}", text.replace('-', "_").to_ascii_uppercase());
    let known = || (1..=11).filter_map(|number| State::try_from(number).ok());
    known()
        .find(|state| state.as_str_name() == wanted)
        .ok_or_else(|| {
            let names: Vec<_> = known().map(json::state).collect();
            format!("'{text}' is no state; there are {}", names.join(", "))
        })
}

fn parse_test_state(text: &str) -> Result<test_case::State, String> {
    use test_case::State as S;
    match text {
        "passed" => Ok(S::Passed),
        "skipped" => Ok(S::Skipped),
        "failed" => Ok(S::Failed),
        "error" => Ok(S::Error),
        other => Err(format!(
            "'{other}' is no state of a test; there are passed, skipped, failed, error"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_named_as_they_are_shown() {
        assert_eq!(parse_state("timed_out"), Ok(State::TimedOut));
        assert_eq!(parse_state("timed-out"), Ok(State::TimedOut));
        assert!(parse_state("green").is_err_and(|error| error.contains("passed")));
        assert!(parse_state("unspecified").is_err());
    }
}
