//! `muster audit` and its export: who changed what, from where, with what before and after.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    home::{Home, manifest},
    remote::Fleet,
};

/// More events than a page has.
const MANY: usize = 1_030;

/// The events of a list, which is one document.
fn listed(home: &Home, fleet: &Fleet, flags: &[&str]) -> Vec<Value> {
    let line = [&["audit", "-o", "json"], flags].concat();
    let told = home.muster(fleet.arguments(&line)).expect(0).json();
    told["events"].as_array().unwrap().clone()
}

/// The events of an export, one on each line.
fn exported(home: &Home, fleet: &Fleet, flags: &[&str]) -> Vec<Value> {
    let line = [&["audit", "export"], flags].concat();
    let text = home.muster(fleet.arguments(&line)).expect(0).stdout;
    assert!(text.is_empty() || text.ends_with('\n'));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// The one event of an action.
#[track_caller]
fn one<'a>(events: &'a [Value], action: &str) -> &'a Value {
    let found: Vec<_> = events.iter().filter(|it| it["action"] == action).collect();
    assert_eq!(found.len(), 1, "{action}: {found:#?}");
    found[0]
}

#[test]
fn each_change_is_listed_and_exported_with_who_what_and_from_where() {
    let home = Home::new();
    let fleet = Fleet::start(&home);
    let muster = |line: &[&str], code| home.muster(fleet.arguments(line)).expect(code);
    muster(&["agents", "create", "west", "--label", "site=west"], 0);
    muster(&["projects", "set", "default", "--keep-age", "90d"], 0);
    let file = home.workflow("a", "steps: [{shell: 'true'}]");
    muster(&["run", &file, "--detach"], 0);
    let member = muster(&["tokens", "create", "ci", "--role", "member"], 0);
    let member = home.write("ci-token", &member.stdout);
    let pin = ["pin", "a-1", "-m", "evidence", "--server", &fleet.url];
    home.muster(pin.iter().chain(&["--token-file", &member]))
        .expect(0);
    let wrong = ["ls", "--server", &fleet.url, "--token", "mst_wrong"];
    home.muster(wrong).expect(6);

    let events = listed(&home, &fleet, &[]);
    for event in &events {
        assert_eq!(event["peer"], "127.0.0.1", "{event:#}");
        assert!(event["time"].is_string() && event["id"].is_string());
    }
    let agent = one(&events, "AgentService/CreateAgent");
    assert_eq!(agent["resource"], "agents/west");
    assert_eq!(agent["actor"]["name"], "admin");
    assert_eq!(agent["actor"]["role"], "admin");
    assert_eq!(agent["outcome"], "done");
    assert_eq!(agent.get("before"), None, "there was nothing");
    assert_eq!(agent["after"]["labels"], json!({"site": "west"}));
    let project = one(&events, "ProjectService/UpdateProject");
    assert_eq!(project["project"], "default");
    assert_eq!(
        project["inputs"]["update_mask"],
        "retention.max_age_seconds"
    );
    assert_eq!(project["before"]["retention"], json!({}));
    let age = 90_u64 * 24 * 3600 * 1000;
    assert_eq!(
        project["after"]["retention"],
        json!({"max_age_ms": age}),
        "{project:#}"
    );
    let pin = one(&events, "ExecutionService/PinExecution");
    assert_eq!(
        (&pin["actor"]["name"], &pin["actor"]["role"]),
        (&json!("ci"), &json!("member"))
    );
    assert_eq!(pin["resource"], "projects/default/executions/a-1");
    assert_eq!(pin["inputs"]["message"], "evidence");
    assert_eq!(
        (&pin["before"]["pinned"], &pin["after"]["pinned"]),
        (&json!(false), &json!(true))
    );
    assert!(pin["requestId"].is_string());
    let refused = one(&events, "ExecutionService/ListExecutions");
    assert_eq!(refused["actor"], json!({"kind": "nobody"}));
    assert_eq!(refused["outcome"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("not known"));
    let secret = std::fs::read_to_string(&member).unwrap();
    assert!(!json!(events).to_string().contains(secret.trim()));

    assert_eq!(
        exported(&home, &fleet, &[]),
        events,
        "the same, a line each"
    );
    filters(&home, &fleet, pin);
    let shown = muster(&["audit"], 0).stdout;
    let row = shown.lines().find(|line| line.contains("PinExecution"));
    let words: Vec<&str> = row.unwrap().split_whitespace().skip(2).collect();
    let expected = [
        "ci",
        "127.0.0.1",
        "ExecutionService/PinExecution",
        "projects/default/executions/a-1",
        "done",
    ];
    assert_eq!(words, expected);
    assert!(shown.contains("refused: the token is not known"), "{shown}");
    many(&home, &fleet, &events);
}

fn filters(home: &Home, fleet: &Fleet, pin: &Value) {
    let only = |flags: &[&str]| {
        let found = listed(home, fleet, flags);
        assert_eq!(exported(home, fleet, flags), found, "{flags:?}");
        found
    };
    let pin = [pin.clone()];
    assert_eq!(only(&["--actor", "ci"]), pin);
    assert_eq!(only(&["--action", "ExecutionService/Pin"]), pin);
    let resource = "projects/default/executions/a-1";
    assert_eq!(only(&["--resource", resource]), pin);
    let made = only(&["--resource", "projects/default/executions/0"]);
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(made[0]["action"], "ExecutionService/CreateExecution");
    assert_eq!(made[0]["inputs"]["executions"], "a-1");
    assert!(only(&["--actor", "ci", "--action", "AgentService/"]).is_empty());
    assert!(only(&["--since", "2100-01-01T00:00:00Z"]).is_empty());
    assert!(only(&["--until", "1h"]).is_empty());
    let of_project = only(&["--project", "default", "--since", "1h"]);
    assert_eq!(of_project.len(), 4, "not those of the instance");
    assert_eq!(listed(home, fleet, &["--limit", "1"]).len(), 1);
    let none = ["audit", "--actor", "nobody-there"];
    let none = home.muster(fleet.arguments(&none)).expect(0);
    assert_eq!(none.stdout, "");
    assert!(none.stderr.contains("no events match"), "{}", none.stderr);
}

/// An export and a list are longer than a page, in order, and have each event once.
fn many(home: &Home, fleet: &Fleet, before: &[Value]) {
    let all: Vec<_> = (0..MANY)
        .map(|number| manifest(&format!("w{number}"), "steps: [{shell: 'true'}]"))
        .collect();
    let file = home.write("many.yaml", &all.join("---\n"));
    home.muster(fleet.arguments(&["apply", "-f", &file]))
        .expect(0);
    let events = exported(home, fleet, &[]);
    assert_eq!(events.len(), MANY + before.len());
    let ids: BTreeSet<_> = events.iter().map(|it| it["id"].as_str()).collect();
    assert_eq!(ids.len(), events.len(), "each once");
    let newest = format!("projects/default/workflows/w{}", MANY - 1);
    assert_eq!(events[0]["resource"], newest);
    let times: Vec<_> = events.iter().map(|it| it["id"].as_str()).collect();
    assert!(times.is_sorted_by(|newer, older| newer > older));
    assert_eq!(&events[MANY..], before, "the oldest last");
    assert_eq!(listed(home, fleet, &["--limit", "0"]), events);
    let some = listed(home, fleet, &["--limit", "1010"]);
    assert_eq!(some, &events[..1010]);
}
