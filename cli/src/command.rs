//! Runs one command: picks the runtime and the log that fit it, and turns its end into an exit
//! code. What a command does is in its own file.

pub(crate) mod agent;
pub(crate) mod agents;
pub(crate) mod apply;
pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod delete;
pub(crate) mod du;
pub(crate) mod eval;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod lint;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod metrics;
pub(crate) mod pause;
pub(crate) mod pin;
pub(crate) mod projects;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod schema;
pub(crate) mod server;
pub(crate) mod stored;
pub(crate) mod test_cases;
pub(crate) mod tokens;
pub(crate) mod version;
pub(crate) mod wait;

use std::{
    io::Write as _,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{
    arguments::{Cli, Command, Global},
    error::Error,
    exit::{self, Exit},
    json,
    memory::SmallPages,
    terminal::{Style, Terminal},
    trace::{self, Audience},
};

/// Threads of a daemon and of a command: they wait most of the time, and each costs memory.
const THREADS: usize = 2;
/// Threads for blocking work, such as files.
const BLOCKING_THREADS: usize = 16;
/// How long tasks may take to end behind a command.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Whether something was written to standard output.
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// Runs the command.
pub(crate) fn execute(cli: Cli, pages: SmallPages) -> ExitCode {
    let audience = match cli.command {
        Command::Server(_) | Command::Agent(_) => Audience::Operator,
        _ => Audience::User,
    };
    trace::install(&cli.global, audience);
    if !is_childless_daemon(&cli.command) {
        pages.end();
    }
    let is_json = cli.global.json();
    let terminal = cli.global.stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Error::Local(format!("can not start threads: {error}")));
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(dispatch(cli));
        runtime.shutdown_timeout(SHUTDOWN);
        result
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error, &terminal);
            if is_json && !WRITTEN.load(Ordering::Relaxed) {
                // What went wrong is told already.
                let _unread = json::print(&error.document());
            }
            error.exit().into()
        }
    }
}

/// Whether it runs for long and starts no processes.
fn is_childless_daemon(command: &Command) -> bool {
    match command {
        Command::Server(_) => true,
        Command::Agent(arguments) => arguments.is_for_cluster(),
        _ => false,
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Error> {
    let global = &cli.global;
    match cli.command {
        Command::Run(arguments) => Box::pin(run::execute(*arguments, global)).await,
        Command::Ls(arguments) => ls::execute(arguments, global).await,
        Command::Get(arguments) => get::execute(arguments, global).await,
        Command::Logs(arguments) => logs::execute(arguments, global).await,
        Command::Artifacts(arguments) => artifacts::execute(arguments, global).await,
        Command::Tests(arguments) => test_cases::execute(arguments, global).await,
        Command::History(arguments) => history::history(arguments, global).await,
        Command::Flaky(arguments) => history::flaky(arguments, global).await,
        Command::Compare(arguments) => history::compare(arguments, global).await,
        Command::Metrics(arguments) => metrics::execute(arguments, global).await,
        Command::Quarantine(arguments) => quarantine::execute(arguments, global).await,
        Command::Rerun(arguments) => Box::pin(run::rerun(*arguments, global)).await,
        Command::Cancel(arguments) => cancel::execute(arguments, global).await,
        Command::Pause(arguments) => pause::pause(arguments, global).await,
        Command::Resume(arguments) => pause::resume(arguments, global).await,
        Command::Pin(arguments) => pin::pin(arguments, global).await,
        Command::Unpin(arguments) => pin::unpin(arguments, global).await,
        Command::Du(arguments) => du::execute(arguments, global).await,
        Command::Retention(arguments) => retention::execute(arguments, global).await,
        Command::Wait(arguments) => wait::execute(arguments, global).await,
        Command::Events(arguments) => events::execute(arguments, global).await,
        Command::Explain(arguments) => explain::execute(arguments, global).await,
        Command::Workflows(command) => {
            stored::execute(command, stored::Kind::Workflow, global).await
        }
        Command::Templates(command) => {
            stored::execute(command, stored::Kind::Template, global).await
        }
        Command::Apply(arguments) => Box::pin(apply::apply(arguments, global)).await,
        Command::Diff(arguments) => Box::pin(apply::diff(arguments, global)).await,
        Command::Delete(arguments) => Box::pin(apply::delete(arguments, global)).await,
        Command::Lint(arguments) => lint::execute(&arguments, global),
        Command::Eval(arguments) => eval::execute(&arguments, global),
        Command::Schema(arguments) => schema::execute(&arguments),
        Command::Context(arguments) => context::execute(arguments, global),
        Command::Server(arguments) => Box::pin(server::execute(*arguments, global)).await,
        Command::Agent(arguments) => Box::pin(agent::execute(*arguments, global)).await,
        Command::Agents(arguments) => agents::execute(arguments, global).await,
        Command::Projects(arguments) => projects::execute(arguments, global).await,
        Command::Queue(arguments) => queue::execute(arguments, global).await,
        Command::Audit(arguments) => audit::execute(arguments, global).await,
        Command::Tokens(arguments) => tokens::execute(arguments, global).await,
        Command::Credentials(arguments) => credentials::execute(arguments, global).await,
        Command::Completions(arguments) => completions::execute(&arguments),
        Command::Version(_) => version::execute(global),
        Command::ExitCodes => {
            print(&format!("{}\n", exit::TABLE))?;
            Ok(Exit::Success)
        }
    }
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    write(text.as_bytes())
}

/// Writes bytes to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Error> {
    WRITTEN.store(true, Ordering::Relaxed);
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::output)
}

/// Prints a line for people to standard error.
pub(crate) fn note(global: &Global, text: &str) {
    let terminal = global.stderr();
    let text = terminal.paint(Style::Dim, &crate::terminal::escape::visible_lines(text));
    // When nobody reads it, nobody misses it.
    let _unread = writeln!(std::io::stderr(), "{text}");
}

fn complain(error: &Error, terminal: &Terminal) {
    if matches!(error, Error::OutputClosed) {
        return;
    }
    let word = terminal.paint(Style::Red, "error:");
    let text = crate::terminal::escape::visible_lines(&error.to_string());
    // When nobody reads it, nobody misses it.
    let _unread = writeln!(std::io::stderr(), "{word} {text}");
}
