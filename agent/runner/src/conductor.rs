//! Mode `conductor`: the one brain of a run. It gets the plan from the agent, walks it, keeps
//! the log until it is durable, and ends only when its completion record is committed.
//!
//! The way of a run: `link` brings the plan; `pod` waits for shims; `walk` goes through the
//! steps; `spool` and `board` hold what happened until `link` has told it.

mod agent;
mod artifacts;
mod asked;
mod board;
mod children;
mod credential;
mod direct;
mod download;
mod durations;
mod git;
mod halt;
mod instruction;
mod launch;
mod link;
mod mask;
mod operation;
mod options;
mod outside;
mod pause;
mod pod;
mod process;
mod put;
mod scope;
mod spool;
mod surroundings;
mod tarball;
mod upload;
mod uri;
mod verdict;
mod walk;

use std::{collections::HashMap, io, process::ExitCode, rc::Rc, sync::Arc};

use muster_proto::runner::v1::{Completed, ImageConfig};
use muster_spec::plan::{PLAN_VERSION, Plan};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::{
    arguments::{Arguments, Itself},
    clock::now_ms,
    fail,
    volumes::Volumes,
};
use agent::Agent;
use board::Board;
use children::Children;
use credential::Credentials;
use direct::Direct;
use durations::Durations;
use halt::Halt;
use instruction::Outputs;
use mask::Secrets;
use options::Options;
use pod::Pod;
use spool::Spool;

/// All that the parts of a run share.
struct Run {
    plan: Plan,
    /// Display name of this execution; empty when the agent did not tell.
    name: String,
    options: Options,
    board: Arc<Board>,
    spool: Arc<Spool>,
    children: Arc<Children>,
    pod: Arc<Pod>,
    volumes: Volumes,
    agent: Arc<Agent>,
    direct: Rc<Direct>,
    image_configs: HashMap<String, ImageConfig>,
    /// What steps gave out.
    outputs: Rc<Outputs>,
    credentials: Credentials,
    /// How long values of shards take.
    durations: Durations,
    /// What is not to be shown.
    secrets: Arc<Secrets>,
    /// For modes of this program that run beside it.
    itself: Itself,
}

impl Run {
    /// UUID of this execution.
    fn execution_id(&self) -> String {
        let id = self
            .plan
            .context
            .get("resource")
            .and_then(|resource| resource.get("id"));
        id.and_then(|id| id.as_str()).unwrap_or_default().to_owned()
    }
}

pub(crate) fn main(arguments: Arguments, itself: Itself) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return fail::fail(error, ""),
    };
    match start(options, &itself) {
        Ok(code) => code,
        Err(error) => fail::end(error),
    }
}

fn start(options: Options, itself: &Itself) -> io::Result<ExitCode> {
    if options.die_with_parent {
        let kill = Some(rustix::process::Signal::KILL);
        rustix::process::set_parent_process_death_signal(kill)?;
    }
    let agent = Agent::from_environment()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    LocalSet::new().block_on(&runtime, conduct(options, Arc::new(agent), itself))
}

async fn conduct(options: Options, agent: Arc<Agent>, itself: &Itself) -> io::Result<ExitCode> {
    let volumes = options
        .sandbox
        .as_ref()
        .map_or_else(Volumes::in_place, Volumes::below);
    let halt = Halt::new(options.after_grace);
    let secrets = Arc::new(Secrets::default());
    secrets.add([agent.token().as_bytes()]);
    let spool = Arc::new(Spool::open(
        &options.spool_directory(),
        options.spool_limit,
        Arc::clone(&secrets),
    )?);
    let explained = options.sandbox.is_none();
    let pod = Pod::listen(&options.socket(), explained, Arc::clone(&secrets))?;
    let pod = Arc::new(pod);
    let accept = tokio::task::spawn_local(Arc::clone(&pod).accept());
    let terminate = tokio::task::spawn_local(heed_termination(halt.clone()));

    let Ok(first) = link::first(&agent, &spool).await else {
        return Ok(ExitCode::FAILURE);
    };
    let plan: Plan = serde_json::from_slice(&first.welcome.plan)?;
    if plan.version > PLAN_VERSION {
        return Err(io::Error::other(format!(
            "the plan has version {}, this runner knows {PLAN_VERSION}: update the runner",
            plan.version
        )));
    }
    let plan = match options.sandbox {
        Some(_) => launch::with_volumes(plan),
        None => plan,
    };
    let volumes = volumes.with_folders(&plan.pod.folders);
    volumes.make_folders()?;
    let image_configs = first.welcome.image_configs.clone();
    let name = first.welcome.display_name.clone();
    spool.set_longest(first.welcome.max_log);
    let direct = Rc::new(Direct::new(first.welcome.direct_from));
    // Before the first step: a run may begin paused.
    if let Some(pause) = &first.welcome.pause {
        halt.pause.order(pause.sequence, pause.paused);
    }
    secrets.add(plan.masked.iter().map(String::as_bytes));
    pod.know_secrets(&plan);
    let board = Arc::new(Board::new(&plan, Arc::clone(&secrets)));
    let children_known = Arc::new(Children::new());
    let parts = link::Parts {
        children: Arc::clone(&children_known),
        agent: Arc::clone(&agent),
        spool: Arc::clone(&spool),
        board: Arc::clone(&board),
        pod: Arc::clone(&pod),
        halt: halt.clone(),
        end: link::End::default(),
    };
    let end = parts.end.clone();
    let paused = tokio::task::spawn_local(show_pauses(halt.clone(), Arc::clone(&board)));
    let linked = tokio::task::spawn_local(link::keep(parts, first));
    let children = launch::start(&options, &plan, itself, &spool, &pod).await;
    let run = Rc::new(Run {
        plan,
        name,
        options,
        board,
        spool,
        children: children_known,
        pod: Arc::clone(&pod),
        volumes,
        agent,
        direct,
        image_configs,
        outputs: Rc::default(),
        credentials: Credentials::new(Arc::clone(&secrets)),
        durations: Durations::default(),
        secrets,
        itself: itself.clone(),
    });
    let code = tokio::select! {
        ended = walk::walk(Rc::clone(&run), halt.clone()) => {
            end.set(complete(&run, ended));
            match linked.await {
                Ok(Ok(())) => ExitCode::SUCCESS,
                Ok(Err(link::Refused)) | Err(_) => ExitCode::FAILURE,
            }
        }
        // The attempt is lost: nothing of it may go on.
        () = halt.lost() => ExitCode::FAILURE,
    };
    terminate.abort();
    paused.abort();
    pod.dismiss().await;
    launch::end(children).await;
    accept.abort();
    Ok(code)
}

/// Hears SIGTERM for the whole run.
async fn heed_termination(halt: Halt) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    while terminate.recv().await.is_some() {
        halt.interrupt();
    }
}

/// Keeps the board true to pauses.
async fn show_pauses(halt: Halt, board: Arc<Board>) {
    loop {
        halt.pause.until(true).await;
        board.pause();
        halt.pause.until(false).await;
        board.resume();
    }
}

fn complete(run: &Run, ended: walk::Ended) -> Completed {
    run.board.finish();
    run.spool.end();
    let (log_size, log_sha256) = run.spool.digest();
    Completed {
        outcome: ended.outcome.into(),
        reason: ended.reason,
        message: run.secrets.text(&ended.message),
        log_size,
        log_sha256: log_sha256.into(),
        finish_time_ms: now_ms(),
        progress: Some(run.board.snapshot()),
    }
}
