//! `muster-bench search`: how long lists of executions take with each filter and with some together, in
//! a PostgreSQL database with a million executions, through the real server. Needs no cluster.

pub(crate) mod fill;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use muster_proto::v1::{ListExecutionsRequest, execution::State, test_case};
use muster_tests::{control_plane::ControlPlane, run::PROJECT};

const USAGE: &str = "\
usage: muster-bench search [--executions N] [--calls N] [--database URL]

  --executions N   executions in the database (default 1000000)
  --calls N        calls with each filter (default 200)
  --database URL   an empty PostgreSQL database, or one that this has filled before, which is kept; without
                   it one is made on the server of MUSTER_TEST_POSTGRES, and dropped";

/// Longest walk behind a filter: one that looks at everything takes some seconds.
const LONGEST_WALK: Duration = Duration::from_secs(60);

struct Options {
    executions: u32,
    calls: usize,
    database: Option<String>,
}

/// Something to look for.
struct Case {
    name: &'static str,
    request: ListExecutionsRequest,
}

/// What a filter costs.
struct Figure {
    name: &'static str,
    p50: f64,
    p99: f64,
    /// Of the first call.
    found: usize,
    /// How many calls it takes until a page is full, or all is seen.
    calls: usize,
    walk: f64,
}

/// Runs it.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let (_own, url, server) = fill::open(options.database.as_deref()).await?;
    let begin = Instant::now();
    let size = fill::fill(&url, options.executions, &fill::RESULTS).await?;
    eprintln!(
        "{} executions, {} MiB, after {:.0?}",
        options.executions,
        size >> 20,
        begin.elapsed()
    );
    let mut figures = Vec::new();
    for case in cases() {
        figures.push(measure(&server, case, options.calls).await?);
    }
    print(&figures, options.executions);
    Ok(())
}

fn cases() -> Vec<Case> {
    let text = |text: &str| text.to_owned();
    let tags = |key: &str, value: &str| [(text(key), text(value))].into();
    let states = |states: &[State]| states.iter().map(|&state| state.into()).collect();
    let at = |days: i64| {
        Some(prost_types::Timestamp {
            seconds: fill::day(days),
            nanos: 0,
        })
    };
    let mut cases = Vec::new();
    let mut add = |name, change: &dyn Fn(&mut ListExecutionsRequest)| {
        let mut request = ListExecutionsRequest {
            parent: text(PROJECT),
            ..ListExecutionsRequest::default()
        };
        change(&mut request);
        cases.push(Case { name, request });
    };
    add("no filter", &|_| {});
    add("workflow, a tenth of all", &|it| it.workflow = text("api"));
    add("workflow, 30 old ones", &|it| it.workflow = text("rare"));
    add("workflow that is not there", &|it| it.workflow = text("x"));
    add("workflow prefix, nearly all", &|it| {
        it.workflow_prefix = text("suite-");
    });
    add("workflow prefix, 30 old ones", &|it| {
        it.workflow_prefix = text("ra");
    });
    add("workflow revision, old", &|it| {
        it.workflow = text("api");
        it.workflow_revision = 1;
    });
    add("workflow revision, newest", &|it| {
        it.workflow = text("api");
        it.workflow_revision = 10;
    });
    add("state passed", &|it| it.states = states(&[State::Passed]));
    add("state failed or aborted", &|it| {
        it.states = states(&[State::Failed, State::Aborted]);
    });
    add("state timed out, 20 old ones", &|it| {
        it.states = states(&[State::TimedOut]);
    });
    add("state running, none", &|it| {
        it.states = states(&[State::Running]);
    });
    add("state queued, none", &|it| {
        it.states = states(&[State::Queued]);
    });
    add("label with value, a fifth", &|it| {
        it.labels = vec![text("team=t3")];
    });
    add("label, any value", &|it| it.labels = vec![text("team")]);
    add("label, 30 old ones", &|it| {
        it.labels = vec![text("legacy=yes")];
    });
    add("label that is not there", &|it| {
        it.labels = vec![text("none=no")];
    });
    add("tag, a fifth", &|it| it.tags = tags("branch", "main"));
    add("tag, 20 old ones", &|it| it.tags = tags("release", "one"));
    add("tag that is not there", &|it| {
        it.tags = tags("release", "x");
    });
    add("created, one day in the middle", &|it| {
        it.created_since = at(45);
        it.created_until = at(46);
    });
    add("finished, one day in the middle", &|it| {
        it.finished_since = at(45);
        it.finished_until = at(46);
    });
    add("agent, an eighth", &|it| it.agent = text("cluster-3"));
    add("agent, 50 old ones", &|it| it.agent = text("old-cluster"));
    add("agent that is not there", &|it| it.agent = text("x"));
    add("text, in 1 of 100", &|it| it.text = text("OUT OF MEMORY"));
    add("text, in 10 old ones", &|it| it.text = text("needle"));
    add("text, in none", &|it| it.text = text("haystack without"));
    add("group, 1 of 100", &|it| {
        it.concurrency_group = text("deploy");
    });
    add("test, in all", &|it| it.test = text("everywhere"));
    add("test, in 30 old ones", &|it| it.test = text("of_old"));
    add("test that is not there", &|it| it.test = text("nowhere"));
    add("test that failed, 1 of 20", &|it| {
        it.test = text("everywhere");
        it.test_states = vec![test_case::State::Failed.into()];
    });
    add("test with errors, 10 old ones", &|it| {
        it.test = text("everywhere");
        it.test_states = vec![test_case::State::Error.into()];
    });
    add("test that failed, of a workflow", &|it| {
        it.test = text("everywhere");
        it.test_states = vec![test_case::State::Failed.into()];
        it.workflow = text("api");
    });
    add("failed of a workflow", &|it| {
        it.workflow = text("api");
        it.states = states(&[State::Failed]);
    });
    add("failed of a workflow on an agent", &|it| {
        it.workflow = text("suite-7");
        it.states = states(&[State::Failed]);
        it.agent = text("cluster-7");
    });
    add("timed out of a large workflow, none", &|it| {
        it.workflow = text("api");
        it.states = states(&[State::TimedOut]);
    });
    add("failed with a text and a tag, a week", &|it| {
        it.states = states(&[State::Failed]);
        it.tags = tags("branch", "main");
        it.text = text("exit code 1");
        it.created_since = at(40);
        it.created_until = at(47);
    });
    add("label and prefix and passed, on an agent", &|it| {
        it.labels = vec![text("team=t3")];
        it.workflow_prefix = text("suite-1");
        it.states = states(&[State::Passed]);
        it.agent = text("cluster-5");
    });
    add("two large filters that exclude each other", &|it| {
        it.workflow = text("suite-3");
        it.tags = tags("branch", "main");
        it.agent = text("cluster-4");
    });
    cases
}

async fn measure(server: &ControlPlane, case: Case, calls: usize) -> anyhow::Result<Figure> {
    let Case { name, request } = case;
    let list = async |request: &ListExecutionsRequest| {
        let mut client = server.client.executions();
        let listed = client.list_executions(request.clone()).await;
        anyhow::Ok(listed.with_context(|| name)?.into_inner())
    };
    let mut times = Vec::with_capacity(calls);
    let mut found = 0;
    // The first ones fill caches: of the database, and of its connections.
    for number in 0..calls + 5 {
        let begin = Instant::now();
        let page = list(&request).await?;
        if number >= 5 {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        found = page.executions.len();
    }
    times.sort_by(f64::total_cmp);
    let (mut all, mut calls, begin) = (0, 0, Instant::now());
    let mut next = request.clone();
    loop {
        let page = list(&next).await?;
        all += page.executions.len();
        calls += 1;
        next.page_token = page.next_page_token;
        if next.page_token.is_empty() || all >= 50 || begin.elapsed() > LONGEST_WALK {
            break;
        }
    }
    let figure = Figure {
        name,
        p50: at(&times, 50),
        p99: at(&times, 99),
        found,
        calls,
        walk: begin.elapsed().as_secs_f64() * 1e3,
    };
    eprintln!("{name}: {:.1} ms, p99 {:.1} ms", figure.p50, figure.p99);
    Ok(figure)
}

/// The value of sorted ones that so many of a hundred do not exceed.
pub(crate) fn at(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "the purpose of this program")]
fn print(figures: &[Figure], executions: u32) {
    println!("| {executions} executions | p50 ms | p99 ms | found | calls to the end | ms |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for figure in figures {
        let Figure {
            name,
            p50,
            p99,
            found,
            calls,
            walk,
        } = figure;
        println!("| {name} | {p50:.1} | {p99:.1} | {found} | {calls} | {walk:.0} |");
    }
    let document: Vec<_> = figures
        .iter()
        .map(|it| {
            serde_json::json!({
                "name": it.name, "p50Ms": it.p50, "p99Ms": it.p99,
                "found": it.found, "calls": it.calls, "walkMs": it.walk,
            })
        })
        .collect();
    println!();
    println!("{}", serde_json::Value::from(document));
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        executions: 1_000_000,
        calls: 200,
        database: None,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = arguments.next().context("a flag without a value")?;
        match flag.as_str() {
            "--executions" => options.executions = value.parse().context("--executions")?,
            "--calls" => options.calls = value.parse().context("--calls")?,
            "--database" => options.database = Some(value),
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    if options.executions == 0 || options.calls == 0 {
        bail!("--executions and --calls must be at least 1");
    }
    Ok(Some(options))
}
