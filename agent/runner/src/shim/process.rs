//! Running one process: from its start until its last byte of output and its last descendant
//! are gone.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use muster_proto::runner::v1::{
    Exited, Output as OutputMessage, Run, Started, shim_message, shim_request,
};
use rustix::{
    fs::{Access, access},
    process::{Pid, Signal},
};
use tokio::time::{Instant, sleep_until};

use super::{
    End, FAREWELL, Shim,
    memory::Memory,
    output::Output,
    peer::Gone,
    program::{self, Refusal},
    shell::Shell,
};
use crate::{
    credit, lineage,
    reaper::{self, Ended},
    volumes::resolve,
};

/// How long processes that outlive their parent may finish what they write, such as `tee`.
const LINGER: Duration = Duration::from_millis(250);
/// How long a pipe that somebody out of reach keeps open is still read.
const SILENCE: Duration = Duration::from_secs(1);

/// A process that was started.
struct Running {
    id: u64,
    pid: Pid,
    output: Output,
    phase: Phase,
    /// Kills before it.
    memory: Memory,
    kills: u64,
    leftover: usize,
    script: Option<PathBuf>,
    /// The container is asked to end: when the process is killed.
    farewell: Option<Instant>,
    /// It was asked while the process ran.
    terminated: bool,
}

/// What a process is up to.
#[derive(Clone, Copy)]
enum Phase {
    /// It runs.
    Runs,
    /// It ended, others of its line did not.
    Lingers(Ended, Instant),
    /// All have ended, their output is read.
    Drains(Ended, Instant),
}

impl Shim {
    /// Runs a process to its end and reports it.
    pub(super) async fn process(&mut self, run: Run) -> Result<Option<End>, Gone> {
        let id = run.id;
        let mut running = match self.start(run) {
            Ok(running) => running,
            Err(refusal) => {
                let started = Started {
                    id,
                    error: refusal.error,
                    reason: refusal.reason.to_owned(),
                };
                self.send(shim_message::Message::Started(started)).await?;
                return Ok(None);
            }
        };
        let started = Started {
            id,
            ..Started::default()
        };
        self.send(shim_message::Message::Started(started)).await?;
        let end = self.attend(&mut running).await;
        if let Some(script) = &running.script {
            drop(fs::remove_file(script));
        }
        end
    }

    fn start(&self, run: Run) -> Result<Running, Refusal> {
        let mut environment = self.environment.with(&run.environment);
        let working_dir = self.enter(&run.working_dir)?;
        let (program, argv, script) = if let Some(script) = &run.script {
            let shell = Shell::of(script, self.prefer_bash, &mut environment, &self.volumes)?;
            (shell.program, shell.argv, shell.file)
        } else {
            let argv: Vec<String> = run
                .argv
                .iter()
                .map(|text| environment.expand(text))
                .collect();
            let Some(name) = argv.first() else {
                return Err(Refusal::new(
                    "NOT_FOUND",
                    "there is no program to run; give `command`",
                ));
            };
            let search = environment.get(OsStr::new("PATH"));
            (program::find(name, search, &working_dir)?, argv, None)
        };
        let memory = Memory::of_container();
        let kills = memory.kills();
        let mut command = Command::new(&program);
        command
            .args(argv.iter().skip(1))
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&working_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(name) = argv.first() {
            command.arg0(name);
        }
        let mut child = command
            .spawn()
            .map_err(|error| program::explain(&program, &error))?;
        let spawn = |error: &dyn std::fmt::Display| Refusal::new("SPAWN", error.to_string());
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let output = Output::new(child.stdout.take(), child.stderr.take());
        Ok(Running {
            id: run.id,
            pid: pid.ok_or_else(|| spawn(&"the process has no id"))?,
            output: output.map_err(|error| spawn(&error))?,
            phase: Phase::Runs,
            memory,
            kills,
            leftover: 0,
            script,
            farewell: None,
            terminated: false,
        })
    }

    /// The working directory on this machine, made when it is missing.
    fn enter(&self, wanted: &str) -> Result<PathBuf, Refusal> {
        let path = if wanted.is_empty() {
            self.working_dir.clone()
        } else {
            self.volumes.real(&resolve(&self.working_dir, wanted))
        };
        let refusal = |error: &dyn std::fmt::Display| {
            let error = format!(
                "working directory '{}': {error}; check `workingDir` and the user",
                path.display()
            );
            Refusal::new("WORKING_DIR", error)
        };
        fs::create_dir_all(&path).map_err(|error| refusal(&error))?;
        access(&path, Access::EXEC_OK).map_err(|error| refusal(&error))?;
        Ok(path)
    }

    async fn attend(&mut self, running: &mut Running) -> Result<Option<End>, Gone> {
        loop {
            let credit = credit::room(self.peer.credit());
            if let Some(ended) = running.is_over(credit) {
                self.report(running, ended).await?;
                return Ok(running.farewell.map(|_| End::Terminated));
            }
            let alarm = running.alarm(credit);
            tokio::select! {
                request = self.peer.next() => match request? {
                    shim_request::Message::Signal(signal) => running.signal(signal.signal),
                    shim_request::Message::Exit(_) => {
                        lineage::kill_all(Some(running.pid), || drop(reaper::take())).await;
                        return Ok(Some(End::Told));
                    }
                    shim_request::Message::Grant(_) => running.heard(),
                    // One thing at a time: a conductor that asks for more has lost its way, and
                    // would wait for an answer for ever.
                    shim_request::Message::Run(_)
                    | shim_request::Message::WriteFile(_)
                    | shim_request::Message::ReadFile(_)
                    | shim_request::Message::Collect(_) => {
                        lineage::kill_all(Some(running.pid), || drop(reaper::take())).await;
                        return Err(Gone::Confused);
                    }
                },
                () = self.reaper.woken() => {
                    let ended = reaper::take();
                    running.note(ended.into_iter().find(|one| one.0 == running.pid).map(|one| one.1));
                }
                _ = self.terminate.recv() => {
                    lineage::signal(Signal::TERM, Some(running.pid));
                    running.farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
                    running.terminated |= matches!(running.phase, Phase::Runs);
                }
                chunk = running.output.next(credit), if credit > 0 && running.output.is_open() => {
                    if let Some((stream, data)) = chunk {
                        self.peer.take(credit::cost(data.len()));
                        running.heard();
                        let output = OutputMessage {
                            id: running.id,
                            stream: stream.into(),
                            data,
                        };
                        self.send(shim_message::Message::Output(output)).await?;
                    }
                }
                () = sleep_until(alarm.unwrap_or_else(Instant::now)), if alarm.is_some() => {}
            }
            self.advance(running).await;
        }
    }

    /// Goes on to the next phase when it is time.
    async fn advance(&mut self, running: &mut Running) {
        let now = Instant::now();
        if running.farewell.is_some_and(|at| at <= now) && matches!(running.phase, Phase::Runs) {
            lineage::signal(Signal::KILL, Some(running.pid));
        }
        if let Phase::Lingers(ended, until) = running.phase
            && (until <= now || !running.output.is_open() || lineage::count() == 0)
        {
            let pid = running.pid;
            running.leftover = lineage::kill_all(Some(pid), || drop(reaper::take())).await;
            running.phase = Phase::Drains(ended, Instant::now() + SILENCE);
        }
    }

    async fn report(&mut self, running: &Running, ended: Ended) -> Result<(), Gone> {
        let (code, signal) = match ended {
            Ended::Code(code) => (Some(code), None),
            Ended::Signal(signal) => (None, Some(signal)),
        };
        let exited = Exited {
            id: running.id,
            code,
            signal,
            out_of_memory: running.memory.kills() > running.kills,
            memory_limit: running.memory.limit(),
            leftover: u32::try_from(running.leftover).unwrap_or(u32::MAX),
            terminated: running.terminated,
        };
        self.send(shim_message::Message::Exited(exited)).await
    }
}

impl Running {
    /// How it ended, when nothing more can come.
    fn is_over(&self, credit: u64) -> Option<Ended> {
        match self.phase {
            Phase::Drains(ended, _) if !self.output.is_open() => Some(ended),
            Phase::Drains(ended, until) if credit > 0 && until <= Instant::now() => Some(ended),
            Phase::Runs | Phase::Lingers(..) | Phase::Drains(..) => None,
        }
    }

    /// When to look again without being woken. Without credit a pipe is not silent, just unread.
    fn alarm(&self, credit: u64) -> Option<Instant> {
        match self.phase {
            Phase::Runs => self.farewell,
            Phase::Lingers(_, until) => Some(until),
            Phase::Drains(_, until) if credit > 0 => Some(until),
            Phase::Drains(..) => None,
        }
    }

    fn note(&mut self, ended: Option<Ended>) {
        if let (Some(ended), Phase::Runs) = (ended, self.phase) {
            self.phase = Phase::Lingers(ended, Instant::now() + LINGER);
        }
    }

    /// Output came, or may come again: the pipe is not silent.
    fn heard(&mut self) {
        if let Phase::Drains(ended, _) = self.phase {
            self.phase = Phase::Drains(ended, Instant::now() + SILENCE);
        }
    }

    fn signal(&self, number: i32) {
        match Signal::from_named_raw(number) {
            Some(Signal::STOP) => lineage::stop(Some(self.pid)),
            Some(signal) => lineage::signal(signal, Some(self.pid)),
            None => {}
        }
    }
}
