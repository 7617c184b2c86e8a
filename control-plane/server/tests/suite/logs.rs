//! Reading parts of a log, while it is written, when it has ended, and when it is one object.

use std::{ops::Range, path::Path, time::Duration};

use muster_proto::v1::{
    Assignment, ExplainExecutionRequest, LogChunk, LogMatch, LogSkip, ReadLogRequest,
    StreamLogRequest, attempt_report::Phase, log_chunk::Stream, read_log_response::Item,
};
use tonic::{Code, Status};

use super::{
    agent::{Agent, running, sha256},
    fixture::{Clients, Fixture, run},
};

/// Lines of the log, a chunk each: enough for several segments.
const LINES: usize = 20_000;
/// When the first line was printed, in milliseconds.
const START: i64 = 1_795_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A log whose every line tells its number, of two steps and two streams, a millisecond a line.
fn chunks() -> Vec<LogChunk> {
    let mut offset = 0;
    let mut all = Vec::with_capacity(LINES);
    for number in 1..=LINES {
        let end = if number == LINES { "" } else { "\n" };
        let text = format!("line {number} of a log that is long enough to be cut{end}");
        let mut chunk = LogChunk {
            offset,
            step: if number <= LINES / 2 { "s1" } else { "s2.1" }.to_owned(),
            time: Some(time(START + i64::try_from(number).expect("small"))),
            data: text.into_bytes().into(),
            ..LogChunk::default()
        };
        chunk.set_stream(match number % 10 {
            0 => Stream::Stderr,
            _ => Stream::Stdout,
        });
        offset += i64::try_from(chunk.data.len()).expect("small");
        all.push(chunk);
    }
    all
}

fn time(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis / 1000,
        nanos: i32::try_from(millis % 1000).expect("small") * 1_000_000,
    }
}

fn bytes(chunks: &[LogChunk]) -> Vec<u8> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.data.to_vec())
        .collect()
}

async fn send(clients: &mut Clients, work: &Assignment, chunks: &[LogChunk]) {
    let opening = StreamLogRequest {
        attempt: work.attempt.clone(),
        epoch: work.epoch,
        ..StreamLogRequest::default()
    };
    let mut messages = vec![opening.clone()];
    messages.extend(chunks.chunks(1000).map(|part| StreamLogRequest {
        chunks: part.to_vec(),
        ..opening.clone()
    }));
    let answers = clients.link.stream_log(tokio_stream::iter(messages)).await;
    let mut answers = answers.expect("it is taken").into_inner();
    while let Some(_durable) = answers.message().await.expect("it is taken") {}
}

async fn read(clients: &mut Clients, request: &ReadLogRequest) -> Vec<Item> {
    let stream = clients.logs.read_log(request.clone()).await;
    let mut stream = stream.expect("it is there").into_inner();
    let mut items = Vec::new();
    while let Some(answer) = stream.message().await.expect("it is read") {
        items.push(answer.item.expect("something"));
    }
    items
}

async fn text(clients: &mut Clients, request: &ReadLogRequest) -> String {
    let mut all = Vec::new();
    for item in read(clients, request).await {
        match item {
            Item::Chunk(chunk) => all.extend_from_slice(&chunk.data),
            Item::End(_) => {}
            other => panic!("{other:?}"),
        }
    }
    String::from_utf8(all).expect("text")
}

async fn matches(clients: &mut Clients, request: &ReadLogRequest) -> Vec<LogMatch> {
    let items = read(clients, request).await.into_iter();
    let found = items.filter_map(|item| match item {
        Item::Match(line) => Some(line),
        Item::End(_) => None,
        other => panic!("{other:?}"),
    });
    found.collect()
}

/// The text of lines by their numbers.
fn lines(numbers: impl IntoIterator<Item = usize>) -> String {
    let all = chunks();
    let lines = numbers
        .into_iter()
        .map(|number| all[number - 1].data.to_vec());
    String::from_utf8(lines.flatten().collect()).expect("text")
}

/// Reads parts of the log, and compares them with what they must be.
async fn every_part(clients: &mut Clients, name: &str) {
    let all = ReadLogRequest {
        name: name.to_owned(),
        ..ReadLogRequest::default()
    };
    let ranges: [(ReadLogRequest, String); 11] = [
        (all.clone(), lines(1..=LINES)),
        (
            ReadLogRequest {
                tail_lines: Some(3),
                ..all.clone()
            },
            lines(LINES - 2..=LINES),
        ),
        (
            ReadLogRequest {
                tail_lines: Some(15_000),
                ..all.clone()
            },
            lines(5001..=LINES),
        ),
        (
            ReadLogRequest {
                tail_lines: Some(0),
                ..all.clone()
            },
            String::new(),
        ),
        (
            ReadLogRequest {
                first_line: 15_000,
                last_line: 15_002,
                ..all.clone()
            },
            lines(15_000..=15_002),
        ),
        (
            ReadLogRequest {
                last_line: 2,
                ..all.clone()
            },
            lines(1..=2),
        ),
        (
            ReadLogRequest {
                tail_lines: Some(2),
                step: "s1".to_owned(),
                ..all.clone()
            },
            lines([LINES / 2 - 1, LINES / 2]),
        ),
        (
            ReadLogRequest {
                step: "s2".to_owned(),
                ..all.clone()
            },
            lines(LINES / 2 + 1..=LINES),
        ),
        (
            ReadLogRequest {
                streams: vec![Stream::Stderr.into()],
                ..all.clone()
            },
            lines((10..=LINES).step_by(10)),
        ),
        (
            ReadLogRequest {
                start_time: Some(time(START + 12_345)),
                end_time: Some(time(START + 12_350)),
                ..all.clone()
            },
            lines(12_345..12_350),
        ),
        (
            ReadLogRequest {
                start_time: Some(time(START + 19_000)),
                streams: vec![Stream::Stderr.into()],
                tail_lines: Some(2),
                ..all.clone()
            },
            lines([LINES - 10, LINES]),
        ),
    ];
    for (request, expected) in ranges {
        let found = text(clients, &request).await;
        assert!(
            found == expected,
            "{request:?}: {} for {} bytes",
            found.len(),
            expected.len()
        );
    }
    let whole = bytes(&chunks());
    for (start, end) in [(0, 5), (1, 2), (300_000, 600_001), (700_000, 700_000)] {
        let request = ReadLogRequest {
            offset: i64::try_from(start).expect("small"),
            end_offset: i64::try_from(end).expect("small"),
            ..all.clone()
        };
        if start == end {
            continue;
        }
        let range: Range<usize> = start..end;
        assert_eq!(text(clients, &request).await.as_bytes(), &whole[range]);
    }
    let search = ReadLogRequest {
        grep: "line (7|17|19999|20000) of".to_owned(),
        context_before: 1,
        ..all.clone()
    };
    let found = matches(clients, &search).await;
    let numbers: Vec<_> = found.iter().map(|line| (line.line, line.context)).collect();
    let expected = [6, 7, 16, 17, 19_998, 19_999, 20_000];
    let marks = [true, false, true, false, true, false, false];
    assert_eq!(numbers, expected.into_iter().zip(marks).collect::<Vec<_>>());
    for line in &found {
        let number = usize::try_from(line.line).expect("small");
        let chunk = &chunks()[number - 1];
        assert_eq!((&line.data, line.offset), (&chunk.data, chunk.offset));
        assert_eq!((line.stream, &line.step), (chunk.stream, &chunk.step));
        assert_eq!(line.time, chunk.time);
    }
    let late = ReadLogRequest {
        grep: "line 1.*[05] of".to_owned(),
        first_line: 10_001,
        max_matches: 2,
        ..all
    };
    let found = matches(clients, &late).await;
    let numbers: Vec<_> = found.iter().map(|line| line.line).collect();
    assert_eq!(numbers, [10_005, 10_010]);
}

/// The files of an attempt's log.
fn files(fixture: &Fixture, attempt: &str) -> Vec<std::path::PathBuf> {
    fn find(folder: &Path, attempt: &str, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_log = path
                .parent()
                .is_some_and(|parent| parent.ends_with(attempt));
            match path.is_dir() {
                true => find(&path, attempt, found),
                false if is_log => found.push(path),
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    find(fixture.dir.path(), attempt, &mut found);
    found
}

/// How many blobs an attempt's log has.
async fn blobs(fixture: &Fixture, attempt: &str) -> usize {
    let all = fixture.dir.blobs().await;
    let of_log = all.iter().filter(|key| key.contains(attempt));
    of_log.count()
}

async fn one_file(fixture: &Fixture, attempt: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while blobs(fixture, attempt).await != 1 {
        assert!(tokio::time::Instant::now() < deadline, "it is never sealed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_a_log_is_the_same_while_it_is_open_and_when_it_is_one_object() {
    let fixture = Fixture::start().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let chunks = chunks();
    // In parts, so that segments are of many sizes.
    let (first, second) = chunks.split_at(LINES / 3);
    for part in first.chunks(500) {
        send(&mut agent.clients, &work, part).await;
    }
    send(&mut agent.clients, &work, second).await;
    let count = blobs(&fixture, &work.attempt).await;
    assert!(count > 10, "{count} segments");
    every_part(&mut admin, &made.name).await;
    agent.complete(&work, &bytes(&chunks)).await;
    admin.finished(&made.name).await;
    one_file(&fixture, &work.attempt).await;
    every_part(&mut admin, &made.name).await;
    let request = ReadLogRequest {
        name: made.name,
        ..ReadLogRequest::default()
    };
    let Some(Item::End(end)) = read(&mut admin, &request).await.pop() else {
        panic!("the log has no end");
    };
    assert_eq!((end.sha256, end.complete), (sha256(&bytes(&chunks)), true));
    fixture.server.stop().await;
}

/// Reads until the log can not be read: what came before, and what was told.
async fn broken(clients: &mut Clients, request: &ReadLogRequest) -> (String, Status) {
    let stream = clients.logs.read_log(request.clone()).await;
    let mut stream = stream.expect("it is there").into_inner();
    let mut all = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(answer)) => match answer.item.expect("something") {
                Item::Chunk(chunk) => all.extend_from_slice(&chunk.data),
                other => panic!("{other:?}"),
            },
            Ok(None) => panic!("the damage is not seen"),
            Err(told) => return (String::from_utf8(all).expect("text"), told),
        }
    }
}

/// The lines of a range that a message tells, as `--lines FIRST:` or `--lines :LAST`.
fn told_lines(message: &str, side: &str) -> i64 {
    let ranges = message.split("--lines ").skip(1);
    let ranges = ranges.filter_map(|rest| rest.split('`').next());
    let numbers = ranges.filter_map(|range| match side {
        "behind" => range.strip_suffix(':'),
        _ => range.strip_prefix(':'),
    });
    let mut numbers = numbers.map(|number| number.parse().expect("a number"));
    numbers
        .next()
        .unwrap_or_else(|| panic!("{side}: {message}"))
}

/// Reads a log of which something in the middle is damaged, and what is around that.
async fn around_the_damage(clients: &mut Clients, name: &str, how: &str) {
    let all = ReadLogRequest {
        name: name.to_owned(),
        ..ReadLogRequest::default()
    };
    let (came, told) = broken(clients, &all).await;
    assert_eq!(told.code(), Code::DataLoss, "{how}: {told:?}");
    let place = format!("bytes {}–", came.len());
    assert!(told.message().starts_with(&place), "{how}: {told:?}");
    let whole = lines(1..=LINES);
    assert!(whole.starts_with(&came), "{how}: other bytes came");
    let last = told_lines(told.message(), "before");
    let before = ReadLogRequest {
        last_line: last,
        ..all.clone()
    };
    let last = usize::try_from(last).expect("small");
    assert!(text(clients, &before).await == lines(1..=last), "{how}");
    let first = told_lines(told.message(), "behind");
    let behind = ReadLogRequest {
        first_line: first,
        ..all.clone()
    };
    let first = usize::try_from(first).expect("small");
    assert!(
        text(clients, &behind).await == lines(first..=LINES),
        "{how}"
    );
    let tail = ReadLogRequest {
        tail_lines: Some(100),
        ..all.clone()
    };
    assert_eq!(
        text(clients, &tail).await,
        lines(LINES - 99..=LINES),
        "{how}"
    );
    // A search and a tail that come to it do not pass over it.
    let search = ReadLogRequest {
        grep: "no such line".to_owned(),
        ..all.clone()
    };
    let (_, told) = broken(clients, &search).await;
    assert_eq!(told.code(), Code::DataLoss, "{how}: {told:?}");
    let tail = ReadLogRequest {
        tail_lines: Some(i64::try_from(LINES).expect("small") - 1),
        step: "s1".to_owned(),
        ..all
    };
    let (_, told) = broken(clients, &tail).await;
    assert_eq!(told.code(), Code::DataLoss, "{how}: {told:?}");
}

/// Ways in which a file may not be what was stored. The place of a bit is in its middle.
fn damages(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 0x10;
    vec![
        ("a bit has flipped", flipped),
        ("it is cut off", good[..good.len() / 2].to_vec()),
        ("it is empty", Vec::new()),
        ("it is nothing of the kind", vec![b'x'; good.len()]),
    ]
}

/// Waits until it is told that a log is damaged, and tells what is told.
async fn told_damage(clients: &mut Clients, name: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut found = clients.get(name).await;
        if let Some(warning) = found.warnings.pop() {
            assert!(!found.log.expect("a log").complete);
            assert_eq!(found.warnings, Vec::<String>::new());
            return warning;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_damaged_while_it_is_open_is_told_and_never_complete() {
    let fixture = Fixture::start_on_files().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let chunks = chunks();
    // The same log of another attempt, with segments of the same bytes.
    admin.create(run()).await;
    let other = agent.work().await;
    agent.report(&other, Phase::Running).await;
    let parts = [&chunks[..5000], &chunks[5000..10_000], &chunks[10_000..]];
    let mut segments: [Vec<std::path::PathBuf>; 2] = [Vec::new(), Vec::new()];
    for part in parts {
        for (work, segments) in [&work, &other].into_iter().zip(&mut segments) {
            send(&mut agent.clients, work, part).await;
            let new = files(&fixture, &work.attempt);
            let new = new.into_iter().filter(|file| !segments.contains(file));
            let new: Vec<_> = new.collect();
            segments.extend(new);
        }
    }
    let [own, others] = segments;
    let middle = &own[1];
    let good = std::fs::read(middle).expect("it is there");
    let file = |path: &std::path::PathBuf| std::fs::read(path).expect("it is there");
    let mut all = damages(&good);
    all.push(("it is another part", file(&own[2])));
    all.push(("it is of another log", file(&others[1])));
    for (how, damaged) in &all {
        std::fs::write(middle, damaged).expect("it is written");
        around_the_damage(&mut admin, &made.name, how).await;
    }
    std::fs::remove_file(middle).expect("it is removed");
    around_the_damage(&mut admin, &made.name, "it is gone").await;
    std::fs::write(middle, &all[0].1).expect("it is written");
    agent.complete(&work, &bytes(&chunks)).await;
    // What is in memory is whole; sealing reads what is stored.
    let warning = told_damage(&mut admin, &made.name).await;
    assert!(
        warning.contains("of the log are not what was stored: the segment is damaged"),
        "{warning}"
    );
    let explained = admin
        .executions
        .explain_execution(ExplainExecutionRequest {
            name: made.name.clone(),
        })
        .await;
    let hindrances = explained.expect("it is explained").into_inner().hindrances;
    let mut reasons = hindrances.iter().map(|told| told.reason.as_str());
    assert!(reasons.any(|it| it == "LOG_INCOMPLETE"), "{hindrances:?}");
    assert_eq!(files(&fixture, &work.attempt).len(), own.len());
    let end = ReadLogRequest {
        name: made.name.clone(),
        first_line: 19_000,
        ..ReadLogRequest::default()
    };
    let Some(Item::End(end)) = read(&mut admin, &end).await.pop() else {
        panic!("the log has no end");
    };
    assert!(!end.complete);
    around_the_damage(&mut admin, &made.name, "it has ended").await;
    // The object store has it again: the next look finds it whole.
    std::fs::write(middle, good).expect("it is written");
    drop((agent, admin));
    let fixture = fixture.restart().await;
    let mut admin = fixture.admin().await;
    one_file(&fixture, &work.attempt).await;
    let mended = admin.get(&made.name).await;
    assert!(mended.log.expect("a log").complete);
    let all = ReadLogRequest {
        name: made.name,
        ..ReadLogRequest::default()
    };
    assert!(text(&mut admin, &all).await == lines(1..=LINES));
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_log_that_is_damaged_is_told_and_what_is_around_it_can_be_read() {
    let fixture = Fixture::start_on_files().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let chunks = chunks();
    for part in chunks.chunks(LINES / 4) {
        send(&mut agent.clients, &work, part).await;
    }
    agent.complete(&work, &bytes(&chunks)).await;
    admin.finished(&made.name).await;
    one_file(&fixture, &work.attempt).await;
    let object = files(&fixture, &work.attempt).pop().expect("an object");
    let good = std::fs::read(&object).expect("it is there");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    std::fs::write(&object, &flipped).expect("it is written");
    around_the_damage(&mut admin, &made.name, "a bit has flipped").await;
    let all = ReadLogRequest {
        name: made.name.clone(),
        ..ReadLogRequest::default()
    };
    for (how, damaged) in damages(&good) {
        std::fs::write(&object, damaged).expect("it is written");
        let (came, told) = broken(&mut admin, &all).await;
        assert_eq!(told.code(), Code::DataLoss, "{how}: {told:?}");
        assert!(lines(1..=LINES).starts_with(&came), "{how}");
    }
    std::fs::remove_file(&object).expect("it is removed");
    let (_, told) = broken(&mut admin, &all).await;
    assert_eq!(told.code(), Code::DataLoss, "{told:?}");
    std::fs::write(&object, good).expect("it is written");
    assert!(text(&mut admin, &all).await == lines(1..=LINES));
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_goes_on_over_what_was_damaged_before_another_server_takes_it() {
    let fixture = Fixture::start_on_files().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let made = fixture.admin().await.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let chunks = chunks();
    let (first, second) = chunks.split_at(LINES / 2);
    send(&mut agent.clients, &work, first).await;
    let stored = files(&fixture, &work.attempt).pop().expect("a segment");
    let (_, damaged) = damages(&std::fs::read(&stored).expect("it is there")).remove(0);
    std::fs::write(&stored, damaged).expect("it is written");
    drop(agent);
    let fixture = fixture.restart().await;
    let mut admin = fixture.admin().await;
    let held = Agent::held(&[&work]);
    let (mut agent, welcome) = Agent::connect(&fixture, &token, held).await;
    let mut last = agent.report_of(&work, Phase::Running);
    last.sequence = welcome.orders[0].sequence;
    agent.send_report(last).await;
    send(&mut agent.clients, &work, second).await;
    agent.complete(&work, &bytes(&chunks)).await;
    let warning = told_damage(&mut admin, &made.name).await;
    assert!(warning.starts_with("bytes 0–"), "{warning}");
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_too_slowly_is_told_what_was_skipped_and_can_read_it_again() {
    let fixture = Fixture::start().await;
    let (mut admin, mut agent, made, work) = running(&fixture).await;
    let text: Vec<u8> = b"a line\n"
        .iter()
        .copied()
        .cycle()
        .take(7 * 3_000_000)
        .collect();
    agent.log(&work, 0, &text[..7]).await.expect("it is taken");
    let request = ReadLogRequest {
        name: made.name.clone(),
        follow: true,
        skip_behind_bytes: 1 << 20,
        ..ReadLogRequest::default()
    };
    let mut slow = fixture.admin().await;
    let reader = slow.logs.read_log(request).await.expect("it is there");
    let mut reader = reader.into_inner();
    let first = reader.message().await.expect("no error").expect("a word");
    assert!(matches!(first.item, Some(Item::Chunk(_))), "{first:?}");
    agent.log(&work, 7, &text[7..]).await.expect("it is taken");
    agent.complete(&work, &text).await;
    let (mut at, mut skips) = (7, Vec::new());
    while let Some(answer) = reader.message().await.expect("no error") {
        match answer.item.expect("something") {
            Item::Chunk(chunk) => {
                assert_eq!(chunk.offset, at);
                at += i64::try_from(chunk.data.len()).expect("small");
            }
            Item::Skip(LogSkip { offset, size_bytes }) => {
                assert_eq!(offset, at);
                at += size_bytes;
                skips.push((offset, size_bytes));
            }
            Item::End(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, i64::try_from(text.len()).expect("small"));
    let (offset, size) = *skips.first().expect("it was too slow");
    let request = ReadLogRequest {
        name: made.name,
        offset,
        end_offset: offset + size,
        ..ReadLogRequest::default()
    };
    let again: usize = read(&mut admin, &request)
        .await
        .iter()
        .map(|item| match item {
            Item::Chunk(chunk) => chunk.data.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(i64::try_from(again).expect("small"), size);
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_request_that_can_not_be_meant_is_refused_with_its_field() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let made = admin.create(run()).await;
    let all = ReadLogRequest {
        name: made.name,
        ..ReadLogRequest::default()
    };
    for (field, request) in [
        (
            "tail_lines",
            ReadLogRequest {
                tail_lines: Some(-1),
                ..all.clone()
            },
        ),
        (
            "tail_lines",
            ReadLogRequest {
                tail_lines: Some(1_000_001),
                ..all.clone()
            },
        ),
        (
            "last_line",
            ReadLogRequest {
                first_line: 5,
                last_line: 4,
                ..all.clone()
            },
        ),
        (
            "end_offset",
            ReadLogRequest {
                offset: 5,
                end_offset: 5,
                ..all.clone()
            },
        ),
        (
            "streams",
            ReadLogRequest {
                streams: vec![0],
                ..all.clone()
            },
        ),
        (
            "grep",
            ReadLogRequest {
                grep: "(".to_owned(),
                ..all.clone()
            },
        ),
        (
            "end_time",
            ReadLogRequest {
                start_time: Some(time(5)),
                end_time: Some(time(4)),
                ..all.clone()
            },
        ),
    ] {
        let refused = admin
            .logs
            .read_log(request)
            .await
            .expect_err("it is refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert!(
            refused.message().contains(field),
            "{field}: {}",
            refused.message()
        );
    }
    fixture.server.stop().await;
}

/// A log that is written as fast as the server takes it, for as long as it lives.
struct Chatty {
    requests: tokio::sync::mpsc::Sender<StreamLogRequest>,
    opening: StreamLogRequest,
    sent: i64,
}

impl Chatty {
    async fn open(clients: &mut Clients, work: &Assignment) -> Self {
        let opening = StreamLogRequest {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            ..StreamLogRequest::default()
        };
        let (requests, stream) = tokio::sync::mpsc::channel(1);
        requests.send(opening.clone()).await.expect("there is room");
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let answers = clients.link.stream_log(stream).await.expect("it is taken");
        let mut answers = answers.into_inner();
        tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        Self {
            requests,
            opening,
            sent: 0,
        }
    }

    /// Sends 64 KiB; whether the server takes them within a moment.
    async fn send(&mut self) -> bool {
        let chunk = LogChunk {
            offset: self.sent,
            data: vec![b'x'; 64 << 10].into(),
            step: "s1".to_owned(),
            ..LogChunk::default()
        };
        let request = StreamLogRequest {
            chunks: vec![chunk],
            ..self.opening.clone()
        };
        let sent = self.requests.send(request);
        let sent = tokio::time::timeout(Duration::from_millis(300), sent).await;
        let taken = matches!(sent, Ok(Ok(())));
        self.sent += if taken { 64 << 10 } else { 0 };
        taken
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_may_not_come_as_fast_as_they_do_hold_up_nothing_else_of_their_agent() {
    const MANY: usize = 24;
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let limits = muster_proto::v1::UpdateProjectRequest {
        project: Some(muster_proto::v1::Project {
            name: "projects/default".to_owned(),
            max_log_rate: Some(64 << 10),
            ..muster_proto::v1::Project::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["max_log_rate".to_owned()],
        }),
        ..muster_proto::v1::UpdateProjectRequest::default()
    };
    admin
        .projects
        .update_project(limits)
        .await
        .expect("it is set");
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect_with(&fixture, &token, 100).await;
    let mut chatty = Vec::new();
    for _ in 0..MANY {
        admin.create(run()).await;
        let work = agent.work().await;
        agent.report(&work, Phase::Running).await;
        chatty.push(Chatty::open(&mut agent.clients, &work).await);
    }
    // All that fits between them and the server is on its way.
    let mut waiting = 0;
    for log in &mut chatty {
        while log.sent < 4 << 20 && log.send().await {}
        waiting += log.sent;
    }
    assert!(waiting > 16 << 20, "{waiting}");
    let made = admin.create(run()).await;
    let work = tokio::time::timeout(PATIENCE, agent.work()).await;
    let work = work.expect("its work comes on the same connection");
    let reported = tokio::time::timeout(PATIENCE, agent.report(&work, Phase::Running)).await;
    reported.expect("its report is heard on the same connection");
    agent.complete(&work, b"").await;
    admin.finished(&made.name).await;
    drop(chatty);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_comes_no_faster_than_its_project_allows_and_no_longer() {
    const RATE: i64 = 256 << 10;
    const LONGEST: i64 = 1 << 20;
    let fixture = Fixture::start_with(|config| config.max_log = 5000).await;
    let mut admin = fixture.admin().await;
    let limits = muster_proto::v1::UpdateProjectRequest {
        project: Some(muster_proto::v1::Project {
            name: "projects/default".to_owned(),
            max_log_bytes: Some(LONGEST),
            max_log_rate_each: Some(RATE),
            ..muster_proto::v1::Project::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: ["max_log_bytes", "max_log_rate_each"]
                .map(str::to_owned)
                .to_vec(),
        }),
        ..muster_proto::v1::UpdateProjectRequest::default()
    };
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    admin.create(run()).await;
    let work = agent.work().await;
    assert_eq!(work.max_log_bytes, 5000);
    admin
        .projects
        .update_project(limits)
        .await
        .expect("it is set");
    admin.create(run()).await;
    let work = agent.work().await;
    assert_eq!(work.max_log_bytes, LONGEST);
    agent.report(&work, Phase::Running).await;
    let began = tokio::time::Instant::now();
    let text = vec![b'x'; 1 << 20];
    let durable = agent.log(&work, 0, &text).await.expect("it is taken");
    assert_eq!(durable, LONGEST);
    // A second's worth comes at once, three more take their time.
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // The conductor keeps to the limit; an agent that knows no end is refused at last.
    let longest = usize::try_from(LONGEST).expect("small");
    let long = vec![b'x'; 1000];
    let far = agent.log_after(&work, longest + (64 << 30), &long).await;
    assert_eq!(
        far.expect_err("it is too long").code(),
        Code::ResourceExhausted
    );
    fixture.server.stop().await;
}
