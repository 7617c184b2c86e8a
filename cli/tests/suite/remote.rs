//! A server and an agent as processes of their own.

use std::net::TcpListener;

use crate::home::{Home, Running, until};

const SMOKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/smoke.yaml");

/// A server, and an agent with the process backend.
pub(crate) struct Fleet {
    pub(crate) url: String,
    token: String,
    _server: Running,
    agent: Option<Running>,
}

impl Fleet {
    pub(crate) fn start(home: &Home) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let listen = format!("127.0.0.1:{port}");
        let data = home.path().join("server").display().to_string();
        let server = home.start(["server", "--listen", &listen, "--data-dir", &data]);
        let token = home.path().join("server/admin-token");
        until(
            "the server listens",
            || match std::net::TcpStream::connect(&listen) {
                Ok(_) if token.exists() => Ok(()),
                _ => Err(server.stderr()),
            },
        );
        Self {
            url: format!("http://{listen}"),
            token: token.display().to_string(),
            _server: server,
            agent: None,
        }
    }

    fn with_agent(home: &Home) -> Self {
        let mut fleet = Self::start(home);
        let create = fleet.arguments(&["agents", "create", "here", "--label", "site=here"]);
        let token = home.muster(create).expect(0).stdout;
        let token = home.write("agent-token", &token);
        let data = home.path().join("agent").display().to_string();
        let agent = [
            "agent",
            "--backend",
            "process",
            "--data-dir",
            &data,
            "--server",
            &fleet.url,
        ];
        let agent = home.start(agent.into_iter().chain(["--token-file", &token]));
        until("the agent is connected", || {
            let list = home.muster(fleet.arguments(&["agents", "ls", "-o", "json"]));
            let list = list.expect(0).json();
            if list["agents"][0]["connected"] == true {
                Ok(())
            } else {
                Err(agent.stderr())
            }
        });
        fleet.agent = Some(agent);
        fleet
    }

    /// A command line for the server.
    pub(crate) fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = arguments.to_vec();
        all.extend(["--server", &self.url, "--token-file", &self.token]);
        all
    }
}

#[test]
fn a_detached_run_is_waited_for_and_looked_at() {
    let home = Home::new();
    let fleet = Fleet::with_agent(&home);
    let muster = |arguments: &[&str], code| home.muster(fleet.arguments(arguments)).expect(code);
    let run = muster(&["run", SMOKE, "--detach", "--target", "site=here"], 0);
    assert_eq!(run.stdout, "smoke-1\n");
    let follow = muster(&["logs", "smoke-1", "-f"], 0).stdout;
    assert!(follow.contains("cleaning up after 2 tries\n"), "{follow}");
    let wait = muster(&["wait", "smoke-1"], 0).stdout;
    assert!(wait.contains("passed  smoke-1"), "{wait}");
    let list = muster(&["artifacts", "smoke-1"], 0).stdout;
    assert!(list.contains("junit.xml"), "{list}");
    muster(&["artifacts", "smoke-1", "--download", "out"], 0);
    let document = muster(&["get", "smoke-1", "-o", "json"], 0).json();
    assert_eq!(document["attempts"][0]["agent"], "here");
    assert_eq!(document["log"]["complete"], true);
}

#[test]
fn a_run_on_a_server_is_shown_as_it_goes() {
    let home = Home::new();
    let fleet = Fleet::with_agent(&home);
    let done = home.muster(fleet.arguments(&["run", SMOKE])).expect(0);
    assert!(done.stdout.contains("hello, world\n"), "{}", done.stdout);
    assert!(done.stdout.contains("verified"), "{}", done.stdout);
    let path = home.workflow("bad", "steps:\n- shell: exit 1");
    home.muster(fleet.arguments(&["run", &path])).expect(1);
}

#[test]
fn a_cancel_from_elsewhere_ends_a_run() {
    let home = Home::new();
    let fleet = Fleet::with_agent(&home);
    let path = home.workflow("a", "steps:\n- shell: |\n    echo began\n    sleep 600");
    let mut run = home.start(fleet.arguments(&["run", &path]));
    run.prints("began\n");
    let early = home.muster(fleet.arguments(&["wait", "a-1", "--timeout", "100ms"]));
    let early = early.expect(124);
    assert!(early.stderr.contains("it goes on"), "{}", early.stderr);
    home.muster(fleet.arguments(&["cancel", "a-1", "--message", "not today"]))
        .expect(0);
    let done = run.wait().expect(4);
    assert!(done.stdout.contains("not today"), "{}", done.stdout);
    home.muster(fleet.arguments(&["wait", "a-1"])).expect(4);
    // A cancel of what is over changes nothing.
    home.muster(fleet.arguments(&["cancel", "a-1"])).expect(0);
}

#[test]
fn a_bad_manifest_is_refused_by_the_server_with_its_place() {
    let home = Home::new();
    let fleet = Fleet::start(&home);
    let spec = "config:\n  url:\n    type: string\nsteps:\n- shell: echo {{ config.url }}";
    let path = home.workflow("a", spec);
    let done = home.muster(fleet.arguments(&["run", &path])).expect(2);
    done.expect_error(&["a.yaml", "url"]);
    let list = home
        .muster(fleet.arguments(&["ls", "-o", "json"]))
        .expect(0)
        .json();
    assert_eq!(list["executions"], serde_json::json!([]));
}

#[test]
fn stored_workflows_are_run_by_name() {
    let home = Home::new();
    let fleet = Fleet::with_agent(&home);
    let muster = |arguments: &[&str], code| home.muster(fleet.arguments(arguments)).expect(code);
    muster(&["workflows", "create", SMOKE], 0);
    muster(&["workflows", "create", SMOKE], 1).expect_error(&["smoke"]);
    let update = muster(&["workflows", "update", SMOKE], 0).stdout;
    assert!(update.starts_with("smoke revision "), "{update}");
    let stored = muster(&["workflows", "get", "smoke"], 0).stdout;
    assert!(stored.contains("kind: TestWorkflow"), "{stored}");
    muster(&["run", "--workflow", "smoke", "--quiet"], 0);
    muster(&["workflows", "delete", "smoke"], 0);
    muster(&["run", "--workflow", "smoke"], 1).expect_error(&["smoke"]);
}

#[test]
fn a_wrong_token_is_named_as_such() {
    let home = Home::new();
    let fleet = Fleet::start(&home);
    for arguments in [
        &["ls", "--server", &fleet.url][..],
        &["ls", "--server", &fleet.url, "--token", "mst_wrong"],
        &["run", SMOKE, "--server", &fleet.url, "--token", "mst_wrong"],
    ] {
        let done = home.muster(arguments).expect(6);
        done.expect_error(&[&fleet.url, "token", "--token-file"]);
        assert!(!done.stderr.contains("mst_wrong"), "{}", done.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let done = home
        .muster(["run", SMOKE, "--server", &url, "--token", "x"])
        .expect(6);
    done.expect_error(&[&url, "--server"]);
}

#[test]
fn a_server_stops_in_order() {
    let home = Home::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("127.0.0.1:{port}");
    let server = home.start(["server", "--listen", &listen]);
    until("the server listens", || {
        std::net::TcpStream::connect(&listen).map_err(|_refused| server.stderr())
    });
    server.signal(rustix::process::Signal::TERM);
    server.wait().expect(0);
}
