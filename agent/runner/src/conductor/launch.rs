//! Starting shims as children, where there is no cluster to start their containers.

use std::{env, fs, process::Stdio, time::Duration};

use muster_spec::plan::Plan;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{options::Options, pod::Pod, spool::Spool};
use crate::{arguments::Itself, fail, sandbox};

/// How long children may take to end when there is nothing more to do.
const PATIENCE: Duration = Duration::from_secs(5);

/// The shims.
pub(super) type Children = Vec<Child>;

/// Starts a shim for each container of the plan; none when a cluster does that.
pub(super) async fn start(
    options: &Options,
    plan: &Plan,
    itself: &Itself,
    spool: &Spool,
    pod: &Pod,
) -> Children {
    let Some(root) = &options.sandbox else {
        return Vec::new();
    };
    let report = root.join("muster/sandbox-report");
    let mut namespaces = options.namespaces;
    let mut children = Vec::new();
    for container in &plan.containers {
        loop {
            let mut command = Command::from(itself.command("sandbox"));
            command.arg("--root").arg(root).arg("--report").arg(&report);
            if !namespaces {
                command.arg("--no-namespaces");
            }
            command
                .args([
                    "--",
                    "shim",
                    "--container",
                    &container.name,
                    "--prefer-bash",
                ])
                .env_clear()
                .envs(environment())
                .stdin(Stdio::null())
                .kill_on_drop(true);
            match command.spawn() {
                Ok(mut child) => {
                    if children.is_empty() && refused(&mut child, pod, &container.name).await {
                        let why = fs::read_to_string(&report).unwrap_or_default();
                        let text = format!(
                            "this machine does not allow namespaces ({}): /data, /testkube and /tmp \
                             of the workflow are not at these paths, use relative paths",
                            why.trim()
                        );
                        spool.remark("", &text).await;
                        if std::mem::take(&mut namespaces) {
                            continue;
                        }
                    }
                    children.push(child);
                }
                Err(error) => {
                    let text = format!("{} can not be started: {error}", container.name);
                    spool.remark("", &text).await;
                }
            }
            break;
        }
    }
    if let Some(remark) = fs::read_to_string(&report)
        .ok()
        .filter(|text| namespaces && !text.is_empty())
    {
        spool.remark("", remark.trim()).await;
    }
    children
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
pub(super) async fn end(children: Children) {
    for mut child in children {
        if timeout(PATIENCE, child.wait()).await.is_err()
            && let Err(error) = child.kill().await
        {
            fail::say(format_args!("a shim can not be ended: {error}"));
        }
    }
}
