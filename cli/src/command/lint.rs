//! `muster lint`: checks manifests here, as a server would when they are run.

mod check;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::{
    arguments::Global, error::Error, exit::Exit, files, json, manifest::Finding, terminal::Style,
};

const EXAMPLES: &str = "\
Examples:
  muster lint suite.yaml
  muster lint workflows/ templates/
  cat suite.yaml | muster lint -
  muster lint workflows/ --strict --output json";

/// Check manifests without a server
///
/// Reads files and folders, with all their documents, and compiles each workflow with the
/// templates that are among them, each template by itself, and a `TestWorkflowExecution` with the
/// workflow that it names. Nothing is said of what parameters without a default decide.
/// A template that is not there may be stored on the server, so it is a warning; with --strict
/// warnings count as problems. A file that can not be read is a problem of its own.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Files and folders; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Warnings count too
    #[arg(long)]
    strict: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    files: usize,
    workflows: usize,
    templates: usize,
    requests: usize,
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// Runs it.
pub(crate) fn execute(arguments: &Arguments, global: &Global) -> Result<Exit, Error> {
    let report = check::all(files::each(&arguments.paths)?);
    let bad = !report.problems.is_empty() || (arguments.strict && !report.warnings.is_empty());
    if global.json() {
        json::print(&report)?;
    } else {
        show(&report, global)?;
    }
    Ok(if bad { Exit::Failed } else { Exit::Success })
}

fn show(report: &Report, global: &Global) -> Result<(), Error> {
    let terminal = global.stdout();
    let mut text = String::new();
    for (findings, word, style) in [
        (&report.problems, "problem", Style::Red),
        (&report.warnings, "warning", Style::Yellow),
    ] {
        for finding in findings {
            let word = terminal.paint(style, word);
            text.push_str(&format!("{word}  {finding}\n"));
        }
    }
    text.push_str(&format!(
        "{}, {}, {}{}: {}, {}\n",
        count(report.files, "file"),
        count(report.workflows, "workflow"),
        count(report.templates, "template"),
        match report.requests {
            0 => String::new(),
            requests => format!(", {}", count(requests, "request")),
        },
        count(report.problems.len(), "problem"),
        count(report.warnings.len(), "warning"),
    ));
    super::print(&text)
}

fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}
