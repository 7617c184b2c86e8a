//! Collecting artifacts: from the step's container while it lives, from the shared volumes
//! otherwise. A file whose upload broke is collected again.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use muster_proto::runner::v1::{
    ArtifactBegin, Collect, shim_message::Message as Told, shim_request,
};
use muster_spec::plan::Artifacts;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    operation::{At, DEFAULT_BASE, Failure},
    pod::{Gone, Line, Shim},
    upload::{Broken, Upload},
};
use crate::{
    collect::{self, Item},
    volumes::resolve,
};

/// How often a file is collected again because its upload broke.
const ROUNDS: usize = 100;
/// Most files on their way at once.
const SIDE_BY_SIDE: usize = 4;
/// Pause before that.
const PAUSE: Duration = Duration::from_millis(500);

/// What one round of collecting came to.
#[derive(Debug, Default)]
struct Round {
    sent: u64,
    again: Vec<String>,
    problems: Vec<String>,
}

impl At<'_> {
    pub(super) async fn collect(&self, artifacts: &Artifacts) -> Result<(), Failure> {
        let shim = match artifacts.container {
            Some(index) => self.run.pod.connected(self.container(index)?),
            None => None,
        };
        let environment = self.environment(shim.as_deref(), &[])?;
        let texts = |what: &str, texts: &[String], environment: &BTreeMap<_, _>| {
            texts
                .iter()
                .map(|text| self.template(what, text, environment))
                .collect::<Result<Vec<_>, _>>()
        };
        let given = match &artifacts.working_dir {
            Some(directory) => self.template("artifacts.workingDir", directory, &environment)?,
            None => String::new(),
        };
        let image = shim
            .as_ref()
            .map_or(DEFAULT_BASE, |shim| shim.working_dir.as_str());
        let base = resolve(Path::new(image), &given);
        let mut request = collect::Request {
            base,
            patterns: texts("artifacts.paths", &artifacts.paths, &environment)?,
            archive: match &artifacts.compress {
                Some(name) => Some(self.template("artifacts.compress.name", name, &environment)?),
                None => None,
            },
            shared_only: shim.is_none(),
        };
        let mut sent = 0;
        for _ in 0..ROUNDS {
            let round = tokio::select! {
                round = self.round(shim.as_ref(), &request) => round?,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            };
            sent += round.sent;
            for problem in &round.problems {
                self.run
                    .spool
                    .remark(self.step, &format!("artifacts: {problem}"))
                    .await;
            }
            if round.again.is_empty() {
                if sent == 0 && round.problems.is_empty() {
                    let text = format!("artifacts: no file matches {}", request.patterns.join(" "));
                    self.run.spool.remark(self.step, &text).await;
                }
                return Ok(());
            }
            if request.archive.is_none() {
                request.patterns = round.again.iter().map(|path| literal(path)).collect();
            }
            self.run.agent.pause(PAUSE).await;
        }
        Err(Failure::new(
            "ARTIFACTS",
            "files could not be sent to the agent; the log names them",
        ))
    }

    async fn round(
        &self,
        shim: Option<&Arc<Shim>>,
        request: &collect::Request,
    ) -> Result<Round, Failure> {
        let mut taker = Taker {
            at: self,
            round: Round::default(),
            current: None,
            ending: JoinSet::new(),
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
    round: Round,
    /// The file that is on its way, and its upload unless that broke.
    current: Option<(String, Result<Upload, Broken>)>,
    /// Uploads that are sent and wait to be durable.
    ending: JoinSet<(String, Result<(), Broken>)>,
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
        }))
        .await?;
        loop {
            match line.hear().await? {
                Told::File(file) if file.id == id => {
                    let (path, mode) = (file.path, file.mode);
                    self.take(Item::File { path, mode }).await;
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
                    let (files, problems) = (end.files, end.problems);
                    self.take(Item::End { files, problems }).await;
                    return Ok(());
                }
                older => line.pass_over(older).await?,
            }
        }
    }

    async fn take(&mut self, item: Item) {
        match item {
            Item::File { path, mode } => {
                let begin = ArtifactBegin {
                    path: path.clone(),
                    mode,
                    step: self.at.step.to_owned(),
                };
                let upload = Upload::begin(&self.at.run.agent, begin).await;
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
            Item::End { problems, .. } => {
                while !self.ending.is_empty() {
                    self.settle().await;
                }
                self.round.problems.extend(problems);
            }
        }
    }

    /// Waits for the end of one upload.
    async fn settle(&mut self) {
        if let Some(Ok((path, ended))) = self.ending.join_next().await {
            self.note(path, ended);
        }
    }

    fn note(&mut self, path: String, ended: Result<(), Broken>) {
        match ended {
            Ok(()) => self.round.sent += 1,
            Err(Broken::Refused(words)) => self.round.problems.push(format!("{path}: {words}")),
            Err(Broken::Connection) => self.round.again.push(path),
        }
    }
}

/// A pattern that means exactly this name: below the base, or from the root on.
fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len() + 8);
    for character in path.chars() {
        match character {
            '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\' => {
                pattern.push('[');
                pattern.push(character);
                pattern.push(']');
            }
            other => pattern.push(other),
        }
    }
    pattern
}
