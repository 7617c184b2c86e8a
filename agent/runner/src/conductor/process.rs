//! Following one process in a shim: its output to the log, signals when it has to end.

use std::{io, rc::Rc, time::Duration};

use muster_proto::runner::v1::{
    self as wire, Exited, LogStream, Output, Signal, StepOutput, shim_message::Message,
    shim_request,
};
use tokio::time::{Instant, sleep_until};

use super::{
    Run,
    children::watch_service,
    halt::{Cause, Limits},
    instruction::Filter,
    mask::{Mask, Secrets},
    pod::{Gone, Line, Shim},
};
use crate::credit;

const TERM: i32 = 15;
const KILL: i32 = 9;
const STOP: i32 = 19;
const CONT: i32 = 18;
/// How long a killed process may take to be gone; one that hangs in the kernel never is.
const UNKILLABLE: Duration = Duration::from_secs(30);

/// How a process ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It never ran.
    NotStarted { reason: String, message: String },
    /// It ran.
    Exited(Exited),
}

/// Why its end is not known.
#[derive(Debug)]
pub(super) enum Error {
    /// The shim is gone.
    Gone,
    /// The log can not be written.
    Log(io::Error),
}

impl From<Gone> for Error {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

/// Stops and continues a process with the run, and ends it step by step: SIGTERM, grace, SIGKILL.
struct Stopper<'a> {
    run: &'a Run,
    limits: &'a Limits,
    id: u64,
    cause: Option<Cause>,
    kill_at: Option<Instant>,
    killed: Option<Instant>,
    /// It stands still.
    paused: bool,
}

/// What a stopper wants done now.
enum Urge {
    Pause(bool),
    Stop(Cause),
    Kill,
    GiveUp,
}

impl Stopper<'_> {
    /// Waits until something is to be done.
    async fn urge(&self) -> Urge {
        tokio::select! {
            biased;
            urge = self.end() => urge,
            paused = self.pause() => Urge::Pause(paused),
        }
    }

    /// Waits until it has to stand still, or to go on. What has to end is not kept from it.
    async fn pause(&self) -> bool {
        let wanted = !self.paused;
        match (&self.cause, wanted) {
            (Some(_), true) => std::future::pending().await,
            (Some(_), false) => {}
            (None, wanted) => self.limits.pause().until(wanted).await,
        }
        wanted
    }

    /// Waits until something has to be done to end it.
    async fn end(&self) -> Urge {
        if let Some(killed) = self.killed {
            sleep_until(killed + UNKILLABLE).await;
            return Urge::GiveUp;
        }
        let Some(kill_at) = self.kill_at else {
            return Urge::Stop(self.limits.reached().await);
        };
        tokio::select! {
            () = sleep_until(kill_at) => Urge::Kill,
            () = self.limits.forced() => Urge::Kill,
        }
    }

    async fn obey(&mut self, urge: Urge, line: &mut Line) -> Result<(), Gone> {
        let signal = match urge {
            Urge::Pause(paused) => {
                self.paused = paused;
                if paused { STOP } else { CONT }
            }
            Urge::Stop(cause) => {
                let force = matches!(&cause, Cause::Cancel(cancel) if cancel.force);
                self.cause = Some(cause);
                self.killed = force.then(Instant::now);
                self.kill_at = Some(Instant::now() + self.run.options.grace);
                if force { KILL } else { TERM }
            }
            Urge::Kill => {
                self.killed = Some(Instant::now());
                KILL
            }
            Urge::GiveUp => return Err(Gone),
        };
        self.signal(signal, line).await
    }

    async fn signal(&self, signal: i32, line: &mut Line) -> Result<(), Gone> {
        let id = self.id;
        line.say(shim_request::Message::Signal(Signal { id, signal }))
            .await
    }
}

/// What stands between a process and the log: instructions are taken out, secrets are masked. Each may
/// hold bytes back that wait for those behind them.
struct Sieve<'a> {
    instructions: Filter,
    stdout: Mask<'a>,
    stderr: Mask<'a>,
}

impl<'a> Sieve<'a> {
    fn new(secrets: &'a Secrets) -> Self {
        Self {
            instructions: Filter::new(),
            stdout: Mask::new(secrets),
            stderr: Mask::new(secrets),
        }
    }

    /// What is left of output, for the log.
    async fn pass(&mut self, run: &Run, step: &str, output: Output) -> Output {
        if output.stream() == LogStream::Stderr {
            let data = self.stderr.pass(output.data);
            return Output { data, ..output };
        }
        let output = without_instructions(run, step, output, &mut self.instructions).await;
        let data = self.stdout.pass(output.data);
        Output { data, ..output }
    }

    /// Nothing follows: writes what was held back into the log.
    fn end(&mut self, run: &Run, step: &str) -> io::Result<()> {
        let mut stdout = self.stdout.pass(self.instructions.end().into()).to_vec();
        stdout.extend(self.stdout.end());
        run.spool.append_rest(LogStream::Stdout, step, &stdout)?;
        let stderr = self.stderr.end();
        run.spool.append_rest(LogStream::Stderr, step, &stderr)
    }
}

/// Runs a process to its end; `heard` gets its output too. The cause is there when it was made to
/// end.
pub(super) async fn follow(
    run: &Rc<Run>,
    shim: &Shim,
    request: wire::Run,
    limits: &Limits,
    step: &str,
    heard: &mut dyn FnMut(&[u8]),
) -> Result<(Ended, Option<Cause>), Error> {
    let mut sieve = Sieve::new(&run.secrets);
    let ended = watch(run, shim, request, limits, step, heard, &mut sieve).await;
    let rest = match ended {
        // The disk is full, and the process was killed for it.
        Err(Error::Log(_)) => Ok(()),
        _ => sieve.end(run, step),
    };
    match (ended, rest) {
        (Ok(_), Err(error)) => Err(Error::Log(error)),
        (ended, _) => ended,
    }
}

async fn watch(
    run: &Rc<Run>,
    shim: &Shim,
    mut request: wire::Run,
    limits: &Limits,
    step: &str,
    heard: &mut dyn FnMut(&[u8]),
    sieve: &mut Sieve<'_>,
) -> Result<(Ended, Option<Cause>), Error> {
    let mut line = shim.line.lock().await;
    limits.unpaused().await;
    line.last_id += 1;
    let id = line.last_id;
    request.id = id;
    line.say(shim_request::Message::Run(request)).await?;
    let mut stopper = Stopper {
        run,
        limits,
        id,
        cause: None,
        kill_at: None,
        killed: None,
        paused: false,
    };
    // Why the log can not be written; the process is killed then and its output dropped.
    let mut broken = None;
    // When a service counts as ready.
    let mut steady = None;
    loop {
        let message = tokio::select! {
            message = line.hear() => message?,
            () = sleep_until(steady.unwrap_or_else(Instant::now)), if steady.is_some() => {
                steady = None;
                run.board.ready();
                continue;
            }
            urge = stopper.urge() => {
                stopper.obey(urge, &mut line).await?;
                continue;
            }
        };
        match message {
            Message::Output(output) if output.id == id => {
                heard(&output.data);
                let size = output.data.len();
                let output = sieve.pass(run, step, output).await;
                if broken.is_none()
                    && let Err(error) = keep(run, step, &output, &mut stopper, &mut line).await
                {
                    let Error::Log(error) = error else {
                        return Err(error);
                    };
                    broken = Some(error);
                    stopper.killed = Some(Instant::now());
                    stopper.signal(KILL, &mut line).await?;
                }
                line.grant(credit::cost(size)).await?;
            }
            Message::Started(started) if started.id == id && !started.error.is_empty() => {
                let ended = Ended::NotStarted {
                    reason: started.reason,
                    message: started.error,
                };
                return Ok((ended, stopper.cause));
            }
            Message::Started(started) if started.id == id => {
                steady = watch_service(run, &shim.container);
            }
            Message::Exited(exited) if exited.id == id => {
                if let Some(error) = broken {
                    return Err(Error::Log(error));
                }
                let cause = match stopper.cause {
                    None if exited.terminated => limits.interrupt(),
                    cause => cause,
                };
                return Ok((Ended::Exited(exited), cause));
            }
            older => line.pass_over(older).await?,
        }
    }
}

/// Takes instructions out of what a process printed, and keeps what they give out.
async fn without_instructions(
    run: &Run,
    step: &str,
    output: Output,
    filter: &mut Filter,
) -> Output {
    let mut untold = Vec::new();
    let data = filter.pass(&output.data, &mut |instruction| {
        let kept = run.outputs.set(&instruction);
        let told = kept
            && run.board.output(StepOutput {
                step: step.to_owned(),
                name: instruction.name.clone(),
                json: instruction.json,
            });
        if !told {
            untold.push((instruction.name, kept));
        }
        kept
    });
    for (name, kept) in untold {
        let text = match kept {
            true => {
                format!("output {name}: known here, but too large to be stored with the others")
            }
            false => format!("output {name}: there is no room for more"),
        };
        run.spool.remark(step, &text).await;
    }
    Output {
        data: data.into(),
        ..output
    }
}

/// Appends output to the log. While the log is full a process can still be made to end.
async fn keep(
    run: &Run,
    step: &str,
    output: &Output,
    stopper: &mut Stopper<'_>,
    line: &mut Line,
) -> Result<(), Error> {
    if output.data.is_empty() {
        return Ok(());
    }
    let stream = match output.stream() {
        LogStream::Stderr => LogStream::Stderr,
        _ => LogStream::Stdout,
    };
    let append = run.spool.append(stream, step, &output.data);
    tokio::pin!(append);
    loop {
        tokio::select! {
            biased;
            appended = &mut append => {
                appended.map_err(Error::Log)?;
                break;
            }
            // A killed process may be gone already: its end is behind the output that waits here.
            urge = stopper.urge(), if stopper.killed.is_none() => stopper.obey(urge, line).await?,
        }
    }
    if let Some(killed) = &mut stopper.killed {
        *killed = Instant::now();
    }
    Ok(())
}
