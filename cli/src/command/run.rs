//! `muster run`: runs a workflow here or on a server, shows it, and ends with its exit code. How
//! it is followed to its end is in [`watch`].

mod detached;
mod replicas;
mod request;
mod space;
mod watch;

use std::{path::PathBuf, time::Instant};

use clap::Args;
use muster_proto::v1::{Artifact, CreateExecutionRequest, Execution};
use uuid::Uuid;

use crate::{
    arguments::{Global, pair},
    client::Client,
    error::Error,
    exit::{self, Exit},
    follow::is_terminal,
    json,
    manifest::{self, Manifest},
    place::{self, Place, Session},
    report,
    signal::Interruptions,
    terminal::{Style, Terminal, escape},
    view::{View, screen::Screen},
};

use watch::Ended;

/// Run a workflow and show its progress, log and outcome
///
/// A FILE with a `TestWorkflowExecution` runs the workflow that it names, of the file or stored,
/// with its config, tags and target; those given here win.
///
/// Without a server, control plane and agent run in this process, steps run as processes of this
/// machine, and the results stay in the data folder. Members of suites with `async: true` are
/// waited for too; the exit code is that of the run itself. Ctrl-C cancels: `after` steps still
/// run; Ctrl-C again kills everything.
#[derive(Debug, Args)]
#[command(after_help = examples())]
pub(crate) struct Arguments {
    /// Manifest, - for standard input, or the name of a stored workflow when there is no such file
    #[arg(value_name = "FILE|WORKFLOW", required_unless_present_any = ["workflow", "execution"])]
    file: Option<PathBuf>,
    /// Workflow or `TestWorkflowExecution` of FILE to run, when it holds several
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Run a workflow that is stored, in place of FILE
    #[arg(long, value_name = "WORKFLOW", conflicts_with_all = ["file", "name"])]
    workflow: Option<String>,
    /// Run what an earlier execution ran, as `muster rerun` does
    #[arg(long, value_name = "EXECUTION", conflicts_with_all = ["file", "name", "workflow"])]
    execution: Option<String>,
    /// Template that is put below the run, as `muster server --global-template` does
    #[arg(long, value_name = "TEMPLATE")]
    global_template: Option<String>,
    /// Set by `muster rerun --failed`
    #[arg(skip)]
    failed_only: bool,
    #[command(flatten)]
    options: Options,
}

/// What `muster run` and `muster rerun` have in common.
#[derive(Debug, Args)]
struct Options {
    /// Value of a parameter in the workflow's `config`; may be given several times
    #[arg(long = "config", short, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Tag of the execution; may be given several times
    #[arg(long = "tag", short, value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Label that the agent must have; NAME!=VALUE for one that it must not have; several values
    /// of one name are alternatives
    #[arg(long = "target", value_name = "NAME=VALUE", value_parser = pair)]
    target: Vec<(String, String)>,
    /// Run once for each value that agents have of this label; given several times, for each
    /// combination
    #[arg(long, value_name = "LABEL")]
    replicate: Vec<String>,
    /// Print the name and leave; the server goes on. Needs a server: see --server and `muster context`
    #[arg(long, conflicts_with_all = ["artifacts", "quiet"])]
    detach: bool,
    /// Download the artifacts into this folder at the end
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Show only the summary
    #[arg(long, short)]
    quiet: bool,
    /// Leave every byte of the log as it is, even on a terminal
    #[arg(long)]
    raw: bool,
    /// UUID of the request; the same one again finds the same execution
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

const AGAIN: &str = "\
Examples:
  muster rerun smoke-3                        the same workflow, in the revision that it ran
  muster rerun smoke-3 --failed               what failed of it; the rest is taken over
  muster rerun smoke-3 --config url=http://localhost:3001
  muster rerun smoke-3 --detach --server https://muster.example:8443";

/// Run again what an earlier execution ran
///
/// The workflow in the revision that it ran, with its config, tags and target; those given here win.
/// Values of sensitive parameters were not kept and must be given.
///
/// With --failed, workers and members of suites that passed are not started again: they are taken over,
/// with their tests. Where a step has none, it is told the tests that failed, and runs them alone if the
/// workflow hands them to its tool: see `rerun` in docs/language.md.
#[derive(Debug, Args)]
#[command(after_help = AGAIN)]
pub(crate) struct Rerun {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Run only what did not pass: workers, members of suites, and failed tests
    #[arg(long, conflicts_with = "replicate")]
    failed: bool,
    #[command(flatten)]
    options: Options,
}

/// Runs `muster rerun`.
pub(crate) async fn rerun(arguments: Rerun, global: &Global) -> Result<Exit, Error> {
    let arguments = Arguments {
        file: None,
        name: None,
        workflow: None,
        execution: Some(arguments.id),
        global_template: None,
        failed_only: arguments.failed,
        options: arguments.options,
    };
    execute(arguments, global).await
}

fn examples() -> String {
    format!(
        "Examples:\n  \
         muster run examples/smoke.yaml\n  \
         muster run smoke                         a stored one, see `muster apply`\n  \
         muster run suite.yaml --name login --config url=http://localhost:3000 --artifacts out\n  \
         generate | muster run - --output json | jq .state\n  \
         muster run smoke.yaml --server https://muster.example:8443 --target region=east --detach\n  \
         muster run smoke --replicate cluster     once in each cluster\n\n{}",
        exit::TABLE
    )
}

/// Runs it.
pub(crate) async fn execute(mut arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let named = stored_name(&mut arguments);
    let manifest = read(&arguments, global)?;
    let local = place::place(global)? == Place::Local;
    if local {
        check_local(&arguments)?;
    } else if arguments.global_template.is_some() {
        return Err(Error::Usage(
            "--global-template is for runs on this machine: a server has its own, see `muster server --help`".to_owned(),
        ));
    }
    let mut interruptions = Interruptions::listen()?;
    let template = arguments.global_template.as_ref();
    let global_template = template.map(|name| name.replace('/', "--"));
    let session = tokio::select! {
        session = Session::open_with(global, global_template) => session?,
        () = interruptions.next() => return Err(Error::Interrupted),
    };
    let done = Box::pin(run(
        &session,
        manifest,
        &arguments,
        global,
        &mut interruptions,
    ))
    .await;
    session.close().await;
    done.map_err(|error| match named {
        Some(name) if error.is_not_found() => Error::Usage(format!(
            "there is no file '{name}' and no stored workflow '{name}'; give a FILE, or store the workflow with `muster apply -f FILE`"
        )),
        _ => error,
    })
}

/// Takes FILE for the name of a stored workflow when there is no such file and it looks like a
/// name. Returns the name.
fn stored_name(arguments: &mut Arguments) -> Option<String> {
    let path = arguments.file.as_ref()?;
    let name = path.to_str()?.to_owned();
    let is_file = name == "-" || name.ends_with(".yaml") || name.ends_with(".yml") || path.exists();
    if is_file || muster_core::name::check_subdomain(&name).is_err() {
        return None;
    }
    arguments.file = None;
    arguments.workflow = Some(name.clone());
    Some(name)
}

fn read(arguments: &Arguments, global: &Global) -> Result<Option<Manifest>, Error> {
    let Some(path) = &arguments.file else {
        return Ok(None);
    };
    let manifest = Manifest::read(path)?;
    for passed in manifest.choose(arguments.name.as_deref())? {
        super::note(global, &format!("warning: {passed}"));
    }
    Ok(Some(manifest))
}

fn check_local(arguments: &Arguments) -> Result<(), Error> {
    let needs = |what: &str, why: &str| {
        Err(Error::Usage(format!(
            "{what} needs a server: {why}; give --server or choose a context"
        )))
    };
    if arguments.options.detach {
        return needs("--detach", "nothing would run it after this command ends");
    }
    if !arguments.options.target.is_empty() {
        return needs("--target", "there is only one agent, this machine");
    }
    if !arguments.options.replicate.is_empty() {
        return needs("--replicate", "there is only one agent, this machine");
    }
    Ok(())
}

async fn run(
    session: &Session,
    manifest: Option<Manifest>,
    arguments: &Arguments,
    global: &Global,
    interruptions: &mut Interruptions,
) -> Result<Exit, Error> {
    let client = &session.client;
    let label = Uuid::new_v4().to_string();
    let request = request::request(session, manifest.as_ref(), arguments, &label)?;
    let (mut executions, interrupted) =
        create(client, request, interruptions)
            .await
            .map_err(|error| match &manifest {
                Some(manifest) => manifest.place(error),
                None => {
                    let name = arguments.workflow.as_deref().unwrap_or_default();
                    manifest::place_in(&format!("workflow/{name}"), error)
                }
            })?;
    if arguments.options.detach {
        for execution in executions {
            detach(client, execution, interrupted, global).await?;
        }
        return Ok(Exit::Success);
    }
    if executions.len() > 1 {
        return replicas::follow(
            client,
            executions,
            arguments,
            global,
            interruptions,
            interrupted,
        )
        .await;
    }
    let Some(execution) = executions.pop() else {
        return Err(empty());
    };
    let mut agent = match session.local() {
        Some(local) => Some(local.start_agent(client, &label).await?),
        None => None,
    };
    let name = execution.name.clone();
    let view = open_view(execution, arguments, global, agent.is_some());
    let space = session
        .local()
        .map(|local| space::Space::new(local.data_dir().to_path_buf(), Instant::now()));
    let ended = watch::watch(client, view, &mut agent, space, interruptions, interrupted).await;
    let ended = match (ended, &mut agent) {
        (Ok(ended), Some(agent)) if !ended.forced => {
            let all = detached::Session {
                client,
                label: &label,
            };
            let waiting =
                detached::wait_for_all(&all, agent, interruptions, ended.interrupted, global);
            Box::pin(waiting).await.map(|()| ended)
        }
        (ended, _) => ended,
    };
    let told = match ended {
        Ok(ended) => Box::pin(tell(client, &name, ended, arguments, global)).await,
        Err(error) => Err(error),
    };
    if let Some(agent) = agent {
        agent.close(client).await;
    }
    told
}

/// Creates the execution, or several where it is replicated. An interruption meanwhile is remembered:
/// the server may have accepted it already, so it must be canceled and not forgotten.
async fn create(
    client: &Client,
    request: CreateExecutionRequest,
    interruptions: &mut Interruptions,
) -> Result<(Vec<Execution>, bool), Error> {
    let call = client.call(async || client.executions().create_execution(request.clone()).await);
    let mut call = std::pin::pin!(call);
    let mut interrupted = false;
    let response = loop {
        tokio::select! {
            response = &mut call => break response?,
            () = interruptions.next() => {
                if std::mem::replace(&mut interrupted, true) {
                    return Err(Error::Interrupted);
                }
            }
        }
    };
    let mut executions = response.replicas;
    if executions.is_empty() {
        executions.extend(response.execution);
    }
    match executions.is_empty() {
        true => Err(empty()),
        false => Ok((executions, interrupted)),
    }
}

fn empty() -> Error {
    Error::Corrupt("the server sent an empty answer".to_owned())
}

async fn detach(
    client: &Client,
    execution: Execution,
    interrupted: bool,
    global: &Global,
) -> Result<(), Error> {
    if interrupted {
        super::cancel::cancel(client, execution.name, false, "interrupted").await?;
        return Err(Error::Interrupted);
    }
    let name = escape::visible(&execution.display_name);
    for warning in &execution.warnings {
        super::note(global, &format!("warning: {warning}"));
    }
    if global.json() {
        json::print(&json::Execution::new(&execution, &[]))?;
    } else {
        super::print(&format!("{name}\n"))?;
        super::note(
            global,
            &format!(
                "queued; `muster logs {name} -f` follows it, `muster wait {name}` waits for it"
            ),
        );
    }
    Ok(())
}

fn open_view(execution: Execution, arguments: &Arguments, global: &Global, local: bool) -> View {
    let terminal = terminal(global);
    let screen = if arguments.options.quiet {
        Screen::silent(terminal)
    } else if global.json() {
        Screen::new(Box::new(std::io::stderr()), terminal, arguments.options.raw)
    } else {
        Screen::new(Box::new(std::io::stdout()), terminal, arguments.options.raw)
    };
    let name = escape::visible(&execution.display_name);
    let name = terminal.paint(Style::Bold, &name);
    let place = match local {
        true => "runs on this machine",
        false => "is queued",
    };
    let mut view = View::new(screen, execution, Instant::now());
    view.open(&format!("{name} {}", terminal.paint(Style::Dim, place)));
    view
}

/// Where progress goes: with JSON, standard output is for the document alone.
fn terminal(global: &Global) -> Terminal {
    match global.json() {
        true => global.stderr(),
        false => global.stdout(),
    }
}

/// Tells what became of it: artifacts, summary, document, exit code.
async fn tell(
    client: &Client,
    name: &str,
    ended: Ended,
    arguments: &Arguments,
    global: &Global,
) -> Result<Exit, Error> {
    let execution = ended.execution;
    let exit = match (ended.forced, execution.state()) {
        (true, _) => Exit::Interrupted,
        (false, state) => Exit::of_state(state),
    };
    if !is_terminal(execution.state()) {
        let name = escape::visible(&execution.display_name);
        super::note(
            global,
            &format!("left while it still ends; see `muster get {name}`"),
        );
        return Ok(exit);
    }
    // Once more: what is known of the log may have come behind the last state.
    let execution = super::get::execution(client, name).await?;
    let artifacts = super::artifacts::list(client, name).await?;
    let proof = (!arguments.options.quiet).then_some(&ended.proof);
    let may_have_tests = !(artifacts.is_empty() && execution.children.is_empty());
    let tests = match may_have_tests {
        true => super::test_cases::summary(client, name, &terminal(global)).await,
        false => String::new(),
    };
    summarize(&execution, (&artifacts, &tests), proof, arguments, global)?;
    let downloaded = match &arguments.options.artifacts {
        Some(folder) => super::artifacts::download::all(client, &artifacts, folder, global).await,
        None => Ok(()),
    };
    if global.json() {
        json::print(&json::Execution::new(&execution, &artifacts))?;
    }
    // A failed download must not hide how the run ended, and a pass without its artifacts is none.
    match (downloaded, exit) {
        (Ok(()), exit) => Ok(exit),
        (Err(error), Exit::Success) => Err(error),
        (Err(error), exit) => {
            super::note(global, &error.to_string());
            Ok(exit)
        }
    }
}

fn summarize(
    execution: &Execution,
    (artifacts, tests): (&[Artifact], &str),
    proof: Option<&crate::view::LogProof>,
    arguments: &Arguments,
    global: &Global,
) -> Result<(), Error> {
    let text = report::summary(execution, (artifacts, tests), proof, &terminal(global));
    let space = if arguments.options.quiet { "" } else { "\n" };
    if !global.json() {
        return super::print(&format!("{space}{text}"));
    }
    if !arguments.options.quiet {
        use std::io::Write as _;
        // Nobody reads it: the document is what counts.
        let _unread = write!(std::io::stderr(), "{space}{text}");
    }
    Ok(())
}
