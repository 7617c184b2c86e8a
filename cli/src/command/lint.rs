//! `muster lint`: checks manifests here, as a server would when they are run.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use muster_spec::{
    compile::{ExecutionInfo, Input, Undeclared, compile},
    manifest::Document,
    problem::Problem,
    schema::{Kind, Parameter, Request, Step, Template, Text, Workflow},
    suggest,
};
use serde::Serialize;

use crate::{
    arguments::Global, error::Error, exit::Exit, files, json, manifest::Manifest, terminal::Style,
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
/// templates that are among them; a `TestWorkflowExecution` with the
/// workflow that it names. Parameters without a default get a value that fits their type.
/// A template that is not there may be stored on the server, so it is a warning; with --strict
/// warnings count as problems.
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

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    file: String,
    line: usize,
    column: usize,
    document: String,
    path: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

/// Runs it.
pub(crate) fn execute(arguments: &Arguments, global: &Global) -> Result<Exit, Error> {
    let manifests = files::read(&arguments.paths)?;
    let report = check(&manifests);
    let bad = !report.problems.is_empty() || (arguments.strict && !report.warnings.is_empty());
    if global.json() {
        json::print(&report)?;
    } else {
        show(&report, global)?;
    }
    Ok(if bad { Exit::Failed } else { Exit::Success })
}

fn check(manifests: &[Manifest]) -> Report {
    let mut report = Report {
        files: manifests.len(),
        ..Report::default()
    };
    let mut workflows = Vec::new();
    let mut templates = Vec::new();
    let mut requests = Vec::new();
    for manifest in manifests {
        match manifest.parse() {
            Err(problems) => {
                let found = problems.into_iter();
                report
                    .problems
                    .extend(found.map(|problem| Finding::new(manifest, &problem)));
            }
            Ok(documents) => {
                for document in documents {
                    match document {
                        Document::Workflow(workflow) => workflows.push((manifest, workflow)),
                        Document::Template(template) => templates.push(template),
                        Document::Request(request) => requests.push((manifest, request)),
                        Document::Foreign(foreign) => report
                            .warnings
                            .push(Finding::new(manifest, &foreign.problem)),
                    }
                }
            }
        }
    }
    report.workflows = workflows.len();
    report.templates = templates.len();
    report.requests = requests.len();
    for (manifest, workflow) in &workflows {
        check_workflow(manifest, workflow, &templates, &mut report);
    }
    for (manifest, workflow) in &workflows {
        let spec = &workflow.spec;
        for step in spec.setup.iter().chain(&spec.steps).chain(&spec.after) {
            check_members(manifest, step, &workflows, &mut report);
        }
    }
    for (manifest, request) in &requests {
        check_request(manifest, request, &workflows, &templates, &mut report);
    }
    report
}

/// The workflow of a name; a warning when it is not among the files, since it may be stored.
fn named<'a>(
    manifest: &Manifest,
    name: &Text,
    workflows: &'a [(&Manifest, Workflow)],
    report: &mut Report,
) -> Option<&'a Workflow> {
    let wanted = name.text.as_str();
    let found = workflows.iter().find(|(_, it)| it.metadata.name == wanted);
    if found.is_none() {
        let known = workflows.iter().map(|(_, it)| it.metadata.name.as_str());
        let mut problem = Problem::new(
            &name.place,
            format!("there is no workflow `{wanted}` among these files"),
        );
        problem.cure = Some(match suggest::nearest(wanted, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "it must be stored where this is run".to_owned(),
        });
        report.warnings.push(Finding::new(manifest, &problem));
    }
    found.map(|(_, workflow)| workflow)
}

/// Checks the members of suites that are named without expressions: the workflows, and the names
/// of their parameters.
fn check_members(
    manifest: &Manifest,
    step: &Step,
    workflows: &[(&Manifest, Workflow)],
    report: &mut Report,
) {
    let members = step.execute.iter().flat_map(|execute| &execute.workflows);
    for member in members {
        let name = member.name.as_ref();
        let Some(name) = name.filter(|name| !name.text.contains("{{")) else {
            continue;
        };
        let Some(workflow) = named(manifest, name, workflows, report) else {
            continue;
        };
        let parameters = &workflow.spec.config;
        let is_given = |name| member.config.contains_key(name) || member.tarball.contains_key(name);
        // A misspelt name is the likely reason why another one has no value.
        let all_known = parameters
            .iter()
            .all(|(name, parameter)| parameter.default.is_some() || is_given(name));
        for (parameter, value) in &member.config {
            if parameters.contains_key(parameter) {
                continue;
            }
            let mut message = format!(
                "there is no parameter `{parameter}` of the workflow `{}`",
                name.text
            );
            if all_known {
                message.push_str("; it is passed on as text");
            }
            let mut problem = Problem::new(&value.place, message);
            let near = suggest::nearest(parameter, parameters.keys().map(String::as_str));
            problem.cure = near.map(|near| format!("did you mean `{near}`?"));
            let list = match all_known {
                true => &mut report.warnings,
                false => &mut report.problems,
            };
            list.push(Finding::new(manifest, &problem));
        }
    }
    let worker = step.parallel.iter().flat_map(|parallel| {
        let spec = &parallel.worker;
        spec.setup.iter().chain(&spec.steps).chain(&spec.after)
    });
    for nested in step.setup.iter().chain(&step.steps).chain(worker) {
        check_members(manifest, nested, workflows, report);
    }
}

/// Checks a request with the workflow that it names, where that is here.
fn check_request(
    manifest: &Manifest,
    request: &Request,
    workflows: &[(&Manifest, Workflow)],
    templates: &[Template],
    report: &mut Report,
) {
    for problem in &request.unsupported {
        report.problems.push(Finding::new(manifest, problem));
    }
    for warning in &request.warnings {
        report.warnings.push(Finding::new(manifest, warning));
    }
    let Some(workflow) = named(manifest, &request.workflow, workflows, report) else {
        return;
    };
    let compiled = compile(&Input {
        workflow,
        templates,
        global: None,
        config: &request.config_below(&BTreeMap::new()),
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo::default(),
    });
    let problems = compiled.err().map(|problems| request.all_placed(problems));
    for mut problem in problems.into_iter().flatten() {
        // What is wrong with the workflow itself is told with it; here the values count.
        if problem.message.starts_with("the parameter ") && problem.message.ends_with("no value") {
            problem.place = (*request.place()).clone();
        } else if !problem.place.path.starts_with("spec.executionRequest.") {
            continue;
        }
        report.problems.push(Finding::new(manifest, &problem));
    }
}

fn check_workflow(
    manifest: &Manifest,
    workflow: &Workflow,
    templates: &[Template],
    report: &mut Report,
) {
    let parameters = workflow.spec.config.iter();
    let config: BTreeMap<String, String> = parameters
        .filter(|(_, parameter)| parameter.default.is_none())
        .map(|(name, parameter)| (name.clone(), stand_in(parameter)))
        .collect();
    let compiled = compile(&Input {
        workflow,
        templates,
        global: None,
        config: &config,
        undeclared: Undeclared::Refused,
        execution: &ExecutionInfo {
            name: workflow.metadata.name.clone(),
            // No real one: nothing of it is shown.
            scheduled_at: "2006-01-02T15:04:05Z".to_owned(),
            ..ExecutionInfo::default()
        },
    });
    let warnings = match compiled {
        Ok(compiled) => compiled.warnings,
        Err(problems) => {
            for problem in problems {
                let finding = Finding::new(manifest, &problem);
                // What was made up here may not suit a pattern.
                if problem.place.path.starts_with("config.") {
                    continue;
                }
                let missing = problem.message.starts_with("there is no template");
                let list = match missing {
                    true => &mut report.warnings,
                    false => &mut report.problems,
                };
                if !list.contains(&finding) {
                    list.push(finding);
                }
            }
            workflow.warnings.clone()
        }
    };
    for warning in &warnings {
        let finding = Finding::new(manifest, warning);
        if !report.warnings.contains(&finding) {
            report.warnings.push(finding);
        }
    }
}

/// A value that a parameter of this type allows.
fn stand_in(parameter: &Parameter) -> String {
    if let Some(first) = parameter.allowed.first() {
        return first.clone();
    }
    match parameter.kind {
        Kind::String => "x".repeat(
            usize::try_from(parameter.min_length.unwrap_or(1))
                .unwrap_or(1)
                .min(1000),
        ),
        Kind::Integer | Kind::Number => parameter.minimum.unwrap_or(1.0).ceil().to_string(),
        Kind::Boolean => "true".to_owned(),
    }
}

impl Finding {
    fn new(manifest: &Manifest, problem: &Problem) -> Self {
        Self {
            file: manifest.file.clone(),
            line: problem.place.line,
            column: problem.place.column,
            document: problem.place.document.to_string(),
            path: problem.place.path.to_string(),
            message: problem.message.clone(),
            cure: problem.cure.clone(),
        }
    }

    fn line(&self) -> String {
        let mut line = self.file.clone();
        if self.line > 0 {
            line.push_str(&format!(":{}:{}", self.line, self.column));
        }
        for part in [&self.document, &self.path] {
            if !part.is_empty() {
                line.push_str(&format!(": {part}"));
            }
        }
        line.push_str(&format!(": {}", self.message));
        if let Some(cure) = &self.cure {
            line.push_str(&format!("; {cure}"));
        }
        crate::terminal::escape::visible(&line)
    }
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
            text.push_str(&format!("{word}  {}\n", finding.line()));
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
