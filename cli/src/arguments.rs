//! The command line as a whole: global options and the list of commands. What a command takes is
//! in its own file.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::{
    command::{
        agent, agents, apply, artifacts, audit, cancel, completions, context, credentials, du,
        eval, events, explain, get, history, lint, logs, ls, metrics, pause, pin, projects,
        quarantine, queue, retention, run, schema, server, stored, test_cases, tokens, version,
        wait,
    },
    exit,
    terminal::{ColorChoice, Terminal},
};

const EXAMPLES: &str = "\
Examples:
  muster run examples/smoke.yaml          run a workflow here, without any server
  muster ls                               what was run
  muster logs smoke-1                     what it printed
  muster artifacts smoke-1 --download out
  muster context set prod --server https://muster.example:8443 --token-file token
  muster run smoke.yaml --target region=east

Without --server and without a context all commands work on this machine's own data
(--data-dir). `muster help exit-codes` lists the exit codes.";

/// Runs tests as Kubernetes Jobs across many clusters, or as processes on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "muster",
    version,
    after_help = EXAMPLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands. Variables of the environment are read where a value is needed, so
/// that `context set` stores only what was typed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Server, as https://HOST:PORT
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Server, as https://HOST:PORT; http:// speaks plain text [env: MUSTER_SERVER]"
    )]
    pub(crate) server: Option<String>,
    /// Token
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        conflicts_with = "token_file",
        help = "Token; others can see it in the list of processes, so better a file [env: MUSTER_TOKEN]"
    )]
    pub(crate) token: Option<String>,
    /// File that holds the token
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "File that holds the token [env: MUSTER_TOKEN_FILE]"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// PEM certificates to trust in place of the system's
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "PEM certificates to trust in place of the system's [env: MUSTER_CA_FILE]"
    )]
    pub(crate) ca_file: Option<PathBuf>,
    /// Project
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help = "Project [env: MUSTER_PROJECT] [default: default]"
    )]
    pub(crate) project: Option<String>,
    /// Context to use
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help = "Context to use; local means this machine's own data [env: MUSTER_CONTEXT]"
    )]
    pub(crate) context: Option<String>,
    /// Form of the output
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        hide_possible_values = true,
        help = "Form of the output: text, or json for one document"
    )]
    pub(crate) output: Form,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        help = "Colours: auto (on a terminal, unless NO_COLOR is set), always or never"
    )]
    pub(crate) color: ColorChoice,
    /// Folder of this machine's own data
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help = "Folder of this machine's own data [env: MUSTER_DATA_DIR] [default: ~/.local/share/muster]"
    )]
    pub(crate) data_dir: Option<PathBuf>,
    /// Tell more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Form of the program's own log
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM",
        hide_possible_values = true,
        help = "Form of the program's own log on standard error, text or json; MUSTER_LOG filters it"
    )]
    pub(crate) log_format: Form,
}

impl Global {
    /// Standard output, with the wanted colours.
    pub(crate) fn stdout(&self) -> Terminal {
        Terminal::stdout(self.color)
    }

    /// Standard error, with the wanted colours.
    pub(crate) fn stderr(&self) -> Terminal {
        Terminal::stderr(self.color)
    }

    /// Whether the output is for a program.
    pub(crate) fn json(&self) -> bool {
        self.output == Form::Json
    }
}

/// Form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Arguments>),
    #[command(visible_alias = "list")]
    Ls(ls::Arguments),
    Get(get::Arguments),
    Logs(logs::Arguments),
    Artifacts(artifacts::Arguments),
    Tests(test_cases::Arguments),
    History(history::History),
    Flaky(history::Flaky),
    Compare(history::Compare),
    Metrics(metrics::Arguments),
    Quarantine(quarantine::Arguments),
    Rerun(Box<run::Rerun>),
    Cancel(cancel::Arguments),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Pin(pin::Pin),
    Unpin(pin::Unpin),
    Wait(wait::Arguments),
    Events(events::Arguments),
    Explain(explain::Arguments),
    Lint(lint::Arguments),
    Eval(eval::Arguments),
    Schema(schema::Arguments),
    Apply(apply::Apply),
    Diff(apply::Diff),
    Delete(apply::Delete),
    /// Keep workflows on a server
    #[command(subcommand, visible_alias = "workflow", after_help = stored::WORKFLOWS)]
    Workflows(stored::Command),
    /// Keep templates on a server
    #[command(subcommand, visible_alias = "template", after_help = stored::TEMPLATES)]
    Templates(stored::Command),
    Context(context::Arguments),
    Server(Box<server::Arguments>),
    Agent(Box<agent::Arguments>),
    Agents(agents::Arguments),
    Projects(projects::Arguments),
    Queue(queue::Arguments),
    Retention(retention::Arguments),
    Du(du::Arguments),
    Tokens(tokens::Arguments),
    Credentials(credentials::Arguments),
    Audit(audit::Arguments),
    Completions(completions::Arguments),
    Version(version::Arguments),
    /// What the exit codes mean
    #[command(hide = true, long_about = exit::TABLE)]
    ExitCodes,
}

/// Parses the command line; prints help or an error and ends the process where that is asked for.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command line. A command below another one shows those examples of it that name it.
pub(crate) fn command() -> clap::Command {
    Cli::command().mut_subcommands(|group| {
        let name = group.get_name().to_owned();
        let all = group.get_after_help().map(ToString::to_string);
        let all = all.unwrap_or_default();
        group.mut_subcommands(|command| {
            let words = format!("muster {name} {}", command.get_name());
            let lines = all.lines().filter(|line| {
                let line = line.trim_start();
                line.strip_prefix(words.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            });
            let lines: Vec<&str> = lines.collect();
            if lines.is_empty() {
                return command;
            }
            command.after_help(format!("Examples:\n{}", lines.join("\n")))
        })
    })
}

/// Parses `key=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err(format!("'{text}' has no name before '='")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("'{text}' has no '='; write NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_a_summary_and_examples() {
        let line = command();
        let groups = line
            .get_subcommands()
            .filter(|command| !command.is_hide_set());
        for command in groups.flat_map(|group| [group].into_iter().chain(group.get_subcommands())) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains("muster")),
                "{name} has no examples"
            );
        }
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err_and(|error| error.contains("NAME=VALUE")));
        assert!(pair("=b").is_err());
    }
}
