//! Readiness probes of services: Kubernetes `Probe` objects, of which both backends must make the same.

use serde_json::Value;

use crate::expression;
use crate::problem::{Problem, Problems};
use crate::schema::Json;

/// The ways to ask, of which a probe has one.
const WAYS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
/// Numbers beside that: 0 stands for what holds when there is none.
const NUMBERS: [&str; 5] = [
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];

/// Makes numbers of texts that are some, and names what can not be a probe. What an instance only
/// knows is left for then.
pub(super) fn check(probe: &mut Json, problems: &mut Problems) {
    let mut wrong = |message: String| problems.push(Problem::new(&probe.place, message));
    let Some(fields) = probe.value.as_object_mut() else {
        return;
    };
    fields.retain(|_, value| !value.is_null() && value != "" && value != 0);
    let found: Vec<&str> = WAYS
        .into_iter()
        .filter(|way| fields.contains_key(*way))
        .collect();
    match found.as_slice() {
        [_] => {}
        [] => wrong(format!(
            "a probe asks in one way: give one of `{}`",
            WAYS.join("`, `")
        )),
        several => wrong(format!(
            "a probe asks in one way, not in `{}`",
            several.join("` and `")
        )),
    }
    for name in NUMBERS {
        if let Some(value) = fields.get_mut(name) {
            make_number(value);
            if !is_later(value) && value.as_u64().is_none() {
                let found = shown(value);
                wrong(format!(
                    "`{name}`: expected a whole number from 0 on, found {found}"
                ));
            }
        }
    }
    for way in &WAYS[1..] {
        let Some(asked) = fields.get_mut(*way) else {
            continue;
        };
        let port = asked.get_mut("port");
        let good = port.is_some_and(|port| {
            make_number(port);
            is_later(port)
                || port
                    .as_u64()
                    .is_some_and(|port| (1..=65535).contains(&port))
        });
        if !good {
            let found = asked.get("port").map_or_else(|| "none".to_owned(), shown);
            wrong(format!("`{way}.port`: expected 1 to 65535, found {found}"));
        }
    }
    if let Some(exec) = fields.get("exec")
        && exec["command"].as_array().is_none_or(Vec::is_empty)
    {
        wrong("`exec.command`: expected a list with a program".to_owned());
    }
}

/// A text of digits, as expressions give them, is a number.
fn make_number(value: &mut Value) {
    let number = value
        .as_str()
        .and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(number) = number {
        *value = number.into();
    }
}

fn is_later(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{"))
}

fn shown(value: &Value) -> String {
    let text = expression::text(value);
    format!("`{}`", text.chars().take(60).collect::<String>())
}
