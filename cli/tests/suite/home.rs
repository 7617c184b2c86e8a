//! A user with an empty home directory, and commands that they start.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Longest time that anything may take on a slow and busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// An empty home directory; removed at the end.
pub(crate) struct Home {
    folder: TempDir,
    count: AtomicUsize,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// Standard output as it is, to the byte.
    pub(crate) bytes: Vec<u8>,
    pub(crate) stderr: String,
}

/// A command that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::with_prefix("muster-cli-").unwrap(),
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in the home and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Writes a workflow with these lines below `spec:` and returns its path.
    pub(crate) fn workflow(&self, name: &str, spec: &str) -> String {
        self.write(&format!("{name}.yaml"), &manifest(name, spec))
    }

    /// Starts `muster` with the environment of an empty home.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        self.start_with(arguments, Stdio::null())
    }

    fn start_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        stdin: Stdio,
    ) -> Running {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| self.path().join(format!(".{number}.{name}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("SECRET_OF_THE_USER", "must-not-leak")
            .current_dir(self.path())
            .stdin(stdin)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        Running {
            child: command.spawn().unwrap(),
            stdout,
            stderr,
        }
    }

    /// Runs `muster` to its end.
    pub(crate) fn muster<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Done {
        self.start(arguments).wait()
    }

    /// Runs `muster` with a file as its standard input.
    pub(crate) fn muster_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Done {
        let path = self.write(".stdin", input);
        let file = File::open(path).unwrap();
        self.start_with(arguments, file.into()).wait()
    }

    /// Where embedded runs keep their results.
    pub(crate) fn data(&self) -> PathBuf {
        self.path().join(".local/share/muster")
    }

    /// Command lines of processes that work in this home.
    pub(crate) fn processes(&self) -> Vec<String> {
        let wanted = self.path().display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| {
                let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let place = std::fs::read_link(entry.path().join("cwd"));
            let inside = place.is_ok_and(|place| place.starts_with(self.path()));
            let command = read("cmdline");
            if inside || command.contains(&wanted) || read("environ").contains(&wanted) {
                found.push(format!("{:?} {command}", entry.file_name()));
            }
        }
        found
    }

    /// Waits until no process works in this home.
    pub(crate) fn expect_no_processes(&self) {
        until("no process is left", || {
            let left = self.processes();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:#?}"))
            }
        });
    }
}

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Done {
        let status = until("the command ends", || {
            match self.child.try_wait().unwrap() {
                Some(status) => Ok(status),
                None => Err(format!("{}{}", self.stdout(), self.stderr())),
            }
        });
        self.done(status)
    }

    fn done(&self, status: ExitStatus) -> Done {
        Done {
            code: status.code(),
            stdout: self.stdout(),
            bytes: std::fs::read(&self.stdout).unwrap(),
            stderr: self.stderr(),
        }
    }

    /// Sends a signal to the command, and to nobody else.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        rustix::process::kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Waits until standard output holds `text`.
    pub(crate) fn prints(&mut self, text: &str) {
        until(&format!("the command prints '{text}'"), || {
            let shown = self.stdout();
            if shown.contains(text) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {shown}{}", self.stderr());
            }
            Err(format!("{shown}{}", self.stderr()))
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Done {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    /// Checks that there is exactly one error, with these words.
    #[track_caller]
    pub(crate) fn expect_error(&self, words: &[&str]) {
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{}", self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "'{word}' not in: {}",
                self.stderr
            );
        }
    }
}

/// A workflow with these lines below `spec:`.
pub(crate) fn manifest(name: &str, spec: &str) -> String {
    let mut text = format!(
        "apiVersion: testworkflows.testkube.io/v1\nkind: TestWorkflow\nmetadata:\n  name: {name}\nspec:\n"
    );
    for line in spec.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// Tries until it is so; the error is what there is in place of it.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(state) if begin.elapsed() > PATIENCE => panic!("not so in time: {what}: {state}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
