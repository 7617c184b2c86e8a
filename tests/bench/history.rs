//! `muster-bench history`: how long questions about tests take, in a PostgreSQL database with a million
//! executions and ten million results, through the real server. Needs no cluster.

mod fill;
mod plans;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use muster_proto::v1::{
    CompareExecutionsRequest, FindTestsRequest, GetExecutionRequest, GetTestHistoryRequest,
    ListFlakyTestsRequest, ListTestCasesRequest, test_case::State,
};
use muster_tests::{control_plane::ControlPlane, processor, run::PROJECT};
use sqlx::{Connection as _, PgConnection};

use crate::search::{at, fill as executions};

const USAGE: &str = "\
usage: muster-bench history [--executions N] [--results N] [--calls N] [--database URL] [--plans]

  --executions N   executions in the database (default 100000)
  --results N      results of tests, a multiple of the executions (default 1000000)
  --calls N        calls of each kind (default 200)
  --database URL   an empty PostgreSQL database, or one that this has filled before, which is kept; without
                   it one is made on the server of MUSTER_TEST_POSTGRES, and dropped
  --plans          tells how the database finds what it is asked for";

/// Calls that fill caches: of the database, and of its connections.
const FIRST: usize = 10;

struct Options {
    executions: u32,
    results: u32,
    calls: usize,
    database: Option<String>,
    plans: bool,
}

/// A question.
enum Question {
    Execution(GetExecutionRequest),
    Cases(ListTestCasesRequest),
    History(GetTestHistoryRequest),
    Flaky(ListFlakyTestsRequest),
    Find(FindTestsRequest),
    Compare(CompareExecutionsRequest),
}

/// Questions of one kind: one for each number.
struct Case {
    name: &'static str,
    ask: Box<dyn Fn(u32) -> Question>,
}

/// What a kind of question costs.
struct Figure {
    name: &'static str,
    p50: f64,
    p99: f64,
    /// Milliseconds of a processor that a call takes: of the server, and of a database on this machine. What
    /// else the machine does makes them hardly longer.
    server: f64,
    database: f64,
    /// Of the last call.
    found: usize,
}

/// Runs it.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let (_own, url, server) = executions::open(options.database.as_deref()).await?;
    let begin = Instant::now();
    fill::fill(&url, options.executions, options.results).await?;
    eprintln!("filled after {:.0?}", begin.elapsed());
    let sizes = fill::sizes(&url).await?;
    let mut figures = vec![bare(&url, &options).await?];
    for case in cases(&url, options.executions).await? {
        figures.push(measure(&server, &url, case, &options).await?);
    }
    print(&options, &sizes, &figures);
    if options.plans {
        plans::print(&url, options.executions).await?;
    }
    Ok(())
}

/// One row by its key, without a server: what nothing can be faster than.
async fn bare(url: &str, options: &Options) -> anyhow::Result<Figure> {
    let mut database = PgConnection::connect(url).await?;
    let mut times = Vec::new();
    for number in 0..options.calls + FIRST {
        let begin = Instant::now();
        let wanted = i64::from(spread(number, options.executions));
        let _row: Option<(String, String)> = sqlx::query_as(
            "SELECT state, display_name FROM executions WHERE project_id = (SELECT id FROM projects WHERE name = 'default')
               AND display_name = $1",
        )
        .bind(name(wanted))
        .fetch_optional(&mut database)
        .await?;
        if number >= FIRST {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    database.close().await?;
    times.sort_by(f64::total_cmp);
    Ok(Figure {
        name: "one execution by its name, straight from the database",
        p50: at(&times, 50),
        p99: at(&times, 99),
        server: 0.0,
        database: f64::NAN,
        found: 1,
    })
}

/// Numbers that lie far from each other.
fn spread(number: usize, executions: u32) -> u32 {
    let number = u64::try_from(number).unwrap_or(0);
    u32::try_from(number * 7_919_317 % u64::from(executions - 900)).unwrap_or(0) / 50 * 50 + 4
}

/// What an execution is called: one of a suite, as [`spread`] chooses them.
fn name(number: i64) -> String {
    format!("suite-{}-{number}", number % 50)
}

fn execution(number: i64) -> String {
    format!("{PROJECT}/executions/{}", name(number))
}

async fn identity(database: &mut PgConnection, test: i64) -> anyhow::Result<String> {
    let id: String = sqlx::query_scalar("SELECT md5('test-' || $1::bigint)")
        .bind(test)
        .fetch_one(database)
        .await?;
    Ok(format!("{PROJECT}/tests/{id}"))
}

async fn cases(url: &str, count: u32) -> anyhow::Result<Vec<Case>> {
    let mut database = PgConnection::connect(url).await?;
    let (hot, rare) = (
        identity(&mut database, -1).await?,
        identity(&mut database, -2).await?,
    );
    let mut some = Vec::new();
    for number in 0..500 {
        some.push(identity(&mut database, number * 10 + 3).await?);
    }
    database.close().await?;
    let last = i64::from(count);
    let text = |text: &str| text.to_owned();
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name, ask: Box<dyn Fn(u32) -> Question>| cases.push(Case { name, ask });
    let list = |parent: String, states: &[State], flaky: bool| {
        Question::Cases(ListTestCasesRequest {
            parent,
            states: states.iter().map(|&state| state.into()).collect(),
            flaky,
            ..ListTestCasesRequest::default()
        })
    };
    const BAD: [State; 2] = [State::Failed, State::Error];
    add(
        "one execution by its name, through the server",
        Box::new(|number| {
            Question::Execution(GetExecutionRequest {
                name: execution(number.into()),
            })
        }),
    );
    add(
        "tests of an execution with 10",
        Box::new(move |number| list(execution(number.into()), &[], false)),
    );
    add(
        "those that did not pass, of 10",
        Box::new(move |number| list(execution(number.into()), &BAD, false)),
    );
    let large = last - 7;
    add(
        "tests of an execution with 20,000",
        Box::new(move |_| list(execution(large), &[], false)),
    );
    add(
        "those that did not pass, of 20,000",
        Box::new(move |_| list(execution(large), &BAD, false)),
    );
    add(
        "flaky ones of 20,000",
        Box::new(move |_| list(execution(large), &[], true)),
    );
    let child = last - 11;
    add(
        "tests of a child with 20,000",
        Box::new(move |_| list(execution(child), &[], false)),
    );
    let history = move |name: &str, size: i32, change: &dyn Fn(&mut GetTestHistoryRequest)| {
        let mut request = GetTestHistoryRequest {
            name: name.to_owned(),
            page_size: size,
            ..GetTestHistoryRequest::default()
        };
        change(&mut request);
        Question::History(request)
    };
    add(
        "history of a test with 10 results",
        Box::new(move |_| history(&rare, 0, &|_| {})),
    );
    add(
        "history of one of 500 tests with 2,000 results",
        Box::new(move |number| {
            let test = number as usize / 50 % some.len();
            history(&some[test], 0, &|_| {})
        }),
    );
    let one = hot.clone();
    add(
        "history of a test with a fifth of all executions' results",
        Box::new(move |_| history(&one, 0, &|_| {})),
    );
    let one = hot.clone();
    add(
        "the same, 1,000 results",
        Box::new(move |_| history(&one, 1000, &|_| {})),
    );
    let one = hot.clone();
    add(
        "the same of an agent, an eighth",
        Box::new(move |_| history(&one, 0, &|it| it.agent = text("cluster-5"))),
    );
    let one = hot.clone();
    add(
        "the same of a workflow, a tenth",
        Box::new(move |_| history(&one, 0, &|it| it.workflow = text("suite-15"))),
    );
    let one = hot.clone();
    add(
        "the same with a tag, none",
        Box::new(move |_| {
            history(&one, 0, &|it| {
                it.tags = [(text("branch"), text("main"))].into();
            })
        }),
    );
    for (name, days) in [
        ("flaky tests of 7 days", 7),
        ("flaky tests of 14 days", 14),
        ("flaky tests of 90 days", 90),
    ] {
        add(
            name,
            Box::new(move |_| {
                Question::Flaky(ListFlakyTestsRequest {
                    parent: PROJECT.to_owned(),
                    page_size: 0,
                    start_time: Some(prost_types::Timestamp {
                        seconds: executions::day(executions::DAYS - days),
                        nanos: 0,
                    }),
                })
            }),
        );
    }
    for (name, part) in [
        ("tests by a part of the name, one", "the_rare"),
        ("tests by a part of the name, all", "does_what"),
        ("tests by a part of the name, none", "no such test"),
    ] {
        add(
            name,
            Box::new(move |_| {
                Question::Find(FindTestsRequest {
                    parent: PROJECT.to_owned(),
                    text: part.to_owned(),
                })
            }),
        );
    }
    let compare = |base: i64, newer: i64| {
        Question::Compare(CompareExecutionsRequest {
            base: execution(base),
            name: execution(newer),
        })
    };
    add(
        "two executions of 10 tests compared",
        Box::new(move |number| compare(number.into(), i64::from(number) + 500)),
    );
    add(
        "two executions of 20,000 tests compared",
        Box::new(move |_| compare(last - 7, last - 5)),
    );
    Ok(cases)
}

async fn ask(server: &ControlPlane, question: Question) -> anyhow::Result<usize> {
    let mut tests = server.client.tests();
    Ok(match question {
        Question::Execution(request) => {
            let mut client = server.client.executions();
            client.get_execution(request).await?;
            1
        }
        Question::Cases(request) => {
            let answer = tests.list_test_cases(request).await?.into_inner();
            answer.test_cases.len()
        }
        Question::History(request) => {
            let answer = tests.get_test_history(request).await?.into_inner();
            answer.runs.len()
        }
        Question::Flaky(request) => {
            let answer = tests.list_flaky_tests(request).await?.into_inner();
            answer.tests.len()
        }
        Question::Find(request) => {
            let answer = tests.find_tests(request).await?.into_inner();
            answer.tests.len()
        }
        Question::Compare(request) => {
            let answer = tests.compare_executions(request).await?.into_inner();
            let lists = [
                answer.new_failures,
                answer.fixed,
                answer.still_failing,
                answer.slower,
            ];
            lists.iter().map(Vec::len).sum()
        }
    })
}

async fn measure(
    server: &ControlPlane,
    url: &str,
    case: Case,
    options: &Options,
) -> anyhow::Result<Figure> {
    let calls = options.calls;
    let mut times = Vec::with_capacity(calls);
    let mut found = 0;
    let mut before = None;
    for number in 0..calls + FIRST {
        if number == FIRST {
            before = Some(busy(server, url).await?);
        }
        let question = (case.ask)(spread(number, options.executions));
        let begin = Instant::now();
        found = ask(server, question).await.with_context(|| case.name)?;
        if number >= FIRST {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (after, before) = (busy(server, url).await?, before.context("no calls")?);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let each = |at: usize| after[at].saturating_sub(before[at]).as_secs_f64() * 1e3 / calls as f64;
    times.sort_by(f64::total_cmp);
    let figure = Figure {
        name: case.name,
        p50: at(&times, 50),
        p99: at(&times, 99),
        server: each(0),
        database: each(1),
        found,
    };
    eprintln!(
        "{}: {:.1} ms, p99 {:.1} ms, {found} found",
        figure.name, figure.p50, figure.p99
    );
    Ok(figure)
}

/// For how long processors have worked for the server, and for connections of the database where those are
/// processes of this machine.
async fn busy(server: &ControlPlane, url: &str) -> anyhow::Result<[Duration; 2]> {
    let mut database = PgConnection::connect(url).await?;
    let connections: Vec<i32> = sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut database)
    .await?;
    database.close().await?;
    let of = connections
        .into_iter()
        .filter_map(|id| processor::of_process(u32::try_from(id).ok()?).ok());
    let server = processor::of_process(server.id().context("the server runs")?)?;
    Ok([server, of.sum()])
}

#[expect(clippy::print_stdout, reason = "the purpose of this program")]
fn print(options: &Options, sizes: &[(String, i64)], figures: &[Figure]) {
    let Options {
        executions,
        results,
        ..
    } = options;
    let bare = figures.first().map_or(f64::NAN, |figure| figure.p50);
    println!(
        "| {executions} executions, {results} results | p50 ms | p99 ms | p50 to bare | processor ms: server | database | found |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for Figure {
        name,
        p50,
        p99,
        server,
        database,
        found,
    } in figures
    {
        println!(
            "| {name} | {p50:.1} | {p99:.1} | {:.0} | {server:.1} | {database:.1} | {found} |",
            p50 / bare
        );
    }
    println!();
    println!("| table or index | MiB |");
    println!("| --- | ---: |");
    for (name, bytes) in sizes {
        println!("| {name} | {} |", bytes >> 20);
    }
    println!();
    let figures: Vec<_> = figures
        .iter()
        .map(|it| {
            serde_json::json!({"name": it.name, "p50Ms": it.p50, "p99Ms": it.p99, "serverMs": it.server, "databaseMs": it.database, "found": it.found})
        })
        .collect();
    let sizes: serde_json::Map<_, _> = sizes
        .iter()
        .map(|(name, bytes)| (name.clone(), (*bytes).into()))
        .collect();
    let document = serde_json::json!({"figures": figures, "bytes": sizes});
    println!("{document}");
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        executions: 100_000,
        results: 1_000_000,
        calls: 200,
        database: None,
        plans: false,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        if flag == "--plans" {
            options.plans = true;
            continue;
        }
        let value = arguments.next().context("a flag without a value")?;
        match flag.as_str() {
            "--executions" => options.executions = value.parse().context("--executions")?,
            "--results" => options.results = value.parse().context("--results")?,
            "--calls" => options.calls = value.parse().context("--calls")?,
            "--database" => options.database = Some(value),
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    ensure!(options.calls > 0, "--calls must be at least 1");
    ensure!(
        options.executions >= 1000 && options.executions.is_multiple_of(1000),
        "--executions must be a multiple of 1000"
    );
    ensure!(
        options.results >= options.executions && options.results.is_multiple_of(options.executions),
        "--results must be a multiple of --executions"
    );
    Ok(Some(options))
}
