//! `muster-bench logs`: how fast logs become durable, over real links of simulated attempts, beside a raw
//! gRPC stream of the same messages in the same run; what a server's memory is with many streams; how
//! fast parts of a long log are read. Needs no cluster.

mod attempts;
mod raw;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream::FuturesUnordered};
use muster_proto::v1::{GetExecutionRequest, ReadLogRequest, read_log_response::Item};
use muster_tests::{control_plane::ControlPlane, memory::Memory};

use self::attempts::Attempts;
use crate::{figures::Figures, report::mebibytes};

const USAGE: &str = "\
usage: muster-bench logs [--streams N] [--mebibytes N] [--many N] [--seconds N] [--blobs URL]
                         [--database URL]

  --streams N      logs that are written at once, as fast as they are taken (default 4)
  --mebibytes N    how much they write together (default 1024)
  --many N         logs that are open at once for the memory of the server (default 1000)
  --seconds N      how long each of those writes 16 KiB a second (default 10)
  --blobs URL      an object store in the place of files, with AWS_ACCESS_KEY_ID and
                   AWS_SECRET_ACCESS_KEY
  --database URL   PostgreSQL in the place of SQLite";

/// Data of one message.
const CHUNK: usize = 64 << 10;
/// In how many parts the limit and the logs take turns.
const ROUNDS: usize = 8;
/// Data that one of many logs gets at a time.
const TRICKLE: usize = 4 << 10;
/// How often a part of a log is read.
const READS: usize = 50;

struct Options {
    streams: usize,
    mebibytes: usize,
    many: usize,
    seconds: u64,
    blobs: Option<String>,
    database: Option<String>,
}

/// Runs it.
pub(crate) async fn run(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(options) = parse(arguments)? else {
        eprintln!("{USAGE}");
        return Ok(());
    };
    let mut extra = Vec::new();
    for (flag, url) in [
        ("--blobs", &options.blobs),
        ("--database", &options.database),
    ] {
        extra.extend(url.as_deref().map(|url| [flag, url]).into_iter().flatten());
    }
    let server = ControlPlane::start_with(&extra).await?;
    let text = text();
    let mut figures = Figures::default();
    ingest(&options, &server, &text, &mut figures).await?;
    many(&options, &server, &text, &mut figures).await?;
    figures.print("logs");
    Ok(())
}

/// Text as tests print it: lines with times, words and numbers; a little over 1 MiB.
fn text() -> Bytes {
    let words = [
        "connect",
        "passed",
        "GET /api/v1/orders",
        "retrying",
        "assert",
        "expected 200",
    ];
    let mut text = String::with_capacity((1 << 20) + 200);
    let mut seed = 7_u64;
    while text.len() < 1 << 20 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = words[usize::try_from(seed >> 33).unwrap_or(0) % words.len()];
        text.push_str(&format!(
            "2026-11-28T10:{:02}:{:02}.{:03}Z INFO worker-{}: {word} id={:x} took {} ms\n",
            seed >> 58 & 31,
            seed >> 52 & 31,
            seed >> 40 & 511,
            seed >> 60,
            seed >> 16,
            seed >> 50 & 1023,
        ));
    }
    text.into()
}

/// Data of a message, by its number.
fn piece(text: &Bytes, number: usize) -> Bytes {
    let start = number.wrapping_mul(CHUNK) % (text.len() - CHUNK);
    text.slice(start..start + CHUNK)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn ingest(
    options: &Options,
    server: &ControlPlane,
    text: &Bytes,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let part = ((options.mebibytes << 20) / CHUNK / options.streams / ROUNDS).max(1);
    let each = part * ROUNDS;
    let total = (each * CHUNK * options.streams) as f64 / f64::from(1 << 20);
    let attempts = Attempts::start(server, "fast", options.streams).await?;
    // Both ways in turn, so that a slow moment of the machine meets both.
    let (mut time, mut raw_time) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let first = round * part;
        let writing = attempts
            .all
            .iter()
            .map(|attempt| attempt.write(text, first..first + part))
            .collect::<FuturesUnordered<_>>();
        let _written: Vec<()> = writing.try_collect().await?;
        time += begin.elapsed();
        raw_time += raw::stream(text, part * options.streams).await?;
    }
    let (rate, limit) = (total / time.as_secs_f64(), total / raw_time.as_secs_f64());
    figures.add(
        "ingestMebibytes",
        "to durable segments, MiB a second",
        rate,
        0,
    );
    figures.add("rawMebibytes", "raw gRPC stream, MiB a second", limit, 0);
    figures.add("ingestRatio", "of the raw stream", rate / limit, 2);
    let after = memory(server)?;
    figures.add(
        "memoryAfter",
        "memory of the server after it, MiB",
        mebibytes(after),
        0,
    );

    let execution = attempts.end_all(text, each).await?;
    let begin = Instant::now();
    sealed(server, &execution).await?;
    figures.add(
        "sealSeconds",
        "until all logs are proven and read whole, seconds",
        begin.elapsed().as_secs_f64(),
        1,
    );
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    let middle = i64::try_from(lines * each / 32)?;
    let parts = [
        (
            "tail",
            "last 200 lines",
            ReadLogRequest {
                tail_lines: Some(200),
                ..ReadLogRequest::default()
            },
        ),
        (
            "middle",
            "200 lines from its middle",
            ReadLogRequest {
                first_line: middle,
                last_line: middle + 199,
                ..ReadLogRequest::default()
            },
        ),
    ];
    for (key, words, part) in parts {
        let mut times = Vec::with_capacity(READS);
        for _ in 0..READS {
            let begin = Instant::now();
            let read = read(server, &execution, &part).await?;
            ensure!(read > 1000, "{key}: {read} bytes");
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        let text = format!("{words} of a long log, p99 ms");
        figures.add(
            &format!("{key}P99Ms"),
            &text,
            times[READS - 1 - READS / 100],
            1,
        );
    }
    let search = ReadLogRequest {
        grep: "id=ffff[0-9a-f]+ took 10".to_owned(),
        ..ReadLogRequest::default()
    };
    let begin = Instant::now();
    read(server, &execution, &search).await?;
    let size = (each * CHUNK) as f64 / f64::from(1 << 20);
    let rate = size / begin.elapsed().as_secs_f64();
    figures.add(
        "searchMebibytes",
        "search through a log, MiB a second",
        rate,
        0,
    );
    Ok(())
}

/// Waits until the log of an execution is complete, and reads it whole.
async fn sealed(server: &ControlPlane, execution: &str) -> anyhow::Result<()> {
    let request = ReadLogRequest {
        follow: true,
        ..ReadLogRequest::default()
    };
    read(server, execution, &request).await?;
    let request = GetExecutionRequest {
        name: execution.to_owned(),
    };
    let found = server.client.executions().get_execution(request).await?;
    let log = found.into_inner().execution.and_then(|it| it.log);
    ensure!(
        log.is_some_and(|log| log.complete),
        "the log is not complete"
    );
    Ok(())
}

/// Reads a part of a log; returns how many bytes came.
async fn read(
    server: &ControlPlane,
    execution: &str,
    part: &ReadLogRequest,
) -> anyhow::Result<usize> {
    let request = ReadLogRequest {
        name: execution.to_owned(),
        ..part.clone()
    };
    let mut stream = server.client.logs().read_log(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(answer) = stream.message().await? {
        match answer.item.context("something")? {
            Item::Chunk(chunk) => bytes += chunk.data.len(),
            Item::Match(line) => bytes += line.data.len(),
            Item::End(_) => {}
            other @ (Item::Gap(_) | Item::Skip(_)) => bail!("{other:?}"),
        }
    }
    Ok(bytes)
}

fn memory(server: &ControlPlane) -> anyhow::Result<u64> {
    let id = server.id().context("the server runs")?;
    Ok(Memory::of_process(id)?.rss_kib)
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn many(
    options: &Options,
    server: &ControlPlane,
    text: &Bytes,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    if options.many == 0 {
        return Ok(());
    }
    let attempts = Attempts::start(server, "many", options.many).await?;
    let before = memory(server)?;
    let mut most = before;
    let begin = Instant::now();
    let mut writing: FuturesUnordered<_> = attempts
        .all
        .iter()
        .map(|attempt| attempt.trickle(text, TRICKLE, options.seconds))
        .collect();
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            done = writing.try_next() => if done?.is_none() { break },
            _ = look.tick() => most = most.max(memory(server)?),
        }
    }
    let late = begin.elapsed().as_secs_f64() - options.seconds as f64;
    let count = options.many;
    figures.add(
        "manyBefore",
        "memory of the server before many logs, MiB",
        mebibytes(before),
        0,
    );
    let words = format!("the most with {count} logs of 16 KiB a second, MiB");
    figures.add("manyMost", &words, mebibytes(most), 0);
    figures.add(
        "manyLate",
        "all durable after the last byte, seconds",
        late,
        1,
    );
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Options>> {
    let mut options = Options {
        streams: 4,
        mebibytes: 1024,
        many: 1000,
        seconds: 10,
        blobs: None,
        database: None,
    };
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let value = arguments.next().context("a flag without a value")?;
        let number = || {
            value
                .parse::<usize>()
                .with_context(|| format!("{flag} {value}"))
        };
        match flag.as_str() {
            "--streams" => options.streams = number()?.max(1),
            "--mebibytes" => options.mebibytes = number()?.max(1),
            "--many" => options.many = number()?,
            "--seconds" => options.seconds = u64::try_from(number()?)?,
            "--blobs" => options.blobs = Some(value),
            "--database" => options.database = Some(value),
            _ => bail!("unknown flag '{flag}'\n{USAGE}"),
        }
    }
    Ok(Some(options))
}
