//! Conformance cases: workflows that prove a row of the language by themselves. Annotations say
//! what each one is about and how it must end; here they are read, run and compared.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, stream};
use muster_proto::v1::{
    CreateExecutionRequest, InlineWorkflow, LabelValues, Target, create_execution_request::Source,
    execution::State,
};
use muster_spec::yaml::{self, Content, Limits, Node};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    agent::LABEL,
    log::Log,
    run::{Client, PROJECT, Run, describe},
};

/// Files with manifests of somebody else, separated by colons; all of them must pass.
pub const MANIFESTS_VARIABLE: &str = "MUSTER_TEST_MANIFESTS";
/// Images that may be used in manifests of somebody else, separated by commas.
pub const IMAGES_VARIABLE: &str = "MUSTER_TEST_IMAGES";

/// Prefix of the annotations.
const PREFIX: &str = "conformance.muster.dev/";
/// Cases that run side by side for each core, in all suites together: deadlines of manifests are in real
/// time, and a cluster on this machine gives its pods what others leave.
const FOR_EACH_CORE: usize = 3;

static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(FOR_EACH_CORE * cores)
});

/// Where cases run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// Processes of this machine.
    Process,
    /// Jobs of a cluster.
    Kubernetes,
}

impl Backend {
    /// Its name in annotations and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// One workflow with what is expected of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The row of the language that it proves.
    pub row: String,
    /// `passed`, `failed`, `canceled`, `timed_out`, `aborted` or `refused`.
    pub expect: String,
    /// Part of the message of a refusal or an end.
    pub message: String,
    /// Where it makes sense.
    pub backends: Vec<String>,
    /// Why it is not run, in manifests of somebody else.
    pub skip: Option<String>,
    config: HashMap<String, String>,
    logs: Vec<String>,
    artifacts: Vec<String>,
    /// It pauses itself, and has to be let go on.
    resume: bool,
    manifest: String,
}

/// What a case came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The row.
    pub row: String,
    /// The workflow.
    pub name: String,
    /// What went wrong; nothing when it ended as expected.
    pub problem: Option<String>,
    /// How it ended.
    pub ended: String,
    /// How long it took.
    pub took: Duration,
}

/// A document with its text.
struct Document {
    text: String,
    node: Node,
}

impl Document {
    fn get(&self, path: &[&str]) -> Option<&Node> {
        path.iter()
            .try_fold(&self.node, |node, name| node.get(name))
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        match &self.get(path)?.content {
            Content::Scalar(scalar) => Some(scalar.text.clone()),
            _ => None,
        }
    }

    fn annotation(&self, name: &str) -> Option<String> {
        let key = format!("{PREFIX}{name}");
        self.text(&["metadata", "annotations", &key])
    }

    fn is_refused(&self) -> bool {
        self.annotation("expect").as_deref() == Some("refused")
    }
}

/// Reads the cases of all `*.yaml` files in a folder, by file and place.
///
/// # Errors
///
/// When a file can not be read or is not YAML.
pub fn folder(path: &Path) -> anyhow::Result<Vec<Case>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("reading {}", path.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        cases.extend(read(&file)?);
    }
    Ok(cases)
}

/// Reads the cases of one file.
///
/// # Errors
///
/// When it can not be read or is not YAML.
pub fn read(file: &Path) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    cases(file, &text)
}

/// Reads the workflows in the examples of a Markdown file: each block of YAML is a file of its own,
/// and must pass.
///
/// # Errors
///
/// When it can not be read, or an example is not YAML.
pub fn guide(file: &Path) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    let mut all = Vec::new();
    for block in blocks {
        let mut found = cases(file, block)?;
        for case in &mut found {
            "guide".clone_into(&mut case.row);
        }
        all.extend(found);
    }
    Ok(all)
}

fn cases(file: &Path, text: &str) -> anyhow::Result<Vec<Case>> {
    let documents = documents(text).with_context(|| file.display().to_string())?;
    let mut cases = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let kind = document.text(&["kind"]).unwrap_or_default();
        if kind != "TestWorkflow" || document.annotation("stored").as_deref() == Some("true") {
            continue;
        }
        let name = document.text(&["metadata", "name"]).unwrap_or_default();
        // Another one that is refused must not take this one with it.
        let beside = documents.iter().enumerate();
        let manifest: Vec<&str> = beside
            .filter(|(other, beside)| *other == index || !beside.is_refused())
            .map(|(_, document)| document.text.as_str())
            .collect();
        let config = match document.annotation("config") {
            Some(json) => serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&json)
                .with_context(|| format!("{name}: config"))?
                .into_iter()
                .map(|(key, value)| {
                    let text = value.as_str().map(str::to_owned);
                    (key, text.unwrap_or_else(|| value.to_string()))
                })
                .collect(),
            None => HashMap::new(),
        };
        let logs = (1..20).filter_map(|number| match number {
            1 => document.annotation("log"),
            number => document.annotation(&format!("log-{number}")),
        });
        let list = |name: &str, default: &str| {
            let text = document
                .annotation(name)
                .unwrap_or_else(|| default.to_owned());
            let parts = text.split(',').map(|part| part.trim().to_owned());
            parts.filter(|part| !part.is_empty()).collect::<Vec<_>>()
        };
        cases.push(Case {
            row: document.annotation("row").unwrap_or_default(),
            expect: document
                .annotation("expect")
                .unwrap_or_else(|| "passed".to_owned()),
            message: document.annotation("message").unwrap_or_default(),
            backends: list("backends", "process,kubernetes"),
            skip: skip(document),
            logs: logs.collect(),
            artifacts: list("artifacts", ""),
            resume: document.annotation("resume").as_deref() == Some("true"),
            manifest: manifest.join("\n---\n"),
            config,
            name,
        });
    }
    Ok(cases)
}

/// Why a manifest without annotations can not be run here.
fn skip(document: &Document) -> Option<String> {
    if document.annotation("row").is_some() {
        return None;
    }
    let told = document.text(&["description"]).unwrap_or_default();
    if told.contains("Shouldn't be triggered directly") {
        return Some("run by another one".to_owned());
    }
    if document.text.contains("https://") {
        return Some("needs a public network".to_owned());
    }
    None
}

/// Images that a manifest names, for those that no test registry has.
fn unknown_images(case: &Case) -> Vec<String> {
    let known = std::env::var(IMAGES_VARIABLE).unwrap_or_default();
    let known: Vec<&str> = known.split(',').collect();
    let own = case.manifest.split("\n---\n");
    let own = own.filter(|text| text.contains(&format!("name: {}\n", case.name)));
    let images = own.flat_map(|text| text.lines()).filter_map(|line| {
        let image = line
            .trim()
            .trim_start_matches("- ")
            .strip_prefix("image:")?;
        Some(image.trim().trim_matches('"').to_owned())
    });
    images
        .filter(|image| !known.contains(&image.as_str()))
        .collect()
}

fn documents(text: &str) -> anyhow::Result<Vec<Document>> {
    let mut texts = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            texts.push(String::new());
        } else if let Some(last) = texts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let mut documents = Vec::new();
    for text in texts {
        let nodes =
            yaml::read(&text, Limits::default()).map_err(|error| anyhow::anyhow!("{error}"))?;
        documents.extend(nodes.into_iter().next().map(|node| Document { text, node }));
    }
    Ok(documents)
}

/// Runs a step with each image that manifests of somebody else may use, so that their deadlines
/// do not count the time of a first pull.
///
/// # Errors
///
/// When one can not be pulled.
pub async fn pull_images(client: &Client) -> anyhow::Result<()> {
    let known = std::env::var(IMAGES_VARIABLE).unwrap_or_default();
    let images: Vec<&str> = known.split(',').filter(|image| !image.is_empty()).collect();
    if images.is_empty() {
        return Ok(());
    }
    let steps = images.iter().map(|image| {
        let run = serde_json::json!({"image": image, "shell": "true"});
        serde_json::json!({"run": run})
    });
    let workflow = serde_json::json!({
        "apiVersion": "testworkflows.testkube.io/v1",
        "kind": "TestWorkflow",
        "metadata": {"name": "images"},
        "spec": {"steps": steps.collect::<Vec<_>>()},
    });
    let run = client.start(&workflow.to_string(), None).await?;
    run.ends_as(State::Passed).await?;
    Ok(())
}

/// Runs cases on the agent with this name, and compares.
pub async fn run_all(
    client: &Client,
    agent: &str,
    backend: Backend,
    cases: &[Case],
) -> Vec<Outcome> {
    let suited = cases
        .iter()
        .filter(|case| case.backends.iter().any(|name| name == backend.name()));
    let mut outcomes: Vec<(usize, Outcome)> = stream::iter(suited.enumerate())
        .map(|(index, case)| async move {
            let _turn = TURNS.acquire().await;
            let started = Instant::now();
            let ended = run(client, agent, backend, case).await;
            let outcome = Outcome {
                row: case.row.clone(),
                name: case.name.clone(),
                took: started.elapsed(),
                ended: match &ended {
                    Ok(ended) => ended.clone(),
                    Err(_) => "not as expected".to_owned(),
                },
                problem: ended.err().map(|error| format!("{error:#}")),
            };
            (index, outcome)
        })
        .buffer_unordered(usize::MAX)
        .collect()
        .await;
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn run(
    client: &Client,
    agent: &str,
    backend: Backend,
    case: &Case,
) -> anyhow::Result<String> {
    if let Some(why) = &case.skip {
        return Ok(format!("not run: {why}"));
    }
    let unknown = unknown_images(case);
    if case.row.is_empty() && backend == Backend::Kubernetes && !unknown.is_empty() {
        return Ok(format!("not run: needs {}", unknown.join(", ")));
    }
    let values = vec![agent.to_owned()];
    let request = CreateExecutionRequest {
        parent: PROJECT.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        source: Some(Source::Inline(InlineWorkflow {
            manifest: case.manifest.clone(),
            workflow: case.name.clone(),
        })),
        config: case.config.clone(),
        target: Some(Target {
            r#match: HashMap::from([(LABEL.to_owned(), LabelValues { values })]),
            ..Target::default()
        }),
        ..CreateExecutionRequest::default()
    };
    let created = client.executions().create_execution(request).await;
    if case.expect == "refused" {
        let Err(refused) = created else {
            anyhow::bail!("it was accepted");
        };
        let message = refused.message();
        ensure!(message.contains(&case.message), "refused with: {message}");
        return Ok("refused".to_owned());
    }
    let execution = created.context("it was refused")?.into_inner().execution;
    let run = Run::of(client, execution.unwrap_or_default().name);
    if case.resume {
        run.becomes(State::Paused).await?;
        run.resume().await?;
    }
    // Some sleep for minutes.
    let execution = match run.end().await {
        Ok(execution) => execution,
        Err(_) => run.end().await?,
    };
    let ended = match execution.state() {
        State::Passed => "passed",
        State::Failed => "failed",
        State::Canceled => "canceled",
        State::TimedOut => "timed_out",
        State::Aborted => "aborted",
        _ => "no end",
    };
    let log = Log::read(client, &run.name).await?;
    ensure!(
        ended == case.expect,
        "expected {}, got {}\n{}",
        case.expect,
        describe(&execution),
        log.text()
    );
    for text in &case.logs {
        ensure!(
            log.text().contains(text),
            "no {text:?} in the log:\n{}",
            log.text()
        );
    }
    ensure!(
        execution.message.contains(&case.message),
        "the message is {:?}",
        execution.message
    );
    if !case.artifacts.is_empty() {
        let found: Vec<String> = run
            .artifacts()
            .await?
            .into_iter()
            .map(|one| one.path)
            .collect();
        for path in &case.artifacts {
            ensure!(found.contains(path), "no artifact {path} in {found:?}");
        }
    }
    Ok(ended.to_owned())
}

/// A table of what came out, for people and for the documentation.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| row | workflow | result |\n| --- | --- | --- |\n");
    for outcome in outcomes {
        let result = match &outcome.problem {
            None => outcome.ended.clone(),
            Some(_) => format!("**{}**", outcome.ended),
        };
        // Writing to a string does not fail.
        writeln!(text, "| {} | {} | {result} |", outcome.row, outcome.name).unwrap_or_default();
    }
    text
}

/// The slowest cases, for people who wait for them.
#[must_use]
pub fn slowest(outcomes: &[Outcome]) -> String {
    let mut sorted: Vec<&Outcome> = outcomes.iter().collect();
    sorted.sort_by_key(|outcome| std::cmp::Reverse(outcome.took));
    let lines = sorted.iter().take(5);
    let lines = lines.map(|outcome| format!("{:?} {}", outcome.took, outcome.name));
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with all problems, if there are any.
///
/// # Errors
///
/// When a case did not end as expected.
pub fn expect_all(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let problems: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            let problem = outcome.problem.as_ref()?;
            Some(format!("{} ({}): {problem}", outcome.name, outcome.row))
        })
        .collect();
    ensure!(
        problems.is_empty(),
        "{} of {} cases did not end as expected:\n\n{}",
        problems.len(),
        outcomes.len(),
        problems.join("\n\n")
    );
    Ok(())
}

/// Files of somebody else that the environment names.
#[must_use]
pub fn foreign() -> Vec<PathBuf> {
    let list = std::env::var_os(MANIFESTS_VARIABLE).unwrap_or_default();
    let files = std::env::split_paths(&list);
    files.filter(|file| !file.as_os_str().is_empty()).collect()
}
