//! What tests have printed: it stands in their reports, and is read from there.

use std::collections::BTreeMap;

use muster_proto::v1::{
    Artifact, DownloadArtifactRequest, GetArtifactRequest, TestCase, TestOutput,
};
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    terminal::{self, Style, Terminal, escape, measure},
};

/// Bytes of a report that are shown of one output.
const MOST_BYTES: i64 = 64 << 10;
/// Outputs that are read for one command; of others it is told where they stand.
const MOST_READ: usize = 200;

/// What one test has printed.
#[derive(Debug, Default)]
pub(super) struct Printed {
    outputs: Vec<Output>,
}

/// What it has printed one way.
#[derive(Debug)]
struct Output {
    told: TestOutput,
    /// Where the report is, if somebody has asked.
    place: Option<Place>,
    text: Text,
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    /// Id of the execution.
    execution: String,
    path: String,
}

/// What of an output is here.
#[derive(Debug, PartialEq)]
enum Text {
    /// Nobody has asked for it, or too much was asked for.
    Unread,
    /// Its beginning, to this byte of the report; all of it, if that is its end.
    Read(String, i64),
    /// It can not be read, for this reason.
    Failed(String),
}

/// An output for a program: bytes of the report.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    stream: String,
    start: i64,
    end: i64,
    /// Its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// There is more of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    /// Why it can not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Returns for each test what it has printed, with the text if that is wanted.
pub(super) async fn read(client: &Client, cases: &[TestCase], with_text: bool) -> Vec<Printed> {
    let mut reports = Reports::default();
    let mut left = if with_text { MOST_READ } else { 0 };
    let mut all = Vec::with_capacity(cases.len());
    for case in cases {
        let mut printed = Printed::default();
        for told in &case.outputs {
            let place = match with_text {
                true => reports.place(client, case).await,
                false => Ok(None),
            };
            let (place, text) = match place {
                Ok(place) if left == 0 => (place, Text::Unread),
                Ok(place) => {
                    left -= 1;
                    let text = text(client, &case.report, told).await;
                    (
                        place,
                        text.unwrap_or_else(|error| Text::Failed(error.to_string())),
                    )
                }
                Err(error) => (None, Text::Failed(error)),
            };
            printed.outputs.push(Output {
                told: told.clone(),
                place,
                text,
            });
        }
        all.push(printed);
    }
    all
}

/// Where reports are, as far as it is known.
#[derive(Debug, Default)]
struct Reports {
    known: BTreeMap<String, Result<Place, String>>,
}

impl Reports {
    async fn place(&mut self, client: &Client, case: &TestCase) -> Result<Option<Place>, String> {
        if let Some(known) = self.known.get(&case.report) {
            return known.clone().map(Some);
        }
        let found = artifact(client, &case.report).await;
        let found = found.map_err(|error| error.to_string()).map(|artifact| {
            let execution = case.execution.rsplit('/').next().unwrap_or_default();
            Place {
                execution: execution.to_owned(),
                path: artifact.path,
            }
        });
        self.known.insert(case.report.clone(), found.clone());
        found.map(Some)
    }
}

async fn artifact(client: &Client, name: &str) -> Result<Artifact, Error> {
    let request = GetArtifactRequest {
        name: name.to_owned(),
    };
    let response = client
        .call(async || client.artifacts().get_artifact(request.clone()).await)
        .await?;
    Ok(response.artifact.unwrap_or_default())
}

/// Reads the beginning of an output. A part is cut at its end alone, so that what stands in CDATA is
/// known as such.
async fn text(client: &Client, report: &str, told: &TestOutput) -> Result<Text, Error> {
    let size = told.end.saturating_sub(told.start).clamp(0, MOST_BYTES);
    let size = usize::try_from(size).unwrap_or(0);
    let request = DownloadArtifactRequest {
        name: report.to_owned(),
        offset: told.start,
    };
    let response = client.artifacts().download_artifact(request).await;
    let mut stream = response
        .map_err(|status| client.error(&status))?
        .into_inner();
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let message = stream.message().await;
        let Some(message) = message.map_err(|status| client.error(&status))? else {
            break;
        };
        bytes.extend_from_slice(&message.data);
    }
    bytes.truncate(size);
    let read = i64::try_from(bytes.len()).unwrap_or(MOST_BYTES);
    let text = muster_report::output_text(&bytes);
    Ok(Text::Read(text, told.start.saturating_add(read)))
}

impl Printed {
    /// For programs.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.outputs.iter().map(Output::row).collect()
    }

    /// For people.
    pub(super) fn text(&self, terminal: &Terminal) -> String {
        self.outputs.iter().map(|one| one.text(terminal)).collect()
    }
}

impl Output {
    fn row(&self) -> Row {
        let (text, cut, error) = match &self.text {
            Text::Read(text, end) => (Some(text.clone()), *end < self.told.end, None),
            // One that was asked for, beyond those that are read.
            Text::Unread => (None, self.place.is_some(), None),
            Text::Failed(reason) => (None, false, Some(reason.clone())),
        };
        Row {
            stream: self.told.stream.clone(),
            start: self.told.start,
            end: self.told.end,
            text,
            cut,
            error,
        }
    }

    fn text(&self, terminal: &Terminal) -> String {
        let (lines, rest) = match &self.text {
            Text::Read(text, end) => {
                let rest = (*end < self.told.end).then(|| self.rest("more", *end));
                (text.trim_matches('\n'), rest)
            }
            Text::Unread => ("", Some(self.rest("not shown", self.told.start))),
            Text::Failed(reason) => ("", Some(format!("it can not be read: {reason}"))),
        };
        let heading = match self.told.stream.as_str() {
            "err" => "standard error:",
            _ => "standard output:",
        };
        let mut shown = format!("         {}\n", terminal.paint(Style::Bold, heading));
        for line in lines.lines() {
            let line = terminal.paint(Style::Dim, &escape::visible(line));
            shown.push_str(&format!("           {line}\n"));
        }
        if let Some(rest) = rest {
            shown.push_str(&format!("           … {}\n", escape::visible(&rest)));
        }
        shown
    }

    /// Where the rest stands, from a byte of the report on.
    fn rest(&self, what: &str, from: i64) -> String {
        let size = measure::size(self.told.end - from);
        let end = self.told.end;
        let place = self.place.as_ref();
        let place = place.map(|it| {
            let path = terminal::shell_word(&it.path);
            format!(": `muster artifacts {} {path}`", it.execution)
        });
        let place = place.unwrap_or_default();
        format!("{size} {what}, bytes {from} to {end} of the report{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: Text) -> String {
        let output = Output {
            told: TestOutput {
                stream: "err".to_owned(),
                start: 100,
                end: 1_100,
            },
            place: Some(Place {
                execution: "smoke-3".to_owned(),
                path: "out/junit.xml".to_owned(),
            }),
            text,
        };
        output.text(&Terminal::plain())
    }

    #[test]
    fn of_what_is_cut_it_is_told_where_the_rest_is() {
        let whole = shown(Text::Read("one\n\x1b[2Jtwo\n".to_owned(), 1_100));
        let expected = "         standard error:\n           one\n           ^[[2Jtwo\n";
        assert_eq!(whole, expected);
        let part = shown(Text::Read("one".to_owned(), 600));
        let rest = "… 500 B more, bytes 600 to 1100 of the report: `muster artifacts smoke-3 out/junit.xml`";
        assert!(part.contains(rest), "{part}");
        let unread = shown(Text::Unread);
        assert!(
            unread.contains("… 1.0 kB not shown, bytes 100 to 1100"),
            "{unread}"
        );
        let failed = shown(Text::Failed("it is gone".to_owned()));
        assert!(
            failed.contains("it can not be read: it is gone"),
            "{failed}"
        );
    }
}
