//! `muster logs`: what an execution printed. Finding what is meant is in [`choose`], the stream in
//! [`read`], lines for programs in [`lines`](mod@lines), what stands on the screen in [`mod@print`].

mod choose;
mod lines;
mod print;
mod read;

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use muster_proto::v1::{ReadLogRequest, log_chunk::Stream};

use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    json,
    place::Session,
    terminal::{escape::Filter, measure, shell_word},
};
use lines::Lines;
use print::Printer;

/// Bytes that one who follows on a terminal may be behind before some are skipped: nobody reads that
/// fast.
const SKIP_BEHIND: i64 = 16 << 20;

const EXAMPLES: &str = "\
Examples:
  muster logs smoke-3
  muster logs smoke-3 -f                follow it until it is complete
  muster logs smoke-3 --step build      only one step, by id, name or reference
  muster logs smoke-3 --tail 20 --timestamps
  muster logs smoke-3 --since 5m        the last five minutes; also a time, 2026-11-28T10:00:00Z
  muster logs smoke-3 --lines 1000000:1000050
  muster logs smoke-3 --bytes 1GiB:1025MiB > part
  muster logs smoke-3 --grep 'panicked|FAILED' -C 3
  muster logs smoke-3 --stream stderr
  muster logs load-7 --worker 2         the third worker of a parallel step
  muster logs load-7 --service db
  muster logs smoke-3 --attempt 1       an earlier attempt, before it was tried again
  muster logs smoke-3 --output json     one JSON object for each line of a step and stream

A line of more than 1 MiB comes as several objects; all but the last have \"continues\": true.
On a terminal, colours stay and other escape sequences go; --raw leaves every byte. Into a file or
a pipe the bytes always go as they are. With --grep, exit code 0 means that something was found.";

/// Print the log of an execution
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Name such as smoke-3, or id
    #[arg(value_name = "EXECUTION")]
    id: String,
    /// Stay until the log is complete
    #[arg(long, short)]
    follow: bool,
    /// Only what this step printed: its id, name or reference such as s2.1
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// The log of a worker or a member of the suite instead: its index, from 0
    #[arg(long, value_name = "INDEX", conflicts_with = "service")]
    worker: Option<u32>,
    /// The log of a service instead: its name, with an index where it has several, db/1
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only the log of this attempt, by its number in `muster get`; else the newest one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Leave every byte as it is, even on a terminal
    #[arg(long)]
    raw: bool,
    /// Put the time before each line
    #[arg(long, short)]
    timestamps: bool,
    /// Begin with the last lines only
    #[arg(long, value_name = "LINES", conflicts_with = "lines", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    tail: Option<u32>,
    /// Only what was printed since this time, or in this last stretch of time: 5m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what was printed before this time, or until this long ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only these lines of the whole log, counted from 1: 7, 7:20, 7: or :20
    #[arg(long, value_name = "FIRST:LAST", value_parser = lines)]
    lines: Option<(i64, i64)>,
    /// Only these bytes of the whole log, counted from 0, without the last: 500:2MiB, 500: or :2MiB
    #[arg(long, value_name = "FIRST:END", value_parser = bytes,
          conflicts_with_all = ["lines", "tail", "grep"])]
    bytes: Option<(i64, i64)>,
    /// Only what came this way
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<Way>,
    /// Only lines in which this regular expression is found; the server looks
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// With --grep, take upper and lower case as one
    #[arg(long, short, requires = "grep")]
    ignore_case: bool,
    /// With --grep, show this many lines around each match too
    #[arg(long, short = 'C', value_name = "LINES", requires = "grep", conflicts_with_all = ["before", "after"],
          value_parser = clap::value_parser!(i32).range(0..=1000))]
    around: Option<i32>,
    /// With --grep, show this many lines before each match too
    #[arg(long, short = 'B', value_name = "LINES", requires = "grep",
          value_parser = clap::value_parser!(i32).range(0..=1000))]
    before: Option<i32>,
    /// With --grep, show this many lines behind each match too
    #[arg(long, short = 'A', value_name = "LINES", requires = "grep",
          value_parser = clap::value_parser!(i32).range(0..=1000))]
    after: Option<i32>,
    /// With --grep, end after this many matches
    #[arg(long, short, value_name = "COUNT", requires = "grep",
          value_parser = clap::value_parser!(i64).range(1..))]
    max_count: Option<i64>,
}

/// The way by which output came.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
    /// Remarks of Muster itself
    System,
}

impl Way {
    const fn stream(self) -> Stream {
        match self {
            Self::Stdout => Stream::Stdout,
            Self::Stderr => Stream::Stderr,
            Self::System => Stream::System,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// Runs it.
pub(crate) async fn execute(arguments: Arguments, global: &Global) -> Result<Exit, Error> {
    let session = Session::open(global).await?;
    let found = print(&session.client, &arguments, global).await;
    session.close().await;
    let found = found?;
    Ok(match arguments.grep.is_some() && !found {
        true => Exit::Failed,
        false => Exit::Success,
    })
}

/// Prints what is wanted; returns whether it was anything.
async fn print(client: &Client, arguments: &Arguments, global: &Global) -> Result<bool, Error> {
    let terminal = global.stdout().interactive;
    let request = request(client, arguments, terminal).await?;
    let mut printer = Printer {
        out: super::write,
        json: global.json().then(Lines::default),
        filter: (terminal && !arguments.raw).then(Filter::default),
        timestamps: arguments.timestamps,
        at_start: true,
        last: None,
        found: false,
    };
    let follows = request.follow;
    let again = again(arguments);
    let end = read::all(client, request, &again, |item| printer.item(item)).await;
    printer.finish()?;
    let end = end?;
    // Of an earlier attempt nobody compares the digest; what is missing is told where it is.
    if let Some(end) = end
        && follows
        && arguments.attempt.is_none()
        && !end.complete
    {
        super::note(global, "the log is not complete");
    }
    Ok(printer.found)
}

async fn request(
    client: &Client,
    arguments: &Arguments,
    terminal: bool,
) -> Result<ReadLogRequest, Error> {
    let chosen = choose::choose(client, arguments).await?;
    let (first_line, last_line) = arguments.lines.unwrap_or_default();
    let (offset, end_offset) = arguments.bytes.unwrap_or_default();
    let around = arguments.around;
    let streams = arguments.streams.iter().map(|way| way.stream().into());
    let grep = arguments.grep.as_deref().map(|pattern| {
        if pattern.is_empty() {
            return Err(Error::Usage("--grep: the expression is empty".to_owned()));
        }
        let any_case = if arguments.ignore_case { "(?i)" } else { "" };
        Ok(format!("{any_case}{pattern}"))
    });
    Ok(ReadLogRequest {
        name: chosen.name,
        follow: arguments.follow,
        step: chosen.step,
        attempt: arguments.attempt.map_or(0, i64::from),
        tail_lines: arguments.tail.map(i64::from),
        offset,
        end_offset,
        first_line,
        last_line,
        start_time: arguments.since.map(json::wire),
        end_time: arguments.until.map(json::wire),
        streams: streams.collect(),
        grep: grep.transpose()?.unwrap_or_default(),
        context_before: arguments.before.or(around).unwrap_or(0),
        context_after: arguments.after.or(around).unwrap_or(0),
        max_matches: arguments.max_count.unwrap_or(0),
        skip_behind_bytes: if terminal { SKIP_BEHIND } else { 0 },
    })
}

/// A time, or how long ago it was.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let ago = super::server::duration(text).map_err(
        |_error| "neither a time such as 2026-11-28T10:00:00Z nor a duration such as 5m",
    )?;
    let ago = SignedDuration::try_from(ago).map_err(|error| error.to_string())?;
    Timestamp::now()
        .checked_sub(ago)
        .map_err(|error| error.to_string())
}

/// A range of lines: first and last, 0 for none.
fn lines(text: &str) -> Result<(i64, i64), String> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| match text {
        "" => Ok(0),
        text => match text.parse::<i64>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!(
                "'{text}' is no number of a line: they count from 1"
            )),
        },
    };
    let (first, last) = (number(first)?, number(last)?);
    match (first, last) {
        (0, 0) => Err("give a first line, a last one or both: 7:20".to_owned()),
        (first, last) if last > 0 && last < first => {
            Err("the last line is before the first".to_owned())
        }
        range => Ok(range),
    }
}

/// A range of bytes: the first, and the one behind the last, 0 for none.
fn bytes(text: &str) -> Result<(i64, i64), String> {
    let Some((first, end)) = text.split_once(':') else {
        return Err("give a first byte, the one behind the last, or both: 500:2MiB".to_owned());
    };
    let number = |text: &str| match text {
        "" => Ok(0),
        text => measure::bytes(text),
    };
    match (number(first)?, number(end)?) {
        _ if first.is_empty() && end.is_empty() => {
            Err("give a first byte, the one behind the last, or both: 500:2MiB".to_owned())
        }
        (first, behind) if !end.is_empty() && behind <= first => {
            Err("the end is not behind the first byte".to_owned())
        }
        range => Ok(range),
    }
}

/// The command that reads of the same log what is given behind it.
fn again(arguments: &Arguments) -> String {
    let mut words = vec!["muster logs".to_owned(), shell_word(&arguments.id)];
    let mut add = |flag: &str, value: Option<String>| {
        words.extend(value.map(|value| format!("--{flag} {}", shell_word(&value))));
    };
    add("worker", arguments.worker.map(|index| index.to_string()));
    add("service", arguments.service.clone());
    add("attempt", arguments.attempt.map(|it| it.to_string()));
    add("step", arguments.step.clone());
    for way in &arguments.streams {
        add("stream", Some(way.name().to_owned()));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        let line = CommandLine::try_parse_from(["logs", "load-7"].iter().chain(words));
        Ok(line?.arguments)
    }

    #[test]
    fn ranges_of_bytes_are_read() {
        assert_eq!(bytes("7:20"), Ok((7, 20)));
        assert_eq!(bytes("0:1"), Ok((0, 1)));
        assert_eq!(bytes("1KiB:"), Ok((1024, 0)));
        assert_eq!(bytes(":2MB"), Ok((0, 2_000_000)));
        for bad in [
            "", ":", "7", "0:0", ":0", "5:5", "5:4", "a:", "-1:2", "1:2:3",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_stand_with_no_other_range() {
        for words in [&["--lines", "7"][..], &["--tail", "7"], &["--grep", "a"]] {
            let refused = parse(&[&["--bytes", "5:"], words].concat()).unwrap_err();
            assert!(refused.to_string().contains("cannot be used with"));
        }
        let open = parse(&["--bytes", "5:", "-f", "--stream", "stderr", "--since", "5m"]);
        assert_eq!(open.unwrap().bytes, Some((5, 0)));
    }

    #[test]
    fn the_command_for_what_was_skipped_names_the_same_log() {
        assert_eq!(again(&parse(&["-f"]).unwrap()), "muster logs load-7");
        let words = [
            "-f", "--worker", "2", "--step", "it's run", "--stream", "stderr",
        ];
        let expected = r"muster logs load-7 --worker 2 --step 'it'\''s run' --stream stderr";
        assert_eq!(again(&parse(&words).unwrap()), expected);
    }

    #[test]
    fn ranges_of_lines_are_read() {
        assert_eq!(lines("7"), Ok((7, 7)));
        assert_eq!(lines("7:20"), Ok((7, 20)));
        assert_eq!(lines("7:"), Ok((7, 0)));
        assert_eq!(lines(":20"), Ok((0, 20)));
        for bad in ["", ":", "0", "a", "5:4", "-1:2", "1:2:3"] {
            assert!(lines(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_while_ago() {
        let time = moment("2026-11-28T10:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-28T10:00:00Z");
        let then = moment("1m30s").unwrap();
        let ago = Timestamp::now().duration_since(then);
        assert!((90..100).contains(&ago.as_secs()), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
