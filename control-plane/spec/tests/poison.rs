//! Poisoned manifests: each is refused with its place, what was found and what is allowed, on a
//! small stack. Work is bounded by limits on bytes, values, depth, steps and cost, not by time;
//! one generous bound of time stands around each case, for a limit that does not work.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_spec::compile::{Compiled, ExecutionInfo, Input, Undeclared, compile};
use muster_spec::manifest::{Document, parse};
use muster_spec::problem::{MAX_PROBLEMS, Problems};
use muster_spec::yaml::Limits;

/// The stack of a thread of the server.
const STACK: usize = 2 * 1024 * 1024;
/// Far more than any case takes, also in a debug build on a machine with other work.
const LONG: Duration = Duration::from_secs(60);

fn head(kind: &str, name: &str) -> String {
    format!("apiVersion: muster.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
}

fn workflow(spec: &str) -> String {
    format!(
        "{}spec:\n  {}\n",
        head("TestWorkflow", "w"),
        spec.replace('\n', "\n  ")
    )
}

fn template(name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "---\n{}spec:\n  {spec}\n",
        head("TestWorkflowTemplate", name)
    )
}

/// Reads and compiles a file on a small stack.
fn run(text: &str) -> Result<Compiled, Problems> {
    let text = text.to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let started = Instant::now();
    let work = move || {
        let mut workflow = None;
        let mut templates = Vec::new();
        for document in parse(&text, Limits::default())? {
            match document {
                Document::Workflow(read) => workflow = Some(read),
                Document::Template(template) => templates.push(template),
                Document::Request(_) | Document::Foreign(_) => {}
            }
        }
        let compiled = compile(&Input {
            workflow: &workflow.unwrap(),
            templates: &templates,
            global: None,
            config: &BTreeMap::new(),
            undeclared: Undeclared::Refused,
            execution: &ExecutionInfo::default(),
        })?;
        // What is accepted must be readable where it is run.
        let plan = serde_json::to_vec(&compiled.plan).unwrap();
        let read: muster_spec::plan::Plan = serde_json::from_slice(&plan).unwrap();
        assert!(read == compiled.plan);
        Ok(compiled)
    };
    let done = thread.spawn(work).unwrap().join();
    assert!(started.elapsed() < LONG);
    done.unwrap_or_else(|_| panic!("it panicked"))
}

/// What is said of a file that must be refused; every problem has a place.
#[track_caller]
fn refused(text: &str) -> String {
    let Err(problems) = run(text) else {
        panic!("it is accepted");
    };
    assert!(!problems.is_empty() && problems.0.len() <= MAX_PROBLEMS);
    for problem in &problems.0 {
        assert!(problem.place.line > 0, "no place: {problem}");
        assert!(
            problem.to_string().len() < 2000,
            "too long: {}",
            problem.to_string().len()
        );
    }
    problems.to_string()
}

#[track_caller]
fn refused_with(text: &str, expected: &str) {
    let message = refused(text);
    assert!(
        message.contains(expected),
        "{expected}\n{}",
        message.chars().take(2000).collect::<String>()
    );
}

#[test]
fn yaml_that_is_nested_too_deep() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
    ] {
        refused_with(&workflow(&text), "nested deeper than 64 levels");
    }
    let steps = format!("steps: {}{}", "[{steps: ".repeat(40), "}]".repeat(40));
    refused_with(&workflow(&steps), "nested deeper than 64 levels");
}

#[test]
fn steps_that_yaml_just_allows_can_be_read_where_they_run_or_are_refused() {
    for depth in 1..=30 {
        let steps = format!(
            "steps: {}[{{shell: a}}]{}",
            "[{steps: ".repeat(depth),
            "}]".repeat(depth)
        );
        if let Err(problems) = run(&workflow(&steps)) {
            let message = problems.to_string();
            assert!(
                depth > 10 && message.contains("steps are nested deeper than"),
                "{depth}: {message}"
            );
            assert!(problems.0[0].place.line > 0);
        }
        let parallel = format!(
            "steps: {}[{{shell: a}}]{}",
            "[{parallel: {steps: ".repeat(depth),
            "}}]".repeat(depth)
        );
        if let Err(problems) = run(&workflow(&parallel)) {
            let message = problems.to_string();
            assert!(
                depth > 5 && message.contains("nested deeper than"),
                "{depth}: {message}"
            );
        }
    }
}

#[test]
fn aliases_that_copy_without_end() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let above = level - 1;
        let nine = format!("*a{above}, ").repeat(9);
        text.push_str(&format!("a{level}: &a{level} [{nine}]\n"));
    }
    refused_with(
        &workflow(&text),
        "more than 100000 values, aliases counted in full",
    );
    refused_with(
        &workflow("steps: &s [{steps: *s}]"),
        "an alias may not stand inside of what it names",
    );
    let long = format!(
        "a: &a \"{}\"\nb: [{}]",
        "x".repeat(500_000),
        "*a, ".repeat(1000)
    );
    refused_with(&workflow(&long), "more than 100000 values");
}

#[test]
fn scalars_keys_and_lists_that_are_too_large() {
    refused_with(
        &workflow(&format!("steps: [{{shell: {}}}]", "x".repeat(1 << 20))),
        "at most 1048576 are allowed",
    );
    let expression = format!("steps: [{{shell: \"{{{{ '{}' }}}}\"}}]", "x".repeat(70_000));
    refused_with(&workflow(&expression), "expression too large");
    refused_with(
        &workflow(&format!("\"{}\": 1", "k".repeat(500_000))),
        "not valid YAML",
    );
    refused_with(
        &workflow(&format!("? {}\n: 1", "k".repeat(500_000))),
        "unknown field `kkk",
    );
    refused_with(
        &workflow(&format!("steps: [{}]", "{shell: a},".repeat(60_000))),
        "more than 100000 values",
    );
    refused_with(
        &workflow(&format!("steps: [{}]", "{shell: a},".repeat(1001))),
        "spec.steps[1000]: more than 1000 steps",
    );
    let variables: String = (0..1001)
        .map(|number| format!("{{name: V{number}}},"))
        .collect();
    refused_with(
        &workflow(&format!("container: {{env: [{variables}]}}")),
        "1001 items, at most 1000 are allowed",
    );
}

#[test]
fn names_of_every_length() {
    let name = "n".repeat(100_000);
    let text = workflow("steps: []").replace("{name: w}", &format!("{{name: {name}}}"));
    refused_with(&text, "is not a name: up to 253");
    refused_with(
        &workflow(&format!("use: [{{name: {name}}}]")),
        "there is no template `nnn",
    );
    refused_with(
        &workflow(&format!("steps: [{{shell: '{{{{ config.{name} }}}}'}}]")),
        "more than 65536 bytes",
    );
    refused_with(
        &workflow(&format!("steps: [{{shell: '{{{{ {name}(1) }}}}'}}]")),
        "more than 65536 bytes",
    );
}

#[test]
fn templates_that_grow_without_end() {
    let doubled: String = (0..16)
        .map(|level| {
            let next = level + 1;
            template(
                &format!("t{level}"),
                &format!("use: [{{name: t{next}}}, {{name: t{next}}}]"),
            )
        })
        .collect();
    let text = format!(
        "{}{doubled}{}",
        workflow("use: [{name: t0}]"),
        template("t16", "container: {image: a}")
    );
    refused_with(&text, "templates in templates, more than 16 deep");
    let wide: String = (0..10)
        .map(|level| {
            let uses = format!("{{name: t{}}},", level + 1).repeat(10);
            template(&format!("t{level}"), &format!("use: [{uses}]"))
        })
        .collect();
    let text = format!(
        "{}{wide}{}",
        workflow("use: [{name: t0}]"),
        template("t10", "container: {image: a}")
    );
    refused_with(&text, "more than 10000 uses of templates");
    // Deep steps in deep templates: the limits of one file do not bound what they come to.
    let nested = |inner: &str| {
        format!(
            "steps: {}{inner}{}",
            "[{steps: ".repeat(25),
            "}]".repeat(25)
        )
    };
    let deep: String = (0..12)
        .map(|level| {
            template(
                &format!("t{level}"),
                &nested(&format!("[{{template: {{name: t{}}}}}]", level + 1)),
            )
        })
        .collect();
    let text = format!(
        "{}{deep}{}",
        workflow("use: [{name: t0}]"),
        template("t12", &nested("[{shell: a}]"))
    );
    refused_with(&text, "steps are nested deeper than");
}

#[test]
fn large_settings_that_are_merged_again_and_again() {
    let list = |count: usize| -> String {
        let items: Vec<_> = (0..count).map(|n| format!("{{key: k{n}}}")).collect();
        items.join(", ")
    };
    let uses = "{name: t}, ".repeat(7000);
    let small = template("t", "pod: {tolerations: [{key: z}]}");
    for spec in [
        format!(
            "pod: {{tolerations: [{}]}}\nsteps: [{{use: [{uses}], shell: a}}]",
            list(18_000)
        ),
        format!("pod: {{tolerations: [{}]}}\nuse: [{uses}]", list(18_000)),
    ] {
        let text = format!("{}{small}", workflow(&spec));
        refused_with(&text, "too large for so many of them");
    }
    // The same twice is no work without end.
    let large = template("t", &format!("pod: {{tolerations: [{}]}}", list(20_000)));
    let text = workflow("use: [{name: t}, {name: t}]\nsteps: [{shell: a}]");
    run(&format!("{text}{large}")).unwrap();
}

#[test]
fn strategies_of_a_million() {
    let values = |length: usize| {
        (0..length)
            .map(|number| format!("{number},"))
            .collect::<String>()
    };
    let matrix: String = (0..6)
        .map(|name| format!("m{name}: [{}],", values(10)))
        .collect();
    refused_with(
        &workflow(&format!(
            "steps: [{{parallel: {{matrix: {{{matrix}}}, shell: a}}}}]"
        )),
        "1000000 instances: matrix of m0 (10), m1 (10), m2 (10), m3 (10), m4 (10), m5 (10), at most 10000 are allowed",
    );
    refused_with(
        &workflow("steps: [{parallel: {count: 1000000, shell: a}}]"),
        "1000000 instances, at most 10000",
    );
    refused_with(
        &workflow("steps: [{parallel: {shards: {a: 'range(1000000)'}, count: 2, shell: a}}]"),
        "too large",
    );
    refused_with(
        &workflow("steps: [{parallel: {matrix: {a: 'range(1000)', b: 'range(1000)'}, shell: a}}]"),
        "1000000 instances: matrix of a (1000), b (1000)",
    );
    refused_with(
        &workflow("services: {db: {image: a, count: 1000000}}"),
        "1000000 instances",
    );
    let lists: String = (0..33).map(|name| format!("m{name}: [1],")).collect();
    refused_with(
        &workflow(&format!("steps: [{{parallel: {{matrix: {{{lists}}}}}}}]")),
        "33 lists, at most 32 are allowed",
    );
}

#[test]
fn names_of_credentials_for_instances_without_end() {
    let block = |call: &str, calls: usize, values: &str| {
        let script = call.repeat(calls);
        workflow(&format!(
            "steps:\n- parallel:\n    count: 10000\n    shards: {{s: {values}}}\n    shell: 'x {script}'"
        ))
    };
    let by_index = "{{credential(\"a\"+index)}}";
    refused_with(&block(by_index, 1, "[x]"), "more than 100 credentials");
    // The same name for all of them, and much to put together for each.
    let same = "{{credential(\"a\"+(index*0))}}";
    refused_with(&block(same, 10_000, "[x]"), "too many steps");
    let long = format!("[{}]", "x".repeat(500_000));
    refused_with(&block(same, 10_000, &long), "too many steps");
}

#[test]
fn expressions_of_many_levels() {
    for inside in [
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1", "!".repeat(10_000)),
        format!("{}1", "-".repeat(10_000)),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{}1{}", "len(".repeat(10_000), ")".repeat(10_000)),
        format!("{}1", "true ? 1 : ".repeat(5000)),
        format!("{}1", "true ? ".repeat(5000)),
        format!("a{}", ".b".repeat(30_000)),
        format!("1{}", "+env.A".repeat(9000)),
        format!("1{}", "**2".repeat(10_000)),
    ] {
        let text = workflow(&format!("steps: [{{condition: \"{inside}\", shell: a}}]"));
        match run(&text) {
            Err(problems) => assert!(problems.0[0].place.line > 0, "{problems}"),
            // A long flat one is no poison.
            Ok(compiled) => assert_eq!(compiled.plan.steps.len(), 1),
        }
    }
    let long = format!("{{{{ 1{} }}}}", "+env.A".repeat(100_000));
    refused_with(
        &workflow(&format!("steps: [{{shell: \"{long}\"}}]")),
        "expression too large",
    );
    let costly = "{{ len(map(range(90000), 'len(map(range(90000), 1))')) }}";
    refused_with(
        &workflow(&format!("steps: [{{shell: \"{costly}\"}}]")),
        "too many steps",
    );
    let each = "- shell: \"{{ len(map(range(50000), '_.value')) }}\"\n".repeat(900);
    refused_with(&workflow(&format!("steps:\n{each}")), "too many steps");
}

#[test]
fn many_problems_in_one_file_are_told_up_to_a_limit() {
    let wrong: String = (0..5000)
        .map(|number| format!("- {{shel{number}: a}}\n"))
        .collect();
    let Err(problems) = run(&workflow(&format!("steps:\n{wrong}"))) else {
        panic!("it is accepted");
    };
    assert_eq!(problems.0.len(), MAX_PROBLEMS);
    let documents: String = (0..5000).map(|_| "---\na: 1\n").collect();
    let Err(problems) = run(&documents) else {
        panic!("it is accepted");
    };
    assert!(problems.0.len() <= MAX_PROBLEMS);
}

#[test]
fn bytes_that_are_no_text() {
    for odd in [
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{feff}",
        "\u{2028}",
        "\u{202e}",
        "\u{fffd}",
        "\u{10ffff}",
        "\r",
    ] {
        for text in [
            workflow(&format!("steps: [{{shell: \"a{odd}b\"}}]")),
            workflow(&format!("steps: [{{shell: a{odd}b}}]")),
            workflow(&format!("st{odd}eps: []")),
            workflow("steps: []").replace("name: w", &format!("name: \"w{odd}\"")),
            odd.repeat(1000),
            format!("{odd}{}", workflow("steps: [{shell: a}]")),
        ] {
            // Some are refused by YAML, some by the schema, some are good text: none panics.
            if let Err(problems) = run(&text) {
                assert!(
                    problems.0[0].place.line > 0 || text.trim().is_empty(),
                    "{problems}"
                );
            }
        }
    }
    refused_with(
        &workflow("container: {env: [{name: \"A\\0B\"}]}"),
        "`A\\0B` is not the name of a variable",
    );
}

#[test]
fn empty_strategies_are_accepted_and_say_so_when_they_run() {
    for strategy in [
        "matrix: {a: []}",
        "shards: {a: []}, count: 0",
        "count: 0",
        "maxCount: 0",
    ] {
        let compiled = run(&workflow(&format!(
            "steps: [{{parallel: {{{strategy}, shell: a}}}}]"
        )));
        let compiled = compiled.unwrap_or_else(|error| panic!("{strategy}: {error}"));
        let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings.concat().contains("nothing will run here"),
            "{strategy}: {warnings:?}"
        );
    }
}

#[test]
fn advice_for_many_wrong_names_is_bounded() {
    let head = "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata: {name: w}\nspec:\n";
    let long = "a".repeat(50);
    let ids: String = (0..900)
        .map(|n| format!("  - {{id: {long}{n:06}, shell: x}}\n"))
        .collect();
    let parameters: String = (0..900)
        .map(|n| format!("    {long}{n:06}: {{type: string, default: x}}\n"))
        .collect();
    let wrong = |root: &str| -> String {
        (0..5000)
            .map(|n| format!("{{{{{root}.{}{:06}.x}}}}", "b".repeat(50), n % 2500))
            .collect()
    };
    for text in [
        format!("{head}  steps:\n{ids}  - shell: '{}'\n", wrong("step")),
        format!(
            "{head}  config:\n{parameters}  steps:\n  - shell: '{}'\n",
            wrong("config")
        ),
    ] {
        // It is within the time that this allows, whatever comes of it.
        drop(run(&text));
    }
}
