//! Collecting artifacts: from the step's container while it lives, from the shared volumes
//! otherwise. A file whose upload broke is collected again, and goes on where it broke; one that did not
//! come into the object store directly is collected again and goes by the agent.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use muster_proto::runner::v1::{
    ArtifactBegin, Collect, MissingFile, MissingFiles, agent_message::Message as Heard,
    conductor_hello::Purpose, conductor_message::Message as Said, shim_message::Message as Told,
    shim_request,
};
use muster_spec::{pattern::Patterns, plan::Artifacts};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    operation::{At, Failure},
    pod::{Gone, Line, Shim},
    upload::{Broken, Carrier, Upload},
};
use crate::collect::{self, Digest, Item, Missing, Reason};

/// Most files on their way at once.
const SIDE_BY_SIDE: usize = 4;
/// Shortest and longest pause before files are collected again because their uploads broke. That
/// is done as long as the run may last: an outage of the server is no fault of the test.
/// How often it is looked whether the agent is another one.
const LOOK: Duration = Duration::from_secs(1);
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What one round of collecting came to.
#[derive(Debug, Default)]
struct Round {
    sent: u64,
    /// Names of the files that were found.
    found: HashSet<String>,
    /// When each of them last changed.
    times: Vec<(String, i64)>,
    again: Vec<String>,
    /// Those of them that are not what they were when they were sent before.
    changed: HashSet<String>,
    /// Those that did not come into the object store directly.
    by_agent: Vec<String>,
    problems: Vec<String>,
    /// The first problem that is more than a link or a special file left out.
    failed: Option<String>,
    /// The files that were meant and are not sent.
    missing: Missing,
}

/// What came of a request.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Files, or archives.
    pub(super) files: u64,
    /// Why it is not all that it should be. A shim does not tell.
    pub(super) failed: Option<String>,
    /// Nothing was left out, for whatever reason.
    pub(super) whole: bool,
    /// Each file with the time when its content last changed.
    pub(super) times: Vec<(String, i64)>,
    /// The files that were meant and were not sent, but for those that the server has refused.
    pub(super) missing: Missing,
}

impl At<'_> {
    pub(super) async fn collect(&self, artifacts: &Artifacts) -> Result<Sent, Failure> {
        let shim = match artifacts.container {
            Some(index) => self.run.pod.connected(self.container(index)?),
            None => None,
        };
        let mut around = self.around(shim.as_ref()).await?;
        if let Some(directory) = &artifacts.working_dir {
            let directory = self
                .inside("artifacts.workingDir", directory, &around)
                .await?;
            around.enter(&directory);
        }
        let patterns = self
            .templates("artifacts.paths", &artifacts.paths, &around)
            .await?;
        let archive = match &artifacts.compress {
            Some(name) => {
                let name = self.template("artifacts.compress.name", name, &around);
                Some(name.await?)
            }
            None => None,
        };
        let request = collect::Request {
            base: around.directory,
            patterns,
            archive,
            names_only: false,
            shared_only: shim.is_none(),
            digest_from: self.run.direct.from(),
        };
        let mut sent = self.collect_request(shim, request, "artifacts").await?;
        self.miss(std::mem::take(&mut sent.missing).finish())
            .await?;
        Ok(sent)
    }

    /// Has files listed as missing. Their remarks are in the log in any case.
    async fn miss(&self, files: Vec<MissingFile>) -> Result<(), Failure> {
        if files.is_empty() || !self.run.agent.notes_missing() {
            return Ok(());
        }
        let files = MissingFiles {
            step: self.step.to_owned(),
            files,
        };
        let told = [Said::Missing(files)];
        let noted = self.run.agent.ask(
            Purpose::Missing,
            || told.clone(),
            |heard| matches!(heard, Heard::MissingNoted(_)).then_some(()),
        );
        // An older one that takes its place would take the question for something else.
        let unwanted = async {
            while self.run.agent.notes_missing() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = noted => Ok(()),
            () = unwanted => Ok(()),
            cause = self.limits.reached() => Err(Failure::stopped(&cause, self.step)),
        }
    }

    /// Collects and sends files, as often as it takes.
    pub(super) async fn collect_request(
        &self,
        shim: Option<Arc<Shim>>,
        mut request: collect::Request,
        what: &str,
    ) -> Result<Sent, Failure> {
        let given = request.patterns.clone();
        // No file would be found, and nobody would know why.
        if let Err(error) = Patterns::parse(&request.base, &given) {
            return Err(Failure::new("PATTERN", format!("{what}: {error}")));
        }
        let mut sent = Sent {
            whole: true,
            ..Sent::default()
        };
        let mut wanted: Vec<String> = Vec::new();
        let mut broken: HashSet<String> = HashSet::new();
        let mut is_told = false;
        let mut pause = PAUSES.0;
        loop {
            let round = tokio::select! {
                round = self.round(shim.as_ref(), &request, &broken) => round?,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            };
            sent.files += round.sent;
            sent.whole &= round.problems.is_empty();
            // One that is sent again may be another one by now.
            sent.times.extend(round.times);
            // An archive that is sent again is another one.
            if request.archive.is_some() {
                sent.failed = round.failed;
                sent.missing = round.missing;
            } else {
                sent.failed = sent.failed.or(round.failed);
                sent.missing.extend(round.missing);
            }
            if request.archive.is_none() {
                gone(&wanted, &round.found)?;
            }
            for problem in &round.problems {
                self.run
                    .spool
                    .remark(self.step, &format!("{what}: {problem}"))
                    .await;
            }
            if round.again.is_empty() && round.by_agent.is_empty() {
                if sent.files == 0 && round.problems.is_empty() {
                    let text = format!("{what}: no file matches {}", request.patterns.join(" "));
                    self.run.spool.remark(self.step, &text).await;
                }
                return Ok(sent);
            }
            let broke = !round.again.is_empty();
            if broke && !is_told {
                is_told = true;
                let count = round.again.len();
                let text = format!(
                    "{what}: {count} could not be sent, the connection broke; trying again until they are"
                );
                self.run.spool.remark(self.step, &text).await;
            }
            broken = round.again.iter().cloned().collect();
            broken.retain(|path| !round.changed.contains(path));
            wanted = round.again;
            wanted.extend(round.by_agent);
            if request.archive.is_none() {
                request.patterns = literal(&request.base, &given, &wanted);
            }
            // What is sent again goes by the agent: that comes to an end whatever the store does.
            request.digest_from = 0;
            if !broke {
                continue;
            }
            tokio::select! {
                () = self.run.agent.pause(pause) => {}
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn round(
        &self,
        shim: Option<&Arc<Shim>>,
        request: &collect::Request,
        broken: &HashSet<String>,
    ) -> Result<Round, Failure> {
        let mut taker = Taker {
            at: self,
            broken,
            round: Round::default(),
            current: None,
            ending: JoinSet::new(),
            idle: Vec::new(),
            full: None,
        };
        let Some(shim) = shim else {
            let (request, volumes) = (request.clone(), self.run.volumes.clone());
            let (sender, mut items) = mpsc::channel(2);
            // Ends by itself when the receiver is dropped.
            drop(tokio::task::spawn_blocking(move || {
                collect::collect(&request, &volumes, sender);
            }));
            while let Some(item) = items.recv().await {
                taker.take(item).await;
            }
            return Ok(taker.round);
        };
        let mut line = shim.line.lock().await;
        match taker.relay(&mut line, request).await {
            Ok(()) => Ok(taker.round),
            Err(Gone) => Err(self.run.pod.lose(&shim.container).await),
        }
    }
}

/// Takes a collection apart into uploads.
struct Taker<'a, 'b> {
    at: &'a At<'b>,
    /// Files that were sent before, and broke.
    broken: &'a HashSet<String>,
    round: Round,
    /// The file that is on its way, and its upload unless that broke.
    current: Option<(String, Result<Upload, Broken>)>,
    /// Uploads that are sent and wait to be durable.
    ending: JoinSet<(String, Result<Option<Carrier>, Broken>)>,
    /// Connections for the next ones.
    idle: Vec<Carrier>,
    /// Why nothing more is taken, and how many files were left out for that.
    full: Option<(String, u64)>,
}

impl Taker<'_, '_> {
    async fn relay(&mut self, line: &mut Line, request: &collect::Request) -> Result<(), Gone> {
        line.last_id += 1;
        let id = line.last_id;
        line.say(shim_request::Message::Collect(Collect {
            id,
            working_dir: request.base.to_string_lossy().into_owned(),
            patterns: request.patterns.clone(),
            compress: request.archive.clone().unwrap_or_default(),
            names_only: request.names_only,
            digest_from: request.digest_from,
        }))
        .await?;
        loop {
            match line.hear().await? {
                Told::File(file) if file.id == id => {
                    let sha256 = <[u8; 32]>::try_from(file.sha256.as_ref()).ok();
                    let size = file.size;
                    let begin = Item::File {
                        path: file.path,
                        mode: file.mode,
                        modified_ms: file.modified_ms,
                        digest: sha256.map(|sha256| Digest { size, sha256 }),
                    };
                    self.take(begin).await;
                }
                Told::Data(data) if data.id == id && data.data.is_empty() => {
                    self.take(Item::FileEnd).await;
                }
                Told::Data(data) if data.id == id => {
                    let size = data.data.len();
                    self.take(Item::Data(data.data)).await;
                    line.grant(size).await?;
                }
                Told::CollectEnd(end) if end.id == id => {
                    let end = Item::End {
                        files: end.files,
                        problems: end.problems,
                        failed: None,
                        missing: Missing::new(end.missing, end.unnamed),
                    };
                    self.take(end).await;
                    return Ok(());
                }
                older => line.pass_over(older).await?,
            }
        }
    }

    async fn take(&mut self, item: Item) {
        match item {
            Item::File {
                path,
                mode,
                modified_ms,
                digest,
            } => {
                self.round.found.insert(path.clone());
                self.round.times.push((path.clone(), modified_ms));
                if let Some((words, left_out)) = &mut self.full {
                    *left_out += 1;
                    self.round.missing.add(path, Reason::TooMany, words);
                    return;
                }
                let begin = ArtifactBegin {
                    path: path.clone(),
                    mode,
                    step: self.at.step.to_owned(),
                    direct: None,
                    resume: self.broken.contains(&path),
                };
                let run = &self.at.run;
                let idle = self.idle.pop();
                let upload = Upload::begin(&run.agent, &run.direct, idle, begin, digest).await;
                self.current = Some((path, upload));
            }
            Item::Data(data) => {
                if let Some((_, upload)) = &mut self.current
                    && let Ok(open) = upload
                    && let Err(broken) = open.data(data).await
                {
                    *upload = Err(broken);
                }
            }
            Item::FileEnd => match self.current.take() {
                Some((path, Ok(upload))) => {
                    self.ending
                        .spawn_local(async move { (path, upload.end().await) });
                    while self.ending.len() >= SIDE_BY_SIDE {
                        self.settle().await;
                    }
                }
                Some((path, Err(broken))) => self.note(path, Err(broken)),
                None => {}
            },
            Item::End {
                problems,
                failed,
                missing,
                ..
            } => {
                while !self.ending.is_empty() {
                    self.settle().await;
                }
                self.round.problems.extend(problems);
                self.round.missing.extend(missing);
                if let Some((words, left_out)) = self.full.take() {
                    let problem = format!("{left_out} files are left out: {words}");
                    self.round.failed.get_or_insert_with(|| problem.clone());
                    self.round.problems.push(problem);
                }
                self.round.failed = failed.or_else(|| self.round.failed.take());
            }
        }
    }

    /// Waits for the end of one upload.
    async fn settle(&mut self) {
        if let Some(Ok((path, ended))) = self.ending.join_next().await {
            let ended = ended.map(|carrier| self.idle.extend(carrier));
            self.note(path, ended);
        }
    }

    fn note(&mut self, path: String, ended: Result<(), Broken>) {
        match ended {
            Ok(()) => self.round.sent += 1,
            Err(Broken::Refused(words)) => {
                let problem = format!("{path}: {words}");
                self.round.failed.get_or_insert_with(|| problem.clone());
                self.round.problems.push(problem);
            }
            Err(Broken::Full(words)) => {
                self.round.missing.add(path, Reason::TooMany, &words);
                self.full.get_or_insert((words, 0)).1 += 1;
            }
            Err(Broken::Connection) => self.round.again.push(path),
            Err(Broken::Changed) => {
                self.round.changed.insert(path.clone());
                self.round.again.push(path);
            }
            Err(Broken::Around) => self.round.by_agent.push(path),
        }
    }
}

/// Fails when files that were to be sent again are not there any more: a pass must not hide that.
fn gone(wanted: &[String], found: &HashSet<String>) -> Result<(), Failure> {
    let lost: Vec<&str> = wanted
        .iter()
        .filter(|name| !found.contains(*name))
        .map(String::as_str)
        .collect();
    match lost.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(Failure::new(
            "ARTIFACTS",
            format!(
                "{} of the files were gone before they could be sent again, such as '{first}'",
                lost.len()
            ),
        )),
    }
}

/// Patterns that mean exactly the files of these names, out of those that `given` means.
fn literal(base: &Path, given: &[String], names: &[String]) -> Vec<String> {
    let given = Patterns::parse(base, given).ok();
    let mut patterns = Vec::with_capacity(names.len());
    for name in names {
        // A name is a path below the base, or one from the root on without its first slash.
        let below = base.join(name);
        let from_root = Path::new("/").join(name);
        let meant = |path: &Path| given.as_ref().is_none_or(|given| given.matches(path));
        for path in [below, from_root] {
            if meant(&path) {
                patterns.push(escape(&path.to_string_lossy()));
            }
        }
    }
    patterns
}

/// An absolute path as a pattern.
pub(super) fn escape(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len() + 8);
    for character in path.chars() {
        // Not `!`: it excludes only at the beginning, and in brackets it negates.
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '\\' => {
                pattern.push('[');
                pattern.push(character);
                pattern.push(']');
            }
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_to_be_sent_again_are_found_by_their_names() {
        let base = Path::new("/data/re po");
        let given = ["**/*", "!*.key", "/tmp/r/*"].map(str::to_owned);
        let names = ["a [b]*?{}\\!", "!x", "tmp/r/a.xml"].map(str::to_owned);
        let patterns = literal(base, &given, &names);
        let again = Patterns::parse(base, &patterns).expect("they can be read");
        for path in [
            "/data/re po/a [b]*?{}\\!",
            "/data/re po/!x",
            "/data/re po/tmp/r/a.xml",
            "/tmp/r/a.xml",
        ] {
            assert!(again.matches(Path::new(path)), "{path} in {patterns:?}");
        }
        for path in ["/data/re po/a b", "/data/re po/y", "/tmp/r/b.xml", "/!x"] {
            assert!(!again.matches(Path::new(path)), "{path} in {patterns:?}");
        }
    }

    #[test]
    fn file_that_vanished_is_a_failure() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert!(gone(&names, &HashSet::from(names.clone())).is_ok());
        let failure = gone(&names, &HashSet::from(["a".to_owned()])).expect_err("b is gone");
        assert!(format!("{failure:?}").contains("'b'"), "{failure:?}");
    }
}
