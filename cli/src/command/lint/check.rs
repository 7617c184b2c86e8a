//! Checks documents as a server would when they are run: workflows with the templates and members
//! that are among the files.

use std::collections::BTreeMap;

use muster_spec::{
    compile::{self, ExecutionInfo, Findings, Input, Undeclared},
    manifest::{Broken, Document},
    problem::{Missing, Problem},
    schema::{Request, Step, Template, Text, Workflow},
    suggest,
};

use super::Report;
use crate::manifest::{Finding, Manifest};

/// The documents of all files, each with the number of its file.
#[derive(Debug, Default)]
struct Documents {
    files: Vec<Manifest>,
    workflows: Vec<(usize, Workflow)>,
    templates: Vec<Template>,
    /// The files of the templates.
    template_files: Vec<usize>,
    requests: Vec<(usize, Request)>,
    /// Documents that do not keep to the schema.
    broken: Vec<Broken>,
    /// When they are checked, RFC 3339.
    time: String,
}

/// Checks all files.
pub(super) fn all(files: Vec<Result<Manifest, Box<Finding>>>) -> Report {
    let mut report = Report {
        files: files.len(),
        ..Report::default()
    };
    let names = files.iter().map(|file| match file {
        Ok(manifest) => manifest.file.clone(),
        Err(finding) => finding.file.clone(),
    });
    let names: Vec<String> = names.collect();
    let mut documents = Documents {
        time: jiff::Timestamp::now().to_string(),
        ..Documents::default()
    };
    for file in files {
        match file {
            Ok(manifest) => documents.read(manifest, &mut report),
            Err(finding) => report.problems.push(*finding),
        }
    }
    report.workflows = documents.workflows.len();
    report.templates = documents.templates.len();
    report.requests = documents.requests.len();
    for (file, template) in documents.template_files.iter().zip(&documents.templates) {
        let findings = compile::check_template(template, &documents.templates, &documents.time);
        documents.add(*file, &findings, &mut report);
    }
    for (file, workflow) in &documents.workflows {
        let first = documents.first(workflow);
        let findings = compile::check(&documents.input(workflow, &first));
        documents.add(*file, &findings, &mut report);
    }
    for (file, workflow) in &documents.workflows {
        let spec = &workflow.spec;
        for step in spec.setup.iter().chain(&spec.steps).chain(&spec.after) {
            documents.check_members(*file, step, &mut report);
        }
    }
    for (file, request) in &documents.requests {
        documents.check_request(*file, request, &mut report);
    }
    for list in [&mut report.problems, &mut report.warnings] {
        let file = |finding: &Finding| names.iter().position(|name| *name == finding.file);
        list.sort_by_cached_key(|finding| (file(finding), finding.line, finding.column));
    }
    report
}

impl Documents {
    fn read(&mut self, manifest: Manifest, report: &mut Report) {
        let file = self.files.len();
        let parsed = manifest.parse_each();
        self.broken.extend(parsed.broken);
        for problem in parsed.problems {
            report.problems.push(manifest.finding(&problem));
        }
        for document in parsed.documents {
            match document {
                Document::Workflow(workflow) => self.workflows.push((file, workflow)),
                Document::Template(template) => {
                    self.templates.push(template);
                    self.template_files.push(file);
                }
                Document::Request(request) => self.requests.push((file, request)),
                Document::Foreign(foreign) => {
                    report.warnings.push(manifest.finding(&foreign.problem));
                }
            }
        }
        self.files.push(manifest);
    }

    /// The first execution of a workflow.
    fn first(&self, workflow: &Workflow) -> ExecutionInfo {
        ExecutionInfo::first(&workflow.metadata.name, &self.time)
    }

    fn input<'a>(&'a self, workflow: &'a Workflow, execution: &'a ExecutionInfo) -> Input<'a> {
        const NO_VALUES: &BTreeMap<String, String> = &BTreeMap::new();
        Input {
            workflow,
            templates: &self.templates,
            global: None,
            config: NO_VALUES,
            undeclared: Undeclared::Refused,
            execution,
        }
    }

    /// Whether a document of this kind and name is there and wrong, so that it is not missing.
    fn is_broken(&self, kind: &str, name: &str) -> bool {
        let mut broken = self.broken.iter();
        broken.any(|one| one.name == name && one.kind.is_none_or(|own| own == kind))
    }

    /// A problem in a file, or in that of the template where it is.
    fn finding(&self, file: usize, problem: &Problem) -> Finding {
        let document = &*problem.place.document;
        let templates = self.templates.iter().zip(&self.template_files);
        let mut holders = templates
            .filter(|(template, _)| template.metadata.name == document)
            .map(|(_, holder)| *holder);
        let first = holders.next().unwrap_or(file);
        let holder = match holders.any(|holder| holder == file) {
            true => file,
            false => first,
        };
        match self.files.get(holder) {
            Some(manifest) => manifest.finding(problem),
            None => Finding::new("", problem),
        }
    }

    /// Adds what was found of a document, once each.
    fn add(&self, file: usize, findings: &Findings, report: &mut Report) {
        for problem in &findings.problems {
            let finding = self.finding(file, problem);
            let list = match problem.missing.as_deref() {
                Some(Missing::Template(name))
                    if self.is_broken("TestWorkflowTemplate", &name.replace('/', "--")) =>
                {
                    continue;
                }
                Some(Missing::Template(_)) => &mut report.warnings,
                Some(Missing::Value) | None => &mut report.problems,
            };
            if !list.iter().any(|known| known.tells_same(&finding)) {
                list.push(finding);
            }
        }
        for warning in &findings.warnings {
            let finding = self.finding(file, warning);
            if !report.warnings.contains(&finding) {
                report.warnings.push(finding);
            }
        }
    }

    /// The workflow of a name; a warning when it is not among the files, since it may be stored.
    fn named(&self, file: usize, name: &Text, report: &mut Report) -> Option<&Workflow> {
        let wanted = name.text.as_str();
        let workflows = self.workflows.iter().map(|(_, workflow)| workflow);
        let found = workflows.clone().find(|it| it.metadata.name == wanted);
        if found.is_none() && !self.is_broken("TestWorkflow", wanted) {
            let known = workflows.map(|it| it.metadata.name.as_str());
            let message = format!("there is no workflow `{wanted}` among these files");
            let mut problem = Problem::new(&name.place, message);
            problem.cure = Some(match suggest::nearest(wanted, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "it must be stored where this is run".to_owned(),
            });
            report.warnings.push(self.finding(file, &problem));
        }
        found
    }

    /// Checks the members of suites that are named without expressions: the workflows, and the
    /// names of their parameters.
    fn check_members(&self, file: usize, step: &Step, report: &mut Report) {
        let members = step.execute.iter().flat_map(|execute| &execute.workflows);
        for member in members {
            let name = member.name.as_ref();
            let Some(name) = name.filter(|name| !name.text.contains("{{")) else {
                continue;
            };
            let Some(workflow) = self.named(file, name, report) else {
                continue;
            };
            let parameters = &workflow.spec.config;
            let is_given = |name: &String| {
                member.config.contains_key(name) || member.tarball.contains_key(name)
            };
            let mut lacking = parameters
                .iter()
                .filter(|(name, parameter)| parameter.default.is_none() && !is_given(name));
            let lacking = lacking.next().map(|(name, _)| name);
            // A misspelt name is the likely reason why another one has no value.
            let all_known = lacking.is_none();
            let mut given = member.config.keys();
            if let Some(lacking) = lacking
                && given.all(|given| parameters.contains_key(given))
            {
                let message = format!(
                    "the parameter `{lacking}` of the workflow `{}` has no value",
                    name.text
                );
                let cure = "give one in `config` beside the name, or a `default` there";
                let problem = Problem::new(&name.place, message).with_cure(cure);
                report.problems.push(self.finding(file, &problem));
            }
            for (parameter, value) in &member.config {
                if let Some(declared) = parameters.get(parameter) {
                    let known = !value.text.contains("{{");
                    if let Err(reason) = known
                        .then(|| compile::check_value(declared, &value.text))
                        .transpose()
                    {
                        let message = format!(
                            "the parameter `{parameter}` of the workflow `{}` can not be this: {reason}",
                            name.text
                        );
                        let problem = Problem::new(&value.place, message);
                        report.problems.push(self.finding(file, &problem));
                    }
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
                list.push(self.finding(file, &problem));
            }
        }
        let worker = step.parallel.iter().flat_map(|parallel| {
            let spec = &parallel.worker;
            spec.setup.iter().chain(&spec.steps).chain(&spec.after)
        });
        for nested in step.setup.iter().chain(&step.steps).chain(worker) {
            self.check_members(file, nested, report);
        }
    }

    /// Checks a request with the workflow that it names, where that is here.
    fn check_request(&self, file: usize, request: &Request, report: &mut Report) {
        for problem in &request.unsupported {
            report.problems.push(self.finding(file, problem));
        }
        for warning in &request.warnings {
            report.warnings.push(self.finding(file, warning));
        }
        let Some(workflow) = self.named(file, &request.workflow, report) else {
            return;
        };
        let compiled = compile::compile(&Input {
            config: &request.config_below(&BTreeMap::new()),
            ..self.input(workflow, &self.first(workflow))
        });
        let problems = compiled.err().map(|problems| request.all_placed(problems));
        for mut problem in problems.into_iter().flatten() {
            // What is wrong with the workflow itself is told with it; here the values count.
            if problem.missing.as_deref() == Some(&Missing::Value) {
                problem.place = (*request.place()).clone();
            } else if !problem.place.path.starts_with("spec.executionRequest.") {
                continue;
            }
            report.problems.push(self.finding(file, &problem));
        }
    }
}
