//! Fetching a repository: git runs in a container that has it, credentials reach it by its
//! environment alone, and what may pass is tried again.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_proto::runner::v1 as wire;
use muster_spec::plan::Git;

use super::{
    operation::{At, DEFAULT_BASE, Failure, Kind},
    surroundings::Surroundings,
    uri::Uri,
};
use crate::volumes::{SHARED, is_placeable, resolve};

/// What runs in the container, with the credentials.
const SCRIPT: &str = include_str!("git/fetch.sh");
/// What that one becomes when it has fetched, without them.
const CHECKOUT: &str = include_str!("git/checkout.sh");
/// Exit code of both when trying again is of no use.
const HOPELESS: i32 = 91;
/// Wait before the second try; it doubles with each one. A rule of the language.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How much of git's last words is told.
const LAST_WORDS: usize = 1000;
/// User name when there is a token alone: what hosts of repositories take for any token.
const TOKEN_USER: &str = "x-access-token";
/// Shortest text that is masked in git's words; shorter ones would mask anything.
const SHORTEST_SECRET: usize = 4;

impl At<'_> {
    /// Fetches a repository.
    pub(super) async fn git(&self, git: &Git) -> Result<(), Failure> {
        self.place(&git.path)?;
        let shim = self.shim(git.container).await?;
        let own = self.around(Some(&shim)).await?;
        let values = match git.values {
            Some(index) => self.around(Some(&self.shim(index).await?)).await?,
            None => own.clone(),
        };
        let mut order = self.order(git, &own, &values).await?;
        let (base, folder) = self.mount(git);
        order.tell("FETCH_FOLDER", &folder);
        order.tell("FETCH_CHECKOUT", CHECKOUT);
        let mut delay = FIRST_DELAY;
        for tried in 0..=git.retries {
            let mut words = LastWords::default();
            let request = wire::Run {
                id: 0,
                argv: Vec::new(),
                script: Some(SCRIPT.to_owned()),
                environment: order.environment.clone(),
                working_dir: base.clone(),
            };
            let fetched = self
                .follow(git.container, &shim, request, &mut |data| words.hear(data))
                .await;
            let Err(failure) = fetched else {
                return Ok(());
            };
            let told = order.mask(&words.text());
            let last = tried == git.retries || failure.exit_code == Some(HOPELESS);
            if last || failure.kind != Kind::Failed || failure.reason != "EXIT_CODE" {
                return Err(explain(failure, &order.shown, &told));
            }
            let text = format!(
                "{} can not be fetched; try {} of {} in {delay:?}",
                order.shown,
                tried + 2,
                git.retries + 1
            );
            self.run.spool.remark(self.step, &text).await;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
        Ok(())
    }

    /// Fails when steps would not see a folder of the plan.
    pub(super) fn place(&self, path: &str) -> Result<(), Failure> {
        let folders = &self.run.plan.pod.folders;
        let here = self.run.options.sandbox.is_some();
        let folder = folders.iter().find(|folder| *folder == path);
        match folder.map(Path::new) {
            Some(folder) if here && !is_placeable(folder, folders) => Err(Failure::new(
                "FOLDER",
                format!(
                    "{path} is not on this machine and can not be made here; use a folder below /data"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The folder that a volume is mounted at, which no step can turn into a link, and the path of
    /// the repository in it.
    fn mount(&self, git: &Git) -> (String, String) {
        let path = resolve(Path::new(DEFAULT_BASE), &git.path);
        let container = self.run.plan.containers.get(git.container);
        let mounts = container.into_iter().flat_map(|one| &one.volume_mounts);
        let mounts = mounts.filter_map(|mount| mount.get("mountPath")?.as_str());
        let shared = SHARED.iter().map(|(path, _)| *path);
        let folders = self.run.plan.pod.folders.iter().map(String::as_str);
        let all = shared.chain(folders).chain(mounts).map(Path::new);
        let base = all
            .filter(|mount| mount.is_absolute() && path.starts_with(mount))
            .max_by_key(|mount| mount.components().count());
        let base = base.unwrap_or_else(|| Path::new("/"));
        let rest = path.strip_prefix(base).unwrap_or(&path);
        (base.display().to_string(), rest.display().to_string())
    }

    /// What the scripts are told.
    async fn order(
        &self,
        git: &Git,
        own: &Surroundings,
        values: &Surroundings,
    ) -> Result<Order, Failure> {
        let secret = async |what: &str, text: &Option<String>, around: &Surroundings| match text {
            Some(text) => {
                let what = format!("content.git.{what}");
                self.inside(&what, text, around).await
            }
            None => Ok(String::new()),
        };
        let uri = Uri::parse(&self.template("content.git.uri", &git.uri, own).await?);
        let uri = uri.map_err(|error| Failure::new("GIT", error))?;
        let revision = match &git.revision {
            Some(text) => self.template("content.git.revision", text, own).await?,
            None => String::new(),
        };
        let paths = self.templates("content.git.paths", &git.paths, own).await?;
        if revision.starts_with('-')
            || [&paths.join(""), &revision]
                .iter()
                .any(|t| t.contains(['\n', '\0']))
        {
            let text =
                "a revision does not begin with '-', and neither it nor a path has line breaks";
            return Err(Failure::new("GIT", text));
        }
        let username = secret("username", &git.username, values).await?;
        let token = secret("token", &git.token, values).await?;
        let ssh_key = secret("sshKey", &git.ssh_key, values).await?;
        let (username, token) = uri.credentials(username.trim(), token.trim());
        let mut order = Order {
            environment: Vec::new(),
            shown: uri.shown(),
            secrets: [vec![token.clone()], uri.secrets()].concat(),
        };
        order.tell("FETCH_URI", &uri.plain);
        order.tell("FETCH_REVISION", revision.trim());
        order.tell("FETCH_PATHS", &paths.join("\n"));
        order.tell("FETCH_CONE", if git.cone { "--cone" } else { "--no-cone" });
        order.tell("FETCH_VERBOSE", if git.verbose { "1" } else { "" });
        order.tell("FETCH_SSH_KEY", ssh_key.trim());
        // The first one takes away helpers that the machine's own settings name.
        let mut settings = vec![("credential.helper".to_owned(), String::new())];
        if let Some(origin) = &uri.origin
            && !(token.is_empty() && username.is_empty())
        {
            let header = if git.bearer {
                format!("Authorization: Bearer {token}")
            } else {
                let user = if username.is_empty() {
                    TOKEN_USER
                } else {
                    &username
                };
                let pair = STANDARD.encode(format!("{user}:{token}"));
                order.secrets.push(pair.clone());
                format!("Authorization: Basic {pair}")
            };
            settings.push((format!("http.{origin}/.extraHeader"), header));
            // git would send the header to wherever it is led.
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
            order.tell("FETCH_NO_REDIRECT", "1");
        }
        order.tell("GIT_CONFIG_COUNT", &settings.len().to_string());
        for (index, (name, value)) in settings.iter().enumerate() {
            order.tell(&format!("GIT_CONFIG_KEY_{index}"), name);
            order.tell(&format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        Ok(order)
    }
}

/// What is told to the script.
struct Order {
    environment: Vec<String>,
    /// The repository without credentials, for people.
    shown: String,
    secrets: Vec<String>,
}

impl Order {
    /// Adds a variable. A shim would take `$(NAME)` for a reference.
    fn tell(&mut self, name: &str, value: &str) {
        let value = value.replace('$', "$$");
        self.environment.push(format!("{name}={value}"));
    }

    fn mask(&self, text: &str) -> String {
        let secrets = self.secrets.iter();
        let secrets = secrets.filter(|secret| secret.len() >= SHORTEST_SECRET);
        secrets.fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), "***")
        })
    }
}

/// The end of what a process printed.
#[derive(Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    fn hear(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        let surplus = self.0.len().saturating_sub(LAST_WORDS);
        self.0.drain(..surplus);
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn explain(failure: Failure, shown: &str, told: &str) -> Failure {
    if failure.kind != Kind::Failed || failure.reason == "CONTAINER_LOST" {
        return failure;
    }
    let why = match (failure.reason.as_str(), told) {
        ("EXIT_CODE", told) if !told.is_empty() => told,
        _ => &failure.message,
    };
    let cure = match why.contains("returned error: 30") {
        true => "; redirects are not followed with credentials: give the address that it leads to",
        false => "",
    };
    let message = format!("{shown} can not be fetched: {why}{cure}");
    Failure {
        exit_code: failure.exit_code,
        ..Failure::new("GIT", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_what_git_says_is_kept() {
        let mut words = LastWords::default();
        for _ in 0..100 {
            words.hear(b"remote: counting, counting, counting\n");
        }
        words.hear(b"\nfatal: no\n");
        assert!(words.0.len() <= LAST_WORDS);
        assert!(words.text().ends_with("counting; fatal: no"));
    }

    #[test]
    fn secrets_are_masked_and_references_are_none() {
        let mut order = Order {
            environment: Vec::new(),
            shown: String::new(),
            secrets: vec!["s3cret".to_owned(), "abc".to_owned()],
        };
        assert_eq!(order.mask("of s3cret abc"), "of *** abc");
        order.tell("A", "x$(B)$y");
        assert_eq!(order.environment, ["A=x$$(B)$$y"]);
    }
}
