//! Starting shims as children, where there is no cluster to start their containers.

use std::{env, process::Stdio, time::Duration};

use muster_spec::plan::Plan;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{options::Options, spool::Spool};
use crate::{
    arguments::Itself,
    fail,
    sandbox::{self, Level},
};

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
) -> Children {
    let Some(root) = &options.sandbox else {
        return Vec::new();
    };
    let level = if options.namespaces {
        sandbox::strongest(root, itself).await
    } else {
        Level::None
    };
    if let Some(remark) = level.remark() {
        spool.remark("", remark).await;
    }
    let mut children = Vec::new();
    for container in &plan.containers {
        let mut command = Command::from(sandbox::command(itself, root, level));
        command
            .args(["shim", "--container", &container.name, "--prefer-bash"])
            .env_clear()
            .envs(environment())
            .stdin(Stdio::null())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        match command.spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                fail::say(format_args!("a shim can not be started: {error}"));
                let text = format!(
                    "the process for {} can not be started: {error}",
                    container.name
                );
                spool.remark("", &text).await;
            }
        }
    }
    children
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
