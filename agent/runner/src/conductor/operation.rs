//! The operations of a step, apart from nested steps: waiting, writing files, running processes.

use std::{rc::Rc, sync::Arc, time::Duration};

use muster_proto::runner::v1::{self as wire, WriteFile, shim_message, shim_request};
use muster_spec::{
    duration,
    plan::{Command, File, Run as Process},
};

use super::{
    Run,
    halt::{Cause, Limits},
    pod::Shim,
    process::{self, Ended},
    scope::Sight,
};
use crate::{
    reference,
    shim::file,
    signal,
    volumes::{Volumes, resolve},
};

/// Base of relative paths when no container says another one.
pub(super) const DEFAULT_BASE: &str = "/data";

/// Why a step did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) exit_code: Option<i32>,
}

/// Reason of a group or run that failed because of what is around the test, and not by the test.
pub(super) const BROKEN: &str = "STEP_BROKEN";

/// Which state a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Failed,
    TimedOut,
    Canceled,
    Aborted,
}

impl Failure {
    pub(super) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            reason: reason.to_owned(),
            message: message.into(),
            exit_code: None,
        }
    }

    /// The failure of a step that had to end.
    pub(super) fn stopped(cause: &Cause, step: &str) -> Self {
        match cause {
            Cause::Timeout { step: of, after } => {
                let whose = if of == step {
                    "its timeout".to_owned()
                } else {
                    format!("the timeout of step {of}")
                };
                Self {
                    kind: Kind::TimedOut,
                    ..Self::new("TIMEOUT", format!("{whose} of {} passed", seconds(*after)))
                }
            }
            Cause::Cancel(cancel) => {
                let (kind, reason) = match cancel.outcome {
                    wire::Outcome::Aborted => (Kind::Aborted, "ABORTED"),
                    wire::Outcome::TimedOut => (Kind::TimedOut, "DEADLINE"),
                    _ => (Kind::Canceled, "CANCELED"),
                };
                Self {
                    kind,
                    ..Self::new(reason, cancel.message.clone())
                }
            }
        }
    }

    pub(super) fn expression(what: &str, error: &impl std::fmt::Display) -> Self {
        Self::new("EXPRESSION", format!("{what}: {error}"))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{duration:?}")
}

/// A step as its operations see it.
pub(super) struct At<'a> {
    pub(super) run: &'a Rc<Run>,
    pub(super) sight: &'a Sight,
    pub(super) step: &'a str,
    pub(super) limits: &'a Limits,
}

impl At<'_> {
    pub(super) async fn delay(&self, wanted: &str) -> Result<(), Failure> {
        let around = self.around(None).await?;
        let text = self.template("delay", wanted, &around).await?;
        if text.trim().is_empty() {
            return Ok(());
        }
        let wait = duration::parse(&text).map_err(|error| Failure::expression("delay", &error))?;
        let pause = self.limits.pause();
        tokio::select! {
            () = pause.sleep_until(pause.clock() + wait) => Ok(()),
            cause = self.limits.reached() => Err(Failure::stopped(&cause, self.step)),
        }
    }

    pub(super) async fn files(
        &self,
        container: Option<usize>,
        files: &[File],
    ) -> Result<(), Failure> {
        let shim = match container {
            Some(index) => Some(self.shim(index).await?),
            None => None,
        };
        for file in files {
            let around = self.around(shim.as_ref()).await?;
            let path = self
                .template("content.files.path", &file.path, &around)
                .await?;
            let content = match file.values {
                None => around,
                Some(index) => self.around(Some(&self.shim(index).await?)).await?,
            };
            let content = self
                .inside("content.files.content", &file.content, &content)
                .await?;
            let error = match &shim {
                Some(shim) => self.write(shim, &path, &content, file.mode).await?,
                None => self.write_here(&path, &content, file.mode),
            };
            if !error.is_empty() {
                return Err(Failure::new(
                    "FILES",
                    format!("{path} can not be written: {error}"),
                ));
            }
        }
        Ok(())
    }

    /// Has a shim write a file; the answer is empty or says what is wrong.
    async fn write(
        &self,
        shim: &Shim,
        path: &str,
        content: &str,
        mode: u32,
    ) -> Result<String, Failure> {
        let mut line = shim.line.lock().await;
        line.last_id += 1;
        let id = line.last_id;
        let request = WriteFile {
            id,
            path: path.to_owned(),
            content: content.to_owned().into(),
            mode,
        };
        let answered = async {
            line.say(shim_request::Message::WriteFile(request)).await?;
            loop {
                match line.hear().await? {
                    shim_message::Message::FileWritten(written) if written.id == id => {
                        return Ok::<_, super::pod::Gone>(written.error);
                    }
                    older => line.pass_over(older).await?,
                }
            }
        };
        match answered.await {
            Ok(error) => Ok(error),
            Err(super::pod::Gone) => Err(self.run.pod.lose(&shim.container).await),
        }
    }

    /// Writes a file on a shared volume; the answer is empty or says what is wrong.
    fn write_here(&self, path: &str, content: &str, mode: u32) -> String {
        let path = &resolve(std::path::Path::new(DEFAULT_BASE), path);
        if !Volumes::is_shared(path) {
            return "only /data, /testkube and /tmp can be written before the first step"
                .to_owned();
        }
        let Some((folder, rest)) = self.run.volumes.shared(path) else {
            return "it is on no shared folder".to_owned();
        };
        let written = file::write_beneath(&folder, &rest, content.as_bytes(), mode);
        written.err().unwrap_or_default()
    }

    pub(super) async fn process(&self, process: &Process) -> Result<(), Failure> {
        let shim = self.shim(process.container).await?;
        let request = self.request(process, &shim).await?;
        self.follow(process.container, &shim, request, &mut |_| {})
            .await
    }

    /// Runs a process to its end; `heard` gets what it prints.
    pub(super) async fn follow(
        &self,
        container: usize,
        shim: &Shim,
        request: wire::Run,
        heard: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let followed =
            process::follow(self.run, shim, request, self.limits, self.step, heard).await;
        let (ended, stopped) = match followed {
            Ok(followed) => followed,
            Err(process::Error::Gone) => {
                let lost = self.run.pod.lose(&shim.container).await;
                let lost = self.with_limit(container, lost);
                // A timeout or cancel that took the whole container is still that.
                return Err(match self.limits.cause() {
                    Some(cause) => Failure::stopped(&cause, self.step),
                    None => lost,
                });
            }
            Err(process::Error::Log(error)) => {
                let text = format!("the log can not be written: {error}");
                return Err(Failure {
                    kind: Kind::Aborted,
                    ..Failure::new("LOG", text)
                });
            }
        };
        match (judge(&ended), stopped) {
            (Ok(()), None) => Ok(()),
            // A service that is not needed any more has done what it was for.
            (_, Some(Cause::Cancel(cancel))) if cancel.outcome == wire::Outcome::Passed => Ok(()),
            (judged, Some(cause)) => Err(Failure {
                exit_code: judged.err().and_then(|failure| failure.exit_code),
                ..Failure::stopped(&cause, self.step)
            }),
            (Err(failure), None) => Err(failure),
        }
    }

    /// The shim of a container of the plan; a timeout counts while it is awaited.
    pub(super) async fn shim(&self, index: usize) -> Result<Arc<Shim>, Failure> {
        let name = self.container(index)?;
        tokio::select! {
            biased;
            shim = self.run.pod.shim(name) => shim.map_err(|lost| self.with_limit(index, lost)),
            cause = self.limits.reached() => Err(Failure::stopped(&cause, self.step)),
        }
    }

    /// Names the memory limit of the plan, which the cluster does not tell.
    fn with_limit(&self, index: usize, mut failure: Failure) -> Failure {
        let container = self.run.plan.containers.get(index);
        let limit = container.and_then(|container| container.resources.limits.get("memory"));
        if let Some(limit) = limit
            && failure.reason == "OUT_OF_MEMORY"
            && !failure.message.contains(limit)
        {
            failure.message.push_str(&format!("; its limit is {limit}"));
        }
        failure
    }

    pub(super) fn container(&self, index: usize) -> Result<&str, Failure> {
        let container = self.run.plan.containers.get(index);
        container
            .map(|container| container.name.as_str())
            .ok_or_else(|| {
                Failure::new(
                    "PLAN",
                    format!("the plan has no container {index}: a defect of the compiler"),
                )
            })
    }

    async fn request(&self, process: &Process, shim: &Arc<Shim>) -> Result<wire::Run, Failure> {
        let (mut around, lines) = self.with_variables(Some(shim), &process.env).await?;
        let mut working_dir = String::new();
        if let Some(directory) = &process.working_dir {
            working_dir = self.inside("workingDir", directory, &around).await?;
            around.enter(&working_dir);
        }
        let (argv, script) = match &process.command {
            Command::Shell { script } => {
                let script = self.inside("shell", script, &around).await?;
                (Vec::new(), Some(script))
            }
            Command::Exec { command, args } => {
                let command = command.as_deref().unwrap_or_default();
                let command = self.all_of_process("command", command, &around).await?;
                let args = match args {
                    Some(args) => Some(self.all_of_process("args", args, &around).await?),
                    None => None,
                };
                let argv = self.argv(process.container, command, args)?;
                // References are resolved: nothing is left for the shim to find.
                (
                    argv.iter().map(|word| reference::escape(word)).collect(),
                    None,
                )
            }
        };
        Ok(wire::Run {
            id: 0,
            argv,
            script,
            environment: lines,
            working_dir,
        })
    }

    /// Program and arguments as Kubernetes puts them together with the image's.
    fn argv(
        &self,
        container: usize,
        command: Vec<String>,
        args: Option<Vec<String>>,
    ) -> Result<Vec<String>, Failure> {
        if !command.is_empty() {
            return Ok([command, args.unwrap_or_default()].concat());
        }
        let name = self.container(container)?;
        let cure = "give `command` to do without the image's ENTRYPOINT";
        let Some(image) = self.run.image_configs.get(name) else {
            let text = format!("there is no image config here: {cure}");
            return Err(Failure::new("IMAGE_CONFIG", text));
        };
        if !image.error.is_empty() {
            let text = match image.error.contains("command") {
                true => image.error.clone(),
                false => format!("{}; {cure}", image.error),
            };
            return Err(Failure::new("IMAGE_CONFIG", text));
        }
        let args = args.unwrap_or_else(|| image.cmd.clone());
        let argv = [image.entrypoint.clone(), args].concat();
        if argv.is_empty() {
            let text = "the image has neither ENTRYPOINT nor CMD: give `command`";
            return Err(Failure::new("IMAGE_CONFIG", text));
        }
        Ok(argv)
    }
}

/// Whether a process passed.
fn judge(ended: &Ended) -> Result<(), Failure> {
    let exited = match ended {
        Ended::NotStarted { reason, message } => return Err(Failure::new(reason, message)),
        Ended::Exited(exited) => exited,
    };
    if exited.code == Some(0) {
        return Ok(());
    }
    let how = match (exited.code, exited.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => format!("ended by {}", signal::name(number)),
        (None, None) => "ended in an unknown way".to_owned(),
    };
    let failure = if exited.out_of_memory {
        let limit = match exited.memory_limit {
            0 => "its memory limit".to_owned(),
            limit => format!("the memory limit of {} MiB", limit >> 20),
        };
        Failure::new(
            "OUT_OF_MEMORY",
            format!(
                "a process was killed because of {limit} ({how}); raise resources.limits.memory"
            ),
        )
    } else if exited.code.is_some() {
        Failure::new("EXIT_CODE", how)
    } else {
        Failure::new("SIGNAL", how)
    };
    Err(Failure {
        exit_code: exited.code,
        ..failure
    })
}

#[cfg(test)]
mod tests {
    use muster_proto::runner::v1::Exited;

    use super::*;

    #[test]
    fn a_process_is_judged_by_code_signal_and_memory() {
        let reason = |exited| judge(&Ended::Exited(exited)).map_err(|failure| failure.reason);
        let base = Exited::default();
        assert_eq!(
            reason(Exited {
                code: Some(0),
                ..base
            }),
            Ok(())
        );
        let code = Exited {
            code: Some(3),
            ..base
        };
        assert_eq!(reason(code), Err("EXIT_CODE".to_owned()));
        let signal = Exited {
            signal: Some(9),
            ..base
        };
        assert_eq!(reason(signal), Err("SIGNAL".to_owned()));
        let memory = Exited {
            code: Some(137),
            out_of_memory: true,
            memory_limit: 64 << 20,
            ..base
        };
        let failure = judge(&Ended::Exited(memory)).expect_err("it was killed");
        assert_eq!(failure.reason, "OUT_OF_MEMORY");
        assert!(failure.message.contains("64 MiB"), "{}", failure.message);
    }
}
