//! `muster tests --reports`: which files were read, and what was cut or left out of them.

use muster_proto::v1::{ListReportsRequest, Report, report};
use muster_report::Warning;
use serde::Serialize;
use serde_json::Value;

use super::{Counts, duration};
use crate::{
    arguments::Global,
    client::Client,
    error::Error,
    exit::Exit,
    terminal::{Style, Terminal, escape, table::Table},
};

/// Returns the reports of an execution and of all that it has started.
pub(in crate::command) async fn list(client: &Client, id: &str) -> Result<Vec<Report>, Error> {
    let request = ListReportsRequest {
        parent: client.execution_name(id)?,
    };
    let response = client
        .call(async || client.tests().list_reports(request.clone()).await)
        .await?;
    Ok(response.reports)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    path: String,
    format: String,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// What was cut, left out or found odd, in words; `summary` has it for programs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    artifact: String,
    summary: Value,
}

#[derive(Debug, Serialize)]
struct Document {
    reports: Vec<Row>,
}

impl Row {
    fn new(report: &Report) -> Self {
        let summary: Value = serde_json::from_str(&report.summary_json).unwrap_or_default();
        Self {
            path: report.path.clone(),
            format: report.format.clone(),
            state: match report.state() {
                report::State::Unspecified => "",
                report::State::Pending => "pending",
                report::State::Read => "read",
                report::State::Broken => "broken",
            },
            message: report.message.clone(),
            warnings: warnings(&summary),
            counts: Counts::new(report.counts),
            seconds: duration(report.duration.as_ref()).map(|it| it.as_secs_f64()),
            artifact: report.artifact.clone(),
            summary,
        }
    }
}

/// The warnings of a summary, in words. One kind is one warning, so they are few.
fn warnings(summary: &Value) -> Vec<String> {
    let all = summary.get("warnings").and_then(Value::as_array);
    let words = |told: &Value| match serde_json::from_value::<Warning>(told.clone()) {
        Ok(warning) => warning.to_string(),
        // Of a newer server.
        Err(_) => {
            let kind = told.get("kind").and_then(Value::as_str);
            let count = told.get("count").and_then(Value::as_u64);
            format!("{} {}", count.unwrap_or(1), kind.unwrap_or("warning"))
        }
    };
    all.into_iter().flatten().map(words).collect()
}

/// Shows them.
pub(super) fn show(reports: &[Report], global: &Global) -> Result<Exit, Error> {
    let rows: Vec<Row> = reports.iter().map(Row::new).collect();
    if global.json() {
        crate::json::print(&Document { reports: rows })?;
    } else if rows.is_empty() {
        crate::command::note(global, "no reports among the artifacts");
    } else {
        crate::command::print(&text(&rows, &global.stdout()))?;
    }
    Ok(Exit::Success)
}

fn text(rows: &[Row], terminal: &Terminal) -> String {
    let mut table = Table::new(&["PATH", "FORMAT", "STATE", "TESTS"]);
    for row in rows {
        let told = match row.message.is_empty() {
            true => row.counts.words(),
            false => format!("{}; {}", row.counts.words(), row.message),
        };
        table.row([
            row.path.as_str().into(),
            row.format.as_str().into(),
            row.state.into(),
            told.into(),
        ]);
    }
    let mut text = table.render(terminal);
    for row in rows.iter().filter(|row| !row.warnings.is_empty()) {
        text.push_str(&format!("\n{}\n", escape::visible(&row.path)));
        for warning in &row.warnings {
            let warning = terminal.paint(Style::Yellow, &escape::visible(warning));
            text.push_str(&format!("  {warning}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_in_words_and_those_of_newer_servers_by_their_kind() {
        let summary = r#"{"tool": "pytest", "warnings": [
            {"kind": "doctype-ignored", "count": 1},
            {"kind": "stack-cut", "count": 3, "most": 65536},
            {"kind": "of-tomorrow", "count": 2}]}"#;
        let summary: Value = serde_json::from_str(summary).unwrap();
        let expected = [
            "1 DOCTYPE was passed over, its entities are not expanded",
            "3 stacks were cut at 65536 bytes",
            "2 of-tomorrow",
        ];
        assert_eq!(warnings(&summary), expected);
        assert_eq!(warnings(&Value::Null), Vec::<String>::new());
    }
}
