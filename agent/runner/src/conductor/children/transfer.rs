//! Files between a parent and its children: put aside by one side, taken by the other. They go
//! through the control plane, since both may be in different clusters.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use muster_proto::runner::v1::{
    ArchiveWish, agent_message::Message as Heard, conductor_hello::Purpose,
    conductor_message::Message as Said,
};
use muster_spec::{
    plan::{Receive, Send, Transfer},
    strategy::Instance,
};

use super::{crew::is_common, instances::Texts, probe::run_quietly};
use crate::{
    collect,
    conductor::operation::{At, DEFAULT_BASE, Failure},
    unpack::{self, Stopper},
    volumes::resolve,
};

/// Pause before a broken download is begun again.
const AGAIN: Duration = Duration::from_millis(500);
/// Most names that are tried for a file on its way to another container.
const MOST_NAMES: u32 = 100;
/// The runner's program in every container.
const RUNNER: &str = "/.muster/bin/muster-runner";
/// Where files can come from and go to, for people.
const SHARED: &str = "/data, /testkube, /tmp and folders of the workflow's content";

/// Archives for the children of one group.
pub(super) struct Outgoing<'a> {
    at: &'a At<'a>,
    group: String,
    count: usize,
    /// Those that are the same for all, by what makes them.
    common: HashMap<String, Option<Receive>>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(at: &'a At<'a>, group: &str) -> Self {
        Self {
            at,
            group: group.to_owned(),
            count: 0,
            common: HashMap::new(),
        }
    }

    /// Puts files aside for an instance with this working directory; nothing when there are none.
    pub(super) async fn send(
        &mut self,
        texts: &Texts<'_>,
        transfer: &Transfer,
        instance: &Instance,
        directory: Option<&str>,
    ) -> Result<Option<Receive>, Failure> {
        let is_common = is_common(transfer) && !directory.is_some_and(|text| text.contains("{{"));
        let key = is_common.then(|| serde_json::json!([transfer, directory]).to_string());
        if let Some(known) = key.as_ref().and_then(|key| self.common.get(key)) {
            return Ok(known.clone());
        }
        let from = texts
            .template("transfer.from", &transfer.from, instance)
            .await?;
        let from = texts.here(&from);
        let to = match &transfer.to {
            Some(to) => {
                let to = texts.template("transfer.to", to, instance).await?;
                texts.there(directory, &to, instance).await?
            }
            None => from.clone(),
        };
        let files = texts
            .patterns("transfer.files", transfer.files.as_ref(), instance)
            .await?;
        let path = format!(".muster/transfer/{}/{}.tar.gz", self.group, self.count);
        self.count += 1;
        let sent = self.at.put_aside(&from, files, &path).await?;
        let execution = self.at.run.execution_id();
        let receive = sent.then_some(Receive {
            execution,
            path,
            to,
        });
        if let Some(key) = key {
            self.common.insert(key, receive.clone());
        }
        Ok(receive)
    }
}

/// Files that a child has put aside for its parent.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) path: String,
    pub(super) to: String,
}

impl Fetch {
    /// Takes them, if there are any.
    pub(super) async fn take(&self, at: &At<'_>, execution: &str) -> Result<(), Failure> {
        let taken = at.take(execution, &self.path, &self.to, true);
        tokio::select! {
            taken = taken => taken,
            cause = at.limits.reached() => Err(Failure::stopped(&cause, at.step)),
        }
    }
}

impl At<'_> {
    /// Unpacks archives of the parent.
    pub(in crate::conductor) async fn receive(&self, archives: &[Receive]) -> Result<(), Failure> {
        for archive in archives {
            self.place(&archive.to)?;
            let taken = self.take(&archive.execution, &archive.path, &archive.to, false);
            tokio::select! {
                taken = taken => taken?,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
        }
        Ok(())
    }

    /// Makes archives for the parent.
    pub(in crate::conductor) async fn send(&self, archives: &[Send]) -> Result<(), Failure> {
        for archive in archives {
            self.put_aside(&archive.from, archive.files.clone(), &archive.path)
                .await?;
        }
        Ok(())
    }

    /// Makes one archive of the files of a folder; whether there were any.
    async fn put_aside(
        &self,
        from: &str,
        patterns: Vec<String>,
        path: &str,
    ) -> Result<bool, Failure> {
        let base = resolve(Path::new(DEFAULT_BASE), from);
        if self.run.volumes.shared(&base).is_none() {
            let text = format!(
                "{}: files can be given on from {SHARED} only",
                base.display()
            );
            return Err(Failure::new("TRANSFER", text));
        }
        let request = collect::Request {
            base,
            patterns,
            archive: Some(path.to_owned()),
            names_only: false,
            shared_only: true,
            digest_from: 0,
        };
        let sent = self.collect_request(None, request, "transfer").await?;
        // The other side would begin without what it was to have.
        match sent.failed {
            Some(why) => Err(Failure::new(
                "TRANSFER",
                format!("{from} can not be given on: {why}"),
            )),
            None => Ok(sent.files > 0),
        }
    }

    /// Fetches an archive and unpacks it.
    pub(in crate::conductor) async fn take(
        &self,
        execution: &str,
        path: &str,
        to: &str,
        optional: bool,
    ) -> Result<(), Failure> {
        let target = resolve(Path::new(DEFAULT_BASE), to);
        let Some((root, rest)) = self.run.volumes.shared(&target) else {
            let text = format!("{}: files can be taken to {SHARED} only", target.display());
            return Err(Failure::new("TRANSFER", text));
        };
        let archive = match self.download(execution, path).await? {
            Ok(archive) => archive,
            Err(_missing) if optional => return Ok(()),
            Err(missing) => return Err(Failure::new("TRANSFER", missing)),
        };
        let copy = archive.try_clone();
        // When this is not awaited any more, unpacking ends too.
        let stopper = Stopper::default();
        let stop = stopper.stop();
        let unpacking = move || unpack::unpack(archive, &root, &rest, &stop);
        let unpacked = tokio::task::spawn_blocking(unpacking).await;
        if let (Ok(Err(error)), Ok(archive)) = (&unpacked, copy)
            && error.is_permission()
        {
            return self
                .unpack_inside(archive, &target, &error.to_string())
                .await;
        }
        let failure = |text: String| {
            Failure::new(
                "TRANSFER",
                format!("{} can not be filled: {text}", target.display()),
            )
        };
        match unpacked {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failure(error.to_string())),
            Err(error) => Err(failure(error.to_string())),
        }
    }

    /// Unpacks as the user of one of the pod's containers: a step has made the folder, and not for
    /// the conductor.
    async fn unpack_inside(
        &self,
        mut archive: File,
        target: &Path,
        why: &str,
    ) -> Result<(), Failure> {
        let failure = |why: &str| {
            let text = format!("{} can not be filled: {why}", target.display());
            Failure::new("TRANSFER", text)
        };
        let (name, path, mut copy) = self
            .passing()
            .map_err(|error| failure(&error.to_string()))?;
        let copied = archive
            .rewind()
            .and_then(|()| io::copy(&mut archive, &mut copy));
        drop(copy);
        let mut last = why.to_owned();
        let mut done = false;
        if let Err(error) = copied {
            last = error.to_string();
        } else {
            let argv = [RUNNER.to_owned(), "unpack".to_owned(), name];
            for container in &self.run.plan.containers {
                let Some(shim) = self.run.pod.connected(&container.name) else {
                    continue;
                };
                let argv = argv.iter().cloned().chain([target.display().to_string()]);
                let (good, said) = run_quietly(&shim, argv.collect(), Vec::new()).await;
                if good {
                    done = true;
                    break;
                }
                last = said;
            }
        }
        // It is on a volume of this pod alone.
        let _gone = fs::remove_file(&path);
        match done {
            true => Ok(()),
            false => Err(failure(&last)),
        }
    }

    /// A new file that containers of the pod can read, with its names here and there. Never one
    /// that is there already, and through no link: steps write to this folder too.
    fn passing(&self) -> io::Result<(String, PathBuf, File)> {
        let mut number = 0;
        loop {
            let name = format!("/tmp/.muster-archive-{}-{number}", std::process::id());
            let path = self.run.volumes.real(Path::new(&name));
            match File::create_new(&path) {
                Ok(file) => return Ok((name, path, file)),
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_NAMES =>
                {
                    number += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Downloads an archive to a file without a name, as often as it takes. The inner error says
    /// that there is none.
    async fn download(&self, execution: &str, path: &str) -> Result<Result<File, String>, Failure> {
        let folder = self.run.options.spool_directory();
        loop {
            let mut file = nameless(&folder).map_err(|error| {
                Failure::new("TRANSFER", format!("no file can be made: {error}"))
            })?;
            match self.try_download(execution, path, &mut file).await {
                Ok(Ok(())) => {
                    file.rewind()
                        .map_err(|error| Failure::new("TRANSFER", error.to_string()))?;
                    return Ok(Ok(file));
                }
                Ok(Err(missing)) => return Ok(Err(missing)),
                Err(Broken::Disk(error)) => {
                    let text = format!("the archive can not be kept: {error}");
                    return Err(Failure::new("TRANSFER", text));
                }
                Err(Broken::Connection) => self.run.agent.pause(AGAIN).await,
            }
        }
    }

    async fn try_download(
        &self,
        execution: &str,
        path: &str,
        file: &mut File,
    ) -> Result<Result<(), String>, Broken> {
        let connection = self.run.agent.connect(Purpose::Archive, (true, 0, 0)).await;
        let (mut hearing, mut speaking) = connection.split();
        let wish = ArchiveWish {
            execution: execution.to_owned(),
            path: path.to_owned(),
        };
        let lost = |_broken| Broken::Connection;
        speaking.say(Said::Archive(wish)).await.map_err(lost)?;
        loop {
            match hearing.hear().await.map_err(lost)?.message {
                Some(Heard::Archive(part)) if !part.error.is_empty() => {
                    return Ok(Err(part.error));
                }
                Some(Heard::Archive(part)) => {
                    file.write_all(&part.data).map_err(Broken::Disk)?;
                    if part.last {
                        return Ok(Ok(()));
                    }
                }
                Some(Heard::Refused(_)) => return Err(Broken::Connection),
                _ => {}
            }
        }
    }
}

/// Why a download came to no end.
enum Broken {
    /// All of it again.
    Connection,
    /// Another try would meet it too.
    Disk(io::Error),
}

/// A file that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("archive-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}
