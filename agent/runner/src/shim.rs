//! Mode `shim`: stands as process 1 in a step container and runs what the conductor says, one
//! thing at a time. Which things, and why, is the conductor's business.

mod environment;
pub(crate) mod file;
mod memory;
mod output;
mod peer;
mod process;
mod program;
mod shell;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use muster_proto::runner::v1::{
    Collect, CollectEnd, CollectedData, CollectedFile, FileRead, FileWritten, ShimHello, WriteFile,
    shim_message, shim_request,
};
use rustix::fs::{Access, access};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::Instant,
};

use crate::{
    arguments::{Arguments, Error as ArgumentError},
    collect, fail, lineage,
    reaper::{self, Reaper},
    socket,
    volumes::{Volumes, resolve},
};
use environment::Environment;
use peer::{Gone, Peer};

/// Where the conductor listens.
const SOCKET: &str = "/.muster/run/conductor.sock";
/// Variable with the run's own folder, where the shared folders are not at their place.
pub(crate) const ROOT: &str = "MUSTER_ROOT";
/// Variable in which a service finds the address that others reach it by.
pub(crate) const ADDRESS: &str = "MUSTER_ADDRESS";
/// How long the conductor may take to listen.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a process may take to end when the container is asked to end.
const FAREWELL: Duration = Duration::from_secs(8);
/// Exit code after SIGTERM.
const TERMINATED: u8 = 143;

/// Why a shim ends before its time.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the conductor does not listen on {0}")]
    NoConductor(PathBuf),
    #[error("the conductor is gone")]
    Gone(#[source] Gone),
    #[error("the kernel refuses what a shim needs: {0}")]
    Kernel(#[source] std::io::Error),
}

/// Ends the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The conductor said so.
    Told,
    /// SIGTERM.
    Terminated,
}

#[derive(Debug)]
struct Options {
    container: String,
    socket: PathBuf,
    prefer_bash: bool,
    volumes: Volumes,
}

impl Options {
    fn parse(mut arguments: Arguments) -> Result<Self, ArgumentError> {
        let volumes = std::env::var_os(ROOT).map_or_else(Volumes::in_place, Volumes::below);
        let mut container = None;
        let mut socket = volumes.real(Path::new(SOCKET));
        let mut prefer_bash = false;
        let mut folders: Vec<PathBuf> = Vec::new();
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--container" => container = Some(arguments.text(&name)?),
                "--socket" => socket = arguments.path(&name)?,
                "--prefer-bash" => prefer_bash = true,
                "--folder" => folders.push(arguments.path(&name)?),
                _ => return Err(ArgumentError::Unknown(name)),
            }
        }
        Ok(Self {
            container: container.ok_or(ArgumentError::Missing("--container"))?,
            socket,
            prefer_bash,
            volumes: volumes.with_folders(&folders),
        })
    }
}

pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return fail::fail(error, ""),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(serve(options)),
        Err(error) => Err(Error::Kernel(error)),
    };
    match ended {
        Ok(End::Told) => ExitCode::SUCCESS,
        Ok(End::Terminated) => ExitCode::from(TERMINATED),
        Err(error) => fail::end(error),
    }
}

async fn serve(options: Options) -> Result<End, Error> {
    lineage::adopt_orphans();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Kernel)?;
    let reaper = Reaper::new().map_err(Error::Kernel)?;
    let peer = tokio::select! {
        peer = connect(&options.socket) => peer?,
        _ = terminate.recv() => return Ok(End::Terminated),
    };
    let mut shim = Shim {
        environment: Environment::of_container(),
        working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        volumes: options.volumes,
        prefer_bash: options.prefer_bash,
        terminate,
        reaper,
        peer,
    };
    let end = shim.run(options.container).await;
    if end.is_err() {
        lineage::kill_all(None, || drop(reaper::take())).await;
    }
    end.map_err(Error::Gone)
}

async fn connect(path: &Path) -> Result<Peer, Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        match socket::connect(path).await {
            Ok(stream) => return Ok(Peer::new(stream)),
            Err(_) if Instant::now() < end => {}
            Err(_) => return Err(Error::NoConductor(path.to_owned())),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

struct Shim {
    environment: Environment,
    /// Working directory of the image.
    working_dir: PathBuf,
    volumes: Volumes,
    prefer_bash: bool,
    terminate: Signal,
    reaper: Reaper,
    peer: Peer,
}

impl Shim {
    async fn run(&mut self, container: String) -> Result<End, Gone> {
        let hello = ShimHello {
            container,
            protocol: muster_proto::runner::v1::PROTOCOL,
            working_dir: self.working_dir.to_string_lossy().into_owned(),
            environment: self.environment.lines(),
            secrets: environment::secrets(),
        };
        self.send(shim_message::Message::Hello(hello)).await?;
        loop {
            let request = tokio::select! {
                request = self.peer.next() => request?,
                () = self.reaper.woken() => {
                    drop(reaper::take());
                    continue;
                }
                _ = self.terminate.recv() => return Ok(End::Terminated),
            };
            if let Some(end) = self.serve(request).await? {
                return Ok(end);
            }
        }
    }

    async fn serve(&mut self, request: shim_request::Message) -> Result<Option<End>, Gone> {
        match request {
            shim_request::Message::Run(run) => return self.process(run).await,
            shim_request::Message::WriteFile(write) => {
                let path = self.real(&write.path);
                let error = self.write(&path, &write);
                let answer = FileWritten {
                    id: write.id,
                    error: error.err().unwrap_or_default(),
                };
                self.send(shim_message::Message::FileWritten(answer))
                    .await?;
            }
            shim_request::Message::ReadFile(read) => {
                let (content, error) = match file::read(&self.real(&read.path)) {
                    Ok(content) => (content, String::new()),
                    Err(error) => (Vec::new(), error),
                };
                let answer = FileRead {
                    id: read.id,
                    content: content.into(),
                    error,
                };
                self.send(shim_message::Message::FileRead(answer)).await?;
            }
            shim_request::Message::Collect(wanted) => self.collect(wanted).await?,
            shim_request::Message::Exit(_) => return Ok(Some(End::Told)),
            // A signal for a process that has just ended.
            shim_request::Message::Signal(_) | shim_request::Message::Grant(_) => {}
        }
        Ok(None)
    }

    /// Writes a file. One that this user may not change is replaced, when all that is written stays
    /// in the container.
    fn write(&self, path: &Path, wanted: &WriteFile) -> Result<(), String> {
        let write = || file::write(path, &wanted.content, wanted.mode);
        write().or_else(|error| {
            let is_replaced = self.volumes.are_in_place()
                && path.is_file()
                && access(path, Access::WRITE_OK).is_err()
                && std::fs::remove_file(path).is_ok();
            if is_replaced { write() } else { Err(error) }
        })
    }

    async fn collect(&mut self, wanted: Collect) -> Result<(), Gone> {
        let request = collect::Request {
            base: resolve(&self.working_dir, &wanted.working_dir),
            patterns: wanted.patterns,
            archive: Some(wanted.compress).filter(|name| !name.is_empty()),
            names_only: wanted.names_only,
            shared_only: false,
            digest_from: wanted.digest_from,
        };
        let volumes = self.volumes.clone();
        let (sender, mut items) = mpsc::channel(2);
        // Ends by itself when the receiver is dropped.
        drop(tokio::task::spawn_blocking(move || {
            collect::collect(&request, &volumes, sender);
        }));
        let id = wanted.id;
        while let Some(item) = items.recv().await {
            let message = match item {
                collect::Item::File {
                    path,
                    mode,
                    modified_ms,
                    digest,
                } => shim_message::Message::File(CollectedFile {
                    id,
                    path,
                    mode,
                    modified_ms,
                    size: digest.map_or(0, |digest| digest.size),
                    sha256: digest
                        .map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest.sha256)),
                }),
                collect::Item::Data(data) => {
                    self.send_data(id, data).await?;
                    continue;
                }
                collect::Item::FileEnd => shim_message::Message::Data(CollectedData {
                    id,
                    ..CollectedData::default()
                }),
                collect::Item::End {
                    files,
                    problems,
                    missing,
                    ..
                } => {
                    let (missing, unnamed) = missing.into_parts();
                    shim_message::Message::CollectEnd(CollectEnd {
                        id,
                        files,
                        problems,
                        missing,
                        unnamed,
                    })
                }
            };
            self.send(message).await?;
        }
        Ok(())
    }

    /// Sends bytes of a file in parts that the credit allows.
    async fn send_data(&mut self, id: u64, mut data: Bytes) -> Result<(), Gone> {
        while !data.is_empty() {
            let now = self.peer.spend(data.len()).await?;
            let data = data.split_to(now);
            self.send(shim_message::Message::Data(CollectedData { id, data }))
                .await?;
        }
        Ok(())
    }

    /// Where a path of a request is on this machine.
    fn real(&self, path: &str) -> PathBuf {
        self.volumes.real(&resolve(&self.working_dir, path))
    }

    async fn send(&mut self, message: shim_message::Message) -> Result<(), Gone> {
        self.peer.send(message).await
    }
}
