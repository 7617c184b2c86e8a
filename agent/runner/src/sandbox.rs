//! Mode `sandbox`, for the process backend: runs another mode of this program in namespaces of
//! its own, where the shared folders of a run are at their place and nothing outlives it.
//!
//! Three processes: `sandbox` enters the namespaces and passes signals on; its child, process
//! 1 of the new process namespace, builds the file system ([`root`]) and becomes the wanted
//! mode. What could not be isolated is written to a report, and exit code [`REFUSED`] asks the
//! caller to try again without.

mod layer;
mod namespace;
mod root;

use std::{
    ffi::OsString,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ExitCode},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    arguments::{Arguments, Error as ArgumentError, Itself},
    fail, lineage,
    reaper::{self, Ended, Reaper},
    shim::ROOT,
};

/// The mode of process 1; not for people.
pub(crate) const INIT: &str = "sandbox-init";
/// Exit code when the kernel does not allow namespaces here.
pub(crate) const REFUSED: i32 = 125;

/// What the kernel did not allow.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{what}: {source}")]
    Refused {
        what: String,
        source: std::io::Error,
    },
}

impl Error {
    fn new(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Refused {
            what: what.into(),
            source: source.into(),
        }
    }
}

#[derive(Debug, Default)]
struct Options {
    root: PathBuf,
    report: Option<PathBuf>,
    no_namespaces: bool,
    ids: namespace::Ids,
    /// Folders of the plan.
    folders: Vec<PathBuf>,
    /// The container whose own layer covers the machine's folders; without one `/` is read-only.
    layer: Option<String>,
    /// Folders outside of the shared ones in which the plan writes.
    places: Vec<PathBuf>,
    command: Vec<OsString>,
}

impl Options {
    fn parse(mut arguments: Arguments) -> Result<Self, ArgumentError> {
        let mut options = Self::default();
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--root" => options.root = arguments.path(&name)?,
                "--report" => options.report = Some(arguments.path(&name)?),
                "--no-namespaces" => options.no_namespaces = true,
                "--user" => options.ids.user = Some(id(&mut arguments, &name)?),
                "--group" => options.ids.group = Some(id(&mut arguments, &name)?),
                "--folder" => options.folders.push(arguments.path(&name)?),
                "--layer" => options.layer = Some(arguments.text(&name)?),
                "--place" => options.places.push(arguments.path(&name)?),
                "--" => options.command = arguments.rest(),
                _ => return Err(ArgumentError::Unknown(name)),
            }
        }
        if !options.root.is_absolute() {
            return Err(ArgumentError::Missing("--root /an/absolute/path"));
        }
        if options.command.is_empty() {
            return Err(ArgumentError::Missing("-- MODE"));
        }
        Ok(options)
    }

    /// Says for people what does not hold.
    fn report(&self, text: &str) {
        match &self.report {
            Some(path) => drop(fs::write(path, text)),
            None => fail::say(text),
        }
    }
}

fn id(arguments: &mut Arguments, name: &str) -> Result<u32, ArgumentError> {
    let number = arguments.number(name)?;
    u32::try_from(number).map_err(|_large| ArgumentError::Unknown(format!("{name} {number}")))
}

pub(crate) fn main(arguments: Arguments, itself: Itself) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return fail::fail(error, ""),
    };
    // The end of the caller is the end of all this.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    let child = if options.no_namespaces {
        plain(&options, &itself)
    } else {
        isolated(&options, &itself)
    };
    match child {
        Ok(child) => attend(&child),
        Err(error) => {
            options.report(&error.to_string());
            ExitCode::from(u8::try_from(REFUSED).unwrap_or(u8::MAX))
        }
    }
}

/// Starts the wanted mode without namespaces, in the data folder of the run.
fn plain(options: &Options, itself: &Itself) -> Result<Child, Error> {
    lineage::adopt_orphans();
    let mut command = itself.command_of(&options.command);
    command
        .env(ROOT, &options.root)
        .current_dir(options.root.join("data"));
    command
        .spawn()
        .map_err(|error| Error::new("can not start a process", error))
}

fn isolated(options: &Options, itself: &Itself) -> Result<Child, Error> {
    namespace::enter(options.ids)?;
    let mut command = itself.command(INIT);
    command.arg("--root").arg(&options.root);
    if let Some(report) = &options.report {
        command.arg("--report").arg(report);
    }
    for folder in &options.folders {
        command.arg("--folder").arg(folder);
    }
    if let Some(layer) = &options.layer {
        command.arg("--layer").arg(layer);
    }
    for place in &options.places {
        command.arg("--place").arg(place);
    }
    command.arg("--").args(&options.command);
    command
        .spawn()
        .map_err(|error| Error::new("can not start a process in a new namespace", error))
}

/// Passes signals to the child until it ends, and ends as it did.
fn attend(child: &Child) -> ExitCode {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Some(pid), Ok(runtime)) = (pid, runtime) else {
        return ExitCode::FAILURE;
    };
    let ended = runtime.block_on(async {
        let ended = follow(pid).await;
        // Without namespaces a killed shim leaves its processes to this one.
        lineage::kill_all(None, reap).await;
        ended
    });
    match ended {
        Ok(Ended::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Ok(Ended::Signal(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Err(error) => {
            kill_process(pid, Signal::KILL).ok();
            fail::end(error)
        }
    }
}

fn reap() {
    drop(reaper::take());
}

async fn follow(pid: Pid) -> std::io::Result<Ended> {
    let mut reaper = Reaper::new()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        // The child may have ended before anybody listened.
        for (ended, how) in reaper::take() {
            if ended == pid {
                return Ok(how);
            }
        }
        tokio::select! {
            () = reaper.woken() => {}
            _ = terminate.recv() => { kill_process(pid, Signal::TERM).ok(); }
            _ = interrupt.recv() => { kill_process(pid, Signal::INT).ok(); }
        }
    }
}

/// Process 1 of the namespaces: builds the file system and becomes the wanted mode.
pub(crate) fn init_main(arguments: Arguments, itself: Itself) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return fail::fail(error, ""),
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).ok();
    let error = match become_mode(&options, &itself) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    options.report(&error.to_string());
    ExitCode::from(u8::try_from(REFUSED).unwrap_or(u8::MAX))
}

fn become_mode(options: &Options, itself: &Itself) -> Result<std::convert::Infallible, Error> {
    let (root, remarks) = root::build(options)?;
    // The report is written before the file system changes under its path.
    let report = options.report.as_ref().map(fs::File::create);
    root::enter(&root, options.layer.is_none())?;
    namespace::drop_privileges();
    if !remarks.is_empty()
        && let Some(Ok(mut report)) = report
    {
        drop(std::io::Write::write_all(&mut report, remarks.as_bytes()));
    }
    let program = Path::new("/").join(root::PROGRAM);
    let error = itself.command_of_at(&program, &options.command).exec();
    Err(Error::new(
        format!("can not start {}", program.display()),
        error,
    ))
}
