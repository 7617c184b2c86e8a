//! What reading and compiling manifests costs, beside reading the same text with the plain YAML
//! parser below it. Needs no cluster.

use std::{
    collections::BTreeMap,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use muster_spec::{
    compile::{ExecutionInfo, Input, Undeclared, compile},
    expression::NoScope,
    manifest::{Document, parse},
    plan::Strategy,
    schema::{Template, Workflow},
    strategy::Instances,
    yaml::{self, Limits},
};
use serde_json::json;

/// How to call it.
pub(crate) const USAGE: &str = "\
usage: muster-bench compile [--rounds N] [PATH…]

  --rounds N  how often all files are compiled (default 20); the median is printed
  PATH        files and folders of manifests (default: those of the conformance suite)";

/// Values of each of the four lists of the matrix: 10,000 combinations.
const VALUES: usize = 10;

/// One file.
struct File {
    text: String,
    workflows: usize,
}

/// What is done with a text, and its name.
type Stage = (&'static str, fn(&str));

/// What is measured of each text, from the limit on.
const STAGES: [Stage; 4] = [
    ("parser's events alone (the limit)", |text| {
        for event in saphyr_parser::Parser::new_from_str(text) {
            drop(black_box(event));
        }
    }),
    ("nodes with places", |text| {
        drop(black_box(yaml::read(text, Limits::default())));
    }),
    ("documents of the schema", |text| {
        drop(black_box(read(text)));
    }),
    ("plans", |text| {
        black_box(compiled(text));
    }),
];

/// Measures and prints.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some((rounds, paths)) = parse_arguments(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let files = files(&paths)?;
    let workflows: usize = files.iter().map(|file| file.workflows).sum();
    if workflows == 0 {
        bail!("no workflow in these files can be compiled");
    }
    let mut seconds = STAGES.map(|_| Vec::new());
    for round in 0..=rounds {
        for ((_, stage), seconds) in STAGES.iter().zip(&mut seconds) {
            let started = Instant::now();
            for file in &files {
                stage(&file.text);
            }
            // The first round warms up.
            if round > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
    }
    let of_files = peak_kib()?;
    let (instances, matrix) = matrix()?;
    print(&Report {
        workflows,
        bytes: files.iter().map(|file| file.text.len()).sum(),
        stages: seconds.map(|seconds| crate::report::median(&seconds)),
        instances,
        matrix: matrix.as_secs_f64(),
        of_files,
        of_all: peak_kib()?,
    });
    Ok(())
}

struct Report {
    workflows: usize,
    bytes: usize,
    /// Seconds of each of [`STAGES`].
    stages: [f64; 4],
    instances: usize,
    matrix: f64,
    of_files: u64,
    of_all: u64,
}

fn parse_arguments(
    mut arguments: impl Iterator<Item = String>,
) -> anyhow::Result<Option<(usize, Vec<PathBuf>)>> {
    let mut rounds = 20;
    let mut paths = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--rounds" => {
                let value = arguments.next().context("--rounds without a value")?;
                rounds = value.parse().with_context(|| format!("--rounds {value}"))?;
                if rounds == 0 {
                    bail!("--rounds must be at least 1");
                }
            }
            flag if flag.starts_with('-') => bail!("unknown flag '{flag}'\n{USAGE}"),
            path => paths.push(path.into()),
        }
    }
    if paths.is_empty() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        paths.push(own.join("conformance/manifests"));
    }
    Ok(Some((rounds, paths)))
}

/// The files that the schema takes, each with its workflows that compile.
fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<File>> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
                all.push(entry?.path());
            }
        } else {
            all.push(path.clone());
        }
    }
    all.sort();
    let mut files = Vec::new();
    for path in all {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for text in good(&text) {
            let workflows = compiled(&text);
            files.push(File { text, workflows });
        }
    }
    Ok(files)
}

/// A file as it is, or its good documents one by one where others are bad on purpose.
fn good(text: &str) -> Vec<String> {
    if read(text).is_some() {
        return vec![text.to_owned()];
    }
    let documents = text.split("\n---\n").map(str::to_owned);
    documents.filter(|text| read(text).is_some()).collect()
}

fn read(text: &str) -> Option<(Vec<Workflow>, Vec<Template>)> {
    let mut workflows = Vec::new();
    let mut templates = Vec::new();
    for document in parse(text, Limits::default()).ok()? {
        match document {
            Document::Workflow(workflow) => workflows.push(workflow),
            Document::Template(template) => templates.push(template),
            Document::Request(_) | Document::Foreign(_) => {}
        }
    }
    Some((workflows, templates))
}

/// How many workflows of a text compile; those with required parameters or on purpose do not.
fn compiled(text: &str) -> usize {
    let Some((workflows, templates)) = read(text) else {
        return 0;
    };
    let compiles = |workflow: &&Workflow| {
        let input = Input {
            workflow,
            templates: &templates,
            global: None,
            config: &BTreeMap::new(),
            undeclared: Undeclared::Refused,
            execution: &ExecutionInfo::default(),
        };
        black_box(compile(&input)).is_ok()
    };
    workflows.iter().filter(compiles).count()
}

/// All instances of a matrix of 10,000 combinations.
fn matrix() -> anyhow::Result<(usize, Duration)> {
    let list: Vec<String> = (0..VALUES)
        .map(|number| format!("value-{number}"))
        .collect();
    let names = ["browser", "region", "version", "size"];
    let strategy = Strategy {
        matrix: names
            .iter()
            .map(|name| ((*name).to_owned(), json!(list)))
            .collect(),
        ..Strategy::default()
    };
    let started = Instant::now();
    let instances = Instances::resolve(&strategy, &NoScope)?;
    let all: Vec<_> = (0..instances.len())
        .filter_map(|index| instances.get(index))
        .collect();
    let elapsed = started.elapsed();
    Ok((black_box(all).len(), elapsed))
}

/// The most memory that this process had at any time, in KiB.
fn peak_kib() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let words = line.context("the kernel tells no VmHWM")?;
    let number = words.split_whitespace().next().context("an empty VmHWM")?;
    number.parse().context("VmHWM")
}

#[expect(clippy::print_stdout, reason = "the purpose of this program")]
fn print(report: &Report) {
    let workflows = f64::from(u32::try_from(report.workflows).unwrap_or(u32::MAX));
    println!(
        "| {} workflows, {} bytes | milliseconds | workflows/s | ratio |",
        report.workflows, report.bytes
    );
    println!("| --- | ---: | ---: | ---: |");
    let [limit, .., plans] = report.stages;
    for ((name, _), seconds) in STAGES.iter().zip(report.stages) {
        println!(
            "| {name} | {:.2} | {:.0} | {:.2} |",
            seconds * 1000.0,
            workflows / seconds,
            seconds / limit
        );
    }
    println!();
    println!("| | milliseconds | peak memory of the process, MiB |");
    println!("| --- | ---: | ---: |");
    println!(
        "| all of the above | | {:.1} |",
        crate::report::mebibytes(report.of_files)
    );
    println!(
        "| a matrix of {} combinations as instances | {:.2} | {:.1} |",
        report.instances,
        report.matrix * 1000.0,
        crate::report::mebibytes(report.of_all)
    );
    println!();
    println!(
        "{}",
        json!({
            "workflows": report.workflows,
            "bytes": report.bytes,
            "seconds": report.stages,
            "workflowsPerSecond": workflows / plans,
            "ratioToLimit": plans / limit,
            "matrix": {"instances": report.instances, "seconds": report.matrix},
            "peakKib": {"files": report.of_files, "all": report.of_all},
        })
    );
}
