//! Starting shims as children, where there is no cluster to start their containers.

use std::{
    collections::BTreeSet, env, fs, os::unix::process::ExitStatusExt as _, path::Path,
    process::Stdio, sync::Arc, time::Duration,
};

use muster_proto::runner::v1::ContainerStatus;
use muster_spec::plan::{Container, Operation, Plan, Step};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

use super::{children::PROBE, options::Options, pod::Pod, spool::Spool};
use crate::{
    arguments::Itself,
    fail, sandbox,
    volumes::{SHARED, normal},
};

/// How long children may take to end when there is nothing more to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most folders that a sandbox is told of: its command line has limits.
const PLACES: usize = 256;

/// The shims, each with a task that waits for its end.
pub(super) type Children = JoinSet<()>;

/// Starts a shim for each container of the plan; none when a cluster does that.
pub(super) async fn start(
    options: &Options,
    plan: &Plan,
    itself: &Itself,
    spool: &Spool,
    pod: &Arc<Pod>,
) -> Children {
    let Some(root) = &options.sandbox else {
        return JoinSet::new();
    };
    let report = root.join("muster/sandbox-report");
    let mut namespaces = options.namespaces;
    let mut children = JoinSet::new();
    let containers = plan.containers.iter();
    let containers = containers.map(|container| (container.name.clone(), container));
    let containers: Vec<_> = containers.chain(probe_container(plan)).collect();
    let places = places(&plan.steps);
    let places = places.iter().take(PLACES);
    let places: Vec<&str> = places.flat_map(|path| ["--place", path]).collect();
    for (name, container) in &containers {
        loop {
            let mut command = Command::from(itself.command("sandbox"));
            command.arg("--root").arg(root).arg("--report").arg(&report);
            if namespaces {
                command
                    .args(ids(container))
                    .args(["--layer", name])
                    .args(&places);
            } else {
                command.arg("--no-namespaces");
            }
            let folders = plan.pod.folders.iter();
            let folders: Vec<&str> = folders.flat_map(|path| ["--folder", path]).collect();
            command
                .args(&folders)
                .args(["--", "shim", "--container", name, "--prefer-bash"])
                .args(&folders)
                .env_clear()
                .envs(environment())
                .stdin(Stdio::null())
                .kill_on_drop(true);
            match command.spawn() {
                Ok(mut child) => {
                    if children.is_empty() && refused(&mut child, pod, name).await {
                        let why = fs::read_to_string(&report).unwrap_or_default();
                        let text = format!("{NOT_ISOLATED}: {}", why.trim());
                        spool.remark("", &text).await;
                        if std::mem::take(&mut namespaces) {
                            continue;
                        }
                    }
                    children.spawn_local(watch(child, name.clone(), Arc::clone(pod)));
                }
                Err(error) => {
                    let text = format!("{name} can not be started: {error}");
                    spool.remark("", &text).await;
                    pod.status(ContainerStatus {
                        container: name.clone(),
                        terminal: true,
                        reason: "StartError".to_owned(),
                        message: text,
                        exit_code: None,
                    });
                }
            }
            break;
        }
    }
    if !options.namespaces {
        spool.remark("", NOT_ISOLATED).await;
    }
    if let Some(remark) = fs::read_to_string(&report)
        .ok()
        .filter(|text| namespaces && !text.is_empty())
    {
        spool.remark("", remark.trim()).await;
    }
    children
}

/// Name of the container in which a service's probe runs, when that is a program.
fn probe_container(plan: &Plan) -> Option<(String, &Container)> {
    let probe = plan.service.as_ref()?.readiness_probe.as_ref()?;
    probe.get("exec")?;
    let container = plan.containers.get(plan.service_container()?)?;
    Some((format!("{}{PROBE}", container.name), container))
}

/// Folders in which the plan writes files or works, as far as they are known: absolute and normal.
fn places(steps: &[Step]) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let mut add = |path: Option<&Path>| {
        let path = path.map(normal).filter(|path| path.is_absolute());
        let text = path.and_then(|path| path.into_os_string().into_string().ok());
        places.extend(text.filter(|text| !text.contains("{{")));
    };
    let mut inner = Vec::new();
    for operation in steps.iter().flat_map(|step| &step.operations) {
        match operation {
            Operation::Files { files, .. } => files
                .iter()
                .for_each(|file| add(Path::new(&file.path).parent())),
            Operation::Run(run) => add(run.working_dir.as_deref().map(Path::new)),
            Operation::Steps { steps } => inner.push(steps),
            Operation::Delay { .. }
            | Operation::Git(_)
            | Operation::Tarball { .. }
            | Operation::Services { .. }
            | Operation::Parallel(_)
            | Operation::Execute(_)
            | Operation::Receive { .. }
            | Operation::Send { .. }
            | Operation::Artifacts(_) => {}
        }
    }
    for steps in inner {
        places.extend(self::places(steps));
    }
    places
}

/// User and group of a container's security context, for its sandbox.
fn ids(container: &Container) -> Vec<String> {
    let context = container.security_context.as_ref();
    let id = |name: &str| context?.get(name)?.as_u64();
    let pairs = [("--user", id("runAsUser")), ("--group", id("runAsGroup"))];
    let given = pairs.into_iter();
    given
        .filter_map(|(name, id)| Some([name.to_owned(), id?.to_string()]))
        .flatten()
        .collect()
}

/// The plan with the empty volumes of its pod as folders of its own: a machine has no others.
pub(super) fn with_volumes(mut plan: Plan) -> Plan {
    let volumes = plan.pod.spec.get("volumes").and_then(Value::as_array);
    let empty: Vec<&str> = volumes
        .into_iter()
        .flatten()
        .filter(|volume| volume.get("emptyDir").is_some())
        .filter_map(|volume| volume.get("name")?.as_str())
        .collect();
    let mounts = plan.containers.iter();
    let mounts = mounts.flat_map(|container| &container.volume_mounts);
    let paths = mounts.filter_map(|mount| {
        let name = mount.get("name")?.as_str()?;
        let path = mount.get("mountPath")?.as_str()?.trim_end_matches('/');
        (empty.contains(&name) && path.len() > 1).then(|| path.to_owned())
    });
    let mut folders: Vec<String> = paths.chain(plan.pod.folders.iter().cloned()).collect();
    folders.retain(|folder| !SHARED.iter().any(|(shared, _)| folder == shared));
    folders.sort();
    folders.dedup();
    plan.pod.folders = folders;
    plan
}

/// What does not hold without namespaces.
const NOT_ISOLATED: &str = "steps run without namespaces: /data, /testkube and /tmp of the \
    workflow are not at these paths for scripts, and files and processes of the machine are in \
    reach; allow user namespaces on this machine to keep them apart";

/// Waits for the end of a shim and tells it as a cluster would.
async fn watch(mut child: Child, container: String, pod: Arc<Pod>) {
    let status = child.wait().await.ok();
    let code = status.and_then(|status| {
        let signaled = || status.signal().map(|signal| 128 + signal);
        status.code().or_else(signaled)
    });
    pod.status(ContainerStatus {
        container,
        terminal: true,
        reason: "Error".to_owned(),
        message: "its process ended".to_owned(),
        exit_code: Some(code.unwrap_or(-1)),
    });
}

/// Waits for a shim, or for the word that the kernel does not allow its sandbox.
async fn refused(child: &mut Child, pod: &Pod, container: &str) -> bool {
    tokio::select! {
        status = child.wait() => status.is_ok_and(|status| status.code() == Some(sandbox::REFUSED)),
        _ = pod.shim(container) => false,
    }
}

/// What a step sees of this machine's environment: how to find programs, and nothing secret.
fn environment() -> Vec<(String, String)> {
    let kept = ["PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME"];
    let mut all: Vec<_> = kept
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
        .collect();
    all.push(("HOME".to_owned(), "/tmp".to_owned()));
    all.push(("TERM".to_owned(), "dumb".to_owned()));
    all
}

/// Waits for the children, and kills those that do not end.
pub(super) async fn end(mut children: Children) {
    let all = async { while children.join_next().await.is_some() {} };
    if timeout(PATIENCE, all).await.is_err() {
        fail::say("a shim does not end; it is killed");
        children.shutdown().await;
    }
}
