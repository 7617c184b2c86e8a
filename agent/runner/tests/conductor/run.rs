//! One run: a conductor as a child process, with its agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use muster_proto::runner::v1::{Outcome, StepState};
use muster_spec::plan::Plan;
use muster_tests::disk::Disk;
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};

use crate::agent::{ATTEMPT, Agent, Manner, TOKEN};

pub(crate) struct Run {
    pub(crate) agent: Agent,
    pub(crate) conductor: Child,
    /// Shims, where the test plays the cluster.
    pub(crate) shims: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Run {
    /// A conductor that starts its own shims.
    pub(crate) fn start(plan: &Plan) -> Self {
        Self::with(plan, Manner::default(), &[])
    }

    pub(crate) fn with(plan: &Plan, manner: Manner, options: &[&str]) -> Self {
        Self::below(folder(), plan, manner, options)
    }

    /// The same in a folder that an overlay can not name, so that there is none.
    pub(crate) fn without_layers(plan: &Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("a,b").tempdir().unwrap();
        make_parts(folder.path());
        Self::below(folder, plan, Manner::default(), &[])
    }

    /// The same, with one of its folders on a small disk; `None` where none can be mounted.
    pub(crate) fn on_disk(
        (name, bytes): (&str, u64),
        plan: &Plan,
        manner: Manner,
    ) -> Option<(Self, Disk)> {
        let folder = folder();
        let disk = Disk::mount(&folder.path().join(name), bytes).unwrap()?;
        Some((Self::below(folder, plan, manner, &[]), disk))
    }

    fn below(folder: tempfile::TempDir, plan: &Plan, manner: Manner, options: &[&str]) -> Self {
        let socket = folder.path().join("agent.sock");
        let agent = Agent::listen(&socket, plan, manner);
        let mut command = conductor(&socket);
        command
            .args(["conductor", "--die-with-parent", "--sandbox"])
            .arg(folder.path())
            .args(["--grace", "1s"])
            .args(options);
        Self {
            agent,
            conductor: command.spawn().unwrap(),
            shims: Vec::new(),
            folder,
        }
    }

    /// The same as an ordinary user; `None` when this test is not run by root.
    pub(crate) fn as_nobody(plan: &Plan) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = folder();
        let socket = folder.path().join("agent.sock");
        let agent = Agent::listen(&socket, plan, Manner::default());
        let all = ["", "data", "testkube", "tmp", "muster", "agent.sock"];
        for path in all.map(|name| folder.path().join(name)) {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        }
        // The build's own folder may be closed to others.
        let program = folder.path().join("runner");
        // By a process of its own: a child that another test starts meanwhile would hold a file
        // open that this one writes, and the kernel runs no such file.
        let copied = std::process::Command::new("cp")
            .args([Path::new(PROGRAM), &program])
            .status();
        assert!(copied.unwrap().success());
        let mut command = Command::new(program);
        command
            .args(["conductor", "--sandbox"])
            .arg(folder.path())
            .uid(65534)
            .gid(65534);
        equip(&mut command, &socket);
        Some(Self {
            agent,
            conductor: command.spawn().unwrap(),
            shims: Vec::new(),
            folder,
        })
    }

    /// A conductor as in a pod, with shims in `containers` that the test starts, as a cluster
    /// would: each in namespaces of its own, with the shared folders at their place.
    pub(crate) fn in_pod(plan: &Plan, manner: Manner, containers: &[&str]) -> Self {
        let folder = folder();
        let agent = Agent::listen(&folder.path().join("data/agent.sock"), plan, manner);
        let root = folder.path().to_str().unwrap();
        let sandbox = ["sandbox", "--root", root, "--"];
        let mut command = conductor(Path::new("/data/agent.sock"));
        command
            .args(sandbox)
            .args(["conductor", "--grace", "1s"])
            .env("MUSTER_NAMESPACE", "of-the-pod");
        let shim = |container: &&str| {
            Command::new(PROGRAM)
                .args(sandbox)
                .args(["shim", "--container", container])
                .env("OF_CONTAINER", container)
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        Self {
            agent,
            conductor: command.spawn().unwrap(),
            shims: containers.iter().map(shim).collect(),
            folder,
        }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.conductor.id().unwrap()).unwrap()
    }

    /// Waits until a step printed a text.
    pub(crate) async fn prints(&self, step: &str, text: &str) {
        let what = format!("{step} prints {text}");
        self.agent
            .until(&what, |heard| heard.output(step).contains(text))
            .await;
    }

    /// Waits for the end, and checks that it is proven: record, length, digest, exit code.
    pub(crate) async fn ends_as(&mut self, outcome: Outcome) {
        self.agent
            .until("the end", |heard| heard.completed.is_some())
            .await;
        {
            let heard = self.agent.heard();
            let completed = heard.completed.as_ref().unwrap();
            let shown = format!("{completed:?}\n{}", heard.remarks());
            assert_eq!(completed.outcome(), outcome, "{shown}");
            let log = heard.log();
            assert_eq!(completed.log_size, log.len() as u64, "{shown}");
            assert_eq!(completed.log_sha256, Sha256::digest(&log).to_vec());
        }
        assert!(self.exit().await.success());
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let exit = tokio::time::timeout(Duration::from_secs(20), self.conductor.wait()).await;
        exit.expect("the conductor does not exit").unwrap()
    }

    #[track_caller]
    pub(crate) fn expect(&self, step: &str, state: StepState, reason: &str) {
        let heard = self.agent.heard();
        let status = heard.step(step);
        let found = (status.state(), status.reason.as_str());
        assert_eq!(found, (state, reason), "{status:?}");
    }

    #[track_caller]
    pub(crate) fn passed(&self, step: &str) {
        self.expect(step, StepState::Passed, "");
    }

    pub(crate) fn message(&self, step: &str) -> String {
        self.agent.heard().step(step).message.clone()
    }

    pub(crate) fn output(&self, step: &str) -> String {
        self.agent.heard().output(step)
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_muster-runner");

/// The folder of a run, as the agent makes it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    make_parts(folder.path());
    folder
}

fn make_parts(folder: &Path) {
    for name in ["data", "testkube", "tmp", "muster"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
}

fn conductor(socket: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    equip(&mut command, socket);
    command
}

fn equip(command: &mut Command, socket: &Path) {
    command
        .env("MUSTER_ATTEMPT", ATTEMPT)
        .env("MUSTER_ATTEMPT_TOKEN", TOKEN)
        .env("MUSTER_AGENT_SOCKET", socket)
        .env("SECRET_OF_THE_USER", "do not show")
        .kill_on_drop(true);
}

/// A process as `/proc` shows it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    pub(crate) command: String,
}

/// Living processes below one.
pub(crate) fn below(pid: i32) -> Vec<Process> {
    let mut all: Vec<Process> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| read(&entry.path()))
        .collect();
    let mut found = Vec::new();
    let mut wanted = vec![pid];
    while let Some(parent) = wanted.pop() {
        let (children, others) = all
            .into_iter()
            .partition(|one: &Process| one.parent == parent);
        all = others;
        for child in children {
            wanted.push(child.pid);
            found.push(child);
        }
    }
    found
}

fn read(folder: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let command = fs::read(folder.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(Process {
        pid,
        parent,
        command,
    })
}

/// Whether any process has this text on its command line.
pub(crate) fn runs(text: &str) -> bool {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| read(&entry.path()).is_some_and(|process| process.command.contains(text)))
}
