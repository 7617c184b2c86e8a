//! What expressions ask of the world outside of them: files of the shared folders, files of a
//! step's own container, programs, and credentials of the project. An evaluation notes its questions
//! ([`super::asked`]); here they are answered, and then the text is evaluated again.

use std::{path::Path, sync::Arc};

use muster_proto::runner::v1::{
    Collect, ReadFile, shim_message::Message as Told, shim_request::Message as Said,
};
use muster_spec::{
    expression::{Value, text},
    pattern::Patterns,
};
use tokio::sync::mpsc;

use super::{
    artifacts::escape,
    asked::{Asked, CREDENTIAL, Credentials, Question},
    operation::{At, Failure},
    pod::{Gone, Line, Shim},
    surroundings::Surroundings,
};
use crate::{
    collect::{self, Item, MOST_FILES},
    jq::jq_of,
    shim::file,
    volumes::resolve,
};

/// Why there is no answer.
enum Error {
    /// A word for the one who wrote the text.
    Said(String),
    /// The container is gone.
    Gone(Arc<Shim>),
    /// A text within the text has failed.
    Failed(Failure),
}

impl At<'_> {
    /// Answers all open questions; whether there were any.
    pub(super) async fn answer(
        &self,
        what: &str,
        asked: &Asked,
        around: &Surroundings,
    ) -> Result<bool, Failure> {
        let open = asked.open();
        for (index, question) in &open {
            let answered = tokio::select! {
                answered = self.one(question, around) => answered,
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            };
            let answer = match answered {
                Ok(value) => Ok(value),
                Err(Error::Said(text)) => Err(format!("{}: {text}", question.function)),
                Err(Error::Failed(failure)) if failure.reason == "CREDENTIAL" => {
                    Err(failure.message)
                }
                Err(Error::Failed(failure)) => return Err(failure),
                Err(Error::Gone(shim)) => {
                    let lost = self.run.pod.lose(&shim.container).await;
                    return Err(Failure {
                        message: format!("{what}: {}", lost.message),
                        ..lost
                    });
                }
            };
            asked.answer(*index, answer);
        }
        Ok(!open.is_empty())
    }

    async fn one(&self, question: &Question, around: &Surroundings) -> Result<Value, Error> {
        let arguments = question.arguments.as_slice();
        match (question.function.as_str(), arguments) {
            ("file", [path]) => self.file(&text(path), around).await,
            (CREDENTIAL, [name, rest @ ..]) => {
                let computed = rest == [Value::Bool(true)];
                self.credential(&text(name), computed, around).await
            }
            ("jq", [value, filter]) => self.jq(value.clone(), text(filter)).await,
            (_, patterns) => {
                let patterns: Vec<String> = patterns.iter().map(text).collect();
                self.glob(&patterns, around).await
            }
        }
    }

    /// The value of a credential; a computed one is itself a template.
    async fn credential(
        &self,
        name: &str,
        computed: bool,
        around: &Surroundings,
    ) -> Result<Value, Error> {
        let value = self.run.credentials.get(&self.run.agent, name).await;
        let value = value.map_err(said)?;
        if !computed {
            return Ok(value.into());
        }
        let what = format!("the value of {name}");
        // It may ask again, once.
        let resolved = Box::pin(self.resolve(&what, &value, around, Credentials::Plain)).await;
        resolved.map(Value::from).map_err(Error::Failed)
    }

    /// All results of a filter, from a process of its own.
    async fn jq(&self, value: Value, filter: String) -> Result<Value, Error> {
        let itself = self.run.itself.clone();
        let filtered = tokio::task::spawn_blocking(move || jq_of(&itself, &value, &filter));
        let filtered = filtered.await.map_err(|error| said(error.to_string()))?;
        filtered.map_err(|error| said(error.to_string()))
    }

    /// The content of a file, as text.
    async fn file(&self, path: &str, around: &Surroundings) -> Result<Value, Error> {
        let path = resolve(&around.directory, path);
        let shown = path.display();
        let content = match (self.run.volumes.shared(&path), &around.shim) {
            (Some((folder, rest)), _) => {
                let read = tokio::task::spawn_blocking(move || file::read_beneath(&folder, &rest));
                let read = read.await.map_err(|error| said(error.to_string()))?;
                read.map_err(|why| said(format!("{shown} can not be read: {why}")))?
            }
            (None, Some(shim)) => {
                let line = shim.line.lock().await;
                let answer = read(line, &path).await;
                let answer = answer.map_err(|Gone| Error::Gone(Arc::clone(shim)))?;
                answer.map_err(|why| said(format!("{shown} can not be read: {why}")))?
            }
            (None, None) => return Err(said(format!("{shown}: {NO_CONTAINER}"))),
        };
        match String::from_utf8(content) {
            Ok(text) => Ok(text.into()),
            Err(_not_text) => Err(said(format!("{shown} is not UTF-8 text"))),
        }
    }

    /// Absolute paths of files, sorted.
    async fn glob(&self, patterns: &[String], around: &Surroundings) -> Result<Value, Error> {
        let mut absolute = Vec::with_capacity(patterns.len());
        let base = escape(&around.directory.to_string_lossy());
        for pattern in patterns {
            let (not, plain) = match pattern.strip_prefix('!') {
                Some(plain) => ("!", plain),
                None => ("", pattern.as_str()),
            };
            absolute.push(match plain.starts_with('/') {
                true => pattern.clone(),
                false => format!("{not}{base}/{plain}"),
            });
        }
        let root = Path::new("/");
        let known = Patterns::parse(root, &absolute).map_err(|error| said(error.to_string()))?;
        let mut roots = known.roots().iter();
        let here = roots.all(|root| self.run.volumes.shared(root).is_some());
        let mut names = Names::default();
        match &around.shim {
            _ if here => {
                let request = collect::Request {
                    base: root.to_owned(),
                    patterns: absolute,
                    archive: None,
                    names_only: true,
                    shared_only: true,
                    digest_from: 0,
                };
                let volumes = self.run.volumes.clone();
                let (sender, mut items) = mpsc::channel(2);
                // Ends by itself when the receiver is dropped.
                drop(tokio::task::spawn_blocking(move || {
                    collect::collect(&request, &volumes, sender);
                }));
                while let Some(item) = items.recv().await {
                    names.take(item);
                }
            }
            Some(shim) => {
                let line = shim.line.lock().await;
                let listed = list(line, absolute, &mut names).await;
                listed.map_err(|Gone| Error::Gone(Arc::clone(shim)))?;
            }
            None => return Err(said(format!("{}: {NO_CONTAINER}", patterns.join(", ")))),
        }
        for problem in &names.problems {
            let remark = format!("glob: {problem}");
            self.run.spool.remark(self.step, &remark).await;
        }
        if names.paths.len() as u64 > MOST_FILES {
            let patterns = patterns.join(", ");
            return Err(said(format!("{patterns}: more than {MOST_FILES} files")));
        }
        names.paths.sort_unstable();
        Ok(names.paths.into())
    }
}

/// Why a file can not be had.
const NO_CONTAINER: &str = "only files in /data, /testkube, /tmp and folders of the workflow's \
    content are known here, where no process is";

fn said(text: impl Into<String>) -> Error {
    Error::Said(text.into())
}

/// Names of files.
#[derive(Debug, Default)]
struct Names {
    paths: Vec<String>,
    problems: Vec<String>,
}

impl Names {
    fn take(&mut self, item: Item) {
        match item {
            Item::File { path, .. } => self.paths.push(format!("/{path}")),
            Item::Data(_) | Item::FileEnd => {}
            Item::End { problems, .. } => self.problems = problems,
        }
    }
}

type Locked<'a> = tokio::sync::MutexGuard<'a, Line>;

/// Has a shim read a file.
async fn read(mut line: Locked<'_>, path: &Path) -> Result<Result<Vec<u8>, String>, Gone> {
    line.last_id += 1;
    let id = line.last_id;
    let path = path.to_string_lossy().into_owned();
    line.say(Said::ReadFile(ReadFile { id, path })).await?;
    loop {
        match line.hear().await? {
            Told::FileRead(read) if read.id == id && read.error.is_empty() => {
                return Ok(Ok(read.content.to_vec()));
            }
            Told::FileRead(read) if read.id == id => return Ok(Err(read.error)),
            older => line.pass_over(older).await?,
        }
    }
}

/// Has a shim list files.
async fn list(mut line: Locked<'_>, patterns: Vec<String>, names: &mut Names) -> Result<(), Gone> {
    line.last_id += 1;
    let id = line.last_id;
    line.say(Said::Collect(Collect {
        id,
        working_dir: "/".to_owned(),
        patterns,
        names_only: true,
        ..Collect::default()
    }))
    .await?;
    loop {
        match line.hear().await? {
            Told::File(file) if file.id == id => names.take(Item::File {
                path: file.path,
                mode: file.mode,
                modified_ms: file.modified_ms,
                digest: None,
            }),
            Told::CollectEnd(end) if end.id == id => {
                names.problems = end.problems;
                return Ok(());
            }
            older => line.pass_over(older).await?,
        }
    }
}
