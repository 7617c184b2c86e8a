//! Repositories, from real servers of git on this machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use muster_proto::runner::v1::{Outcome, StepState};
use muster_spec::plan::{File, Git, Operation, Plan};

use crate::{
    agent::Manner,
    plan::{Changed as _, plan, script_in, shell, step},
    run::Run,
    web::Web,
};

/// A repository with three commits: `first` is tagged v1, `third` is on the branch `next`.
struct Repository {
    folder: tempfile::TempDir,
    first: String,
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@b")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .output()
        .expect("git is needed for these tests");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Repository {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("work");
        fs::create_dir_all(tree.join("suites/a")).unwrap();
        fs::create_dir_all(tree.join("other")).unwrap();
        git(&tree, &["init", "-q", "-b", "main"]);
        let commit = |content: &str| {
            for name in ["top", "suites/a/test", "other/file"] {
                fs::write(tree.join(name), content).unwrap();
            }
            git(&tree, &["add", "."]);
            git(&tree, &["commit", "-q", "-m", content]);
            git(&tree, &["rev-parse", "HEAD"])
        };
        let first = commit("first");
        commit("second");
        git(&tree, &["tag", "v1", &first]);
        git(&tree, &["checkout", "-q", "-b", "next"]);
        for name in ["top", "suites/a/test"] {
            fs::write(tree.join(name), "third").unwrap();
        }
        git(&tree, &["commit", "-q", "-a", "-m", "third"]);
        git(&tree, &["checkout", "-q", "main"]);
        git(
            folder.path(),
            &["clone", "-q", "--bare", "work", "tests.git"],
        );
        Self { folder, first }
    }

    async fn serve(&self, authorization: Option<&str>) -> Web {
        Web::serve(self.folder.path(), authorization, 0).await
    }
}

fn fetch(uri: &str, change: impl FnOnce(&mut Git)) -> Operation {
    let mut git = Git {
        container: 1,
        values: None,
        uri: uri.to_owned(),
        revision: None,
        username: None,
        token: None,
        bearer: false,
        ssh_key: None,
        path: "/data/repo".to_owned(),
        paths: Vec::new(),
        cone: false,
        verbose: false,
        retries: 0,
    };
    change(&mut git);
    Operation::Git(Box::new(git))
}

/// Fetches, then prints what is there.
fn fetch_and_show(uri: &str, change: impl FnOnce(&mut Git)) -> Plan {
    let script = "cd /data/repo; cat top suites/a/test other/file 2>/dev/null || true
        echo; git -c safe.directory=* rev-parse --abbrev-ref HEAD
        git -c safe.directory=* rev-list --count HEAD; git config remote.origin.url";
    plan(vec![
        step("s0", vec![fetch(uri, change)]),
        shell("s1", script),
    ])
}

async fn shown(uri: &str, change: impl FnOnce(&mut Git)) -> String {
    let mut run = Run::start(&fetch_and_show(uri, change));
    run.ends_as(Outcome::Passed).await;
    run.output("s1").replace('\n', " ").replace(uri, "URI")
}

#[tokio::test]
async fn branch_tag_commit_and_head_are_fetched_without_history() {
    let repository = Repository::make();
    let web = repository.serve(None).await;
    let uri = web.url("tests.git");
    let of = |revision: &str| {
        let revision = revision.to_owned();
        shown(&uri, |git| git.revision = Some(revision))
    };
    assert_eq!(of("").await, "secondsecondsecond main 1 URI ");
    assert_eq!(of("next").await, "thirdthirdsecond next 1 URI ");
    assert_eq!(of("v1").await, "firstfirstfirst HEAD 1 URI ");
    assert_eq!(of(&repository.first).await, "firstfirstfirst HEAD 1 URI ");
    assert_eq!(
        of("refs/heads/main").await,
        "secondsecondsecond main 1 URI "
    );
}

#[tokio::test]
async fn a_short_commit_is_looked_for_in_all_history() {
    let repository = Repository::make();
    let web = repository.serve(None).await;
    let uri = web.url("tests.git");
    let short = repository.first[..10].to_owned();
    let shown = shown(&uri, |git| git.revision = Some(short)).await;
    assert_eq!(shown, "firstfirstfirst HEAD 1 URI ");
}

#[tokio::test]
async fn only_wanted_paths_are_in_the_tree() {
    let repository = Repository::make();
    git(
        &repository.folder.path().join("tests.git"),
        &["config", "uploadpack.allowFilter", "true"],
    );
    // The files of a path come later than its commit, and need the credentials too.
    let web = repository.serve(Some("Bearer t0ken")).await;
    let uri = web.url("tests.git");
    let shown = |paths: &str, cone| {
        let paths = vec![paths.to_owned()];
        shown(&uri, move |git| {
            git.token = Some("t0ken".to_owned());
            git.bearer = true;
            (git.paths, git.cone) = (paths, cone);
        })
    };
    assert_eq!(shown("suites/a/test", false).await, "second main 1 URI ");
    let cone = shown("other", true);
    // A cone has the files at the top too.
    assert_eq!(cone.await, "secondsecond main 1 URI ");
}

#[tokio::test]
async fn the_right_token_opens_and_stands_nowhere() {
    let repository = Repository::make();
    // robot:s$(X)cret$$
    let basic = "Basic cm9ib3Q6cyQoWCljcmV0JCQ=";
    let web = repository.serve(Some(basic)).await;
    let uri = web.url("tests.git");
    let plan = plan(vec![
        step(
            "s0",
            vec![fetch(&uri, |git| {
                git.username = Some("robot".to_owned());
                git.token = Some("s$(X)cret$$\n".to_owned());
            })],
        ),
        shell(
            "s1",
            "env; grep -r -e cret -e cm9ib /data/repo/.git /tmp || true",
        ),
    ]);
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Passed).await;
    for output in [
        run.output("s0"),
        run.output("s1"),
        run.agent.heard().remarks(),
    ] {
        assert!(
            !output.contains("cret") && !output.contains("cm9ib"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn credentials_go_no_further_than_the_server_that_they_are_for() {
    let repository = Repository::make();
    let elsewhere = repository.serve(None).await;
    let web = repository.serve(Some("Bearer t")).await;
    let target = elsewhere.url("tests.git");
    let with_token = |git: &mut Git| {
        git.token = Some("t".to_owned());
        git.bearer = true;
    };
    let uri = web.url(&format!("redirect/{target}"));
    let plan = plan(vec![step("s0", vec![fetch(&uri, with_token)])]);
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Failed).await;
    let message = run.message("s0");
    assert!(message.contains("give the address"), "{message}");
    assert_eq!(elsewhere.requests(), 0);
    // The same name with .git is tried in the place of where it leads.
    let uri = web.url("tests");
    let shown = shown(&uri, with_token).await;
    assert!(shown.starts_with("second"), "{shown}");
}

/// Fetches with a token after a step has prepared the folder, and then looks at it.
async fn prepared(prepare: &str, outcome: Outcome, look: &str) -> Run {
    let repository = Repository::make();
    let web = repository.serve(Some("Bearer s3cret-t0ken")).await;
    let fetch = fetch(&web.url("tests.git"), |git| {
        git.token = Some("s3cret-t0ken".to_owned());
        git.bearer = true;
    });
    let steps = vec![
        shell("s0", prepare),
        step("s1", vec![fetch]),
        shell("s2", look),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(outcome).await;
    run
}

#[tokio::test]
async fn nothing_that_an_earlier_step_left_runs_with_the_credentials() {
    let prepare = r#"
        mkdir -p /data/repo && cd /data/repo && git init -q .
        printf '#!/bin/sh\n(echo "$0"; env) >>/data/stolen; cat\n' >/data/thief
        chmod +x /data/thief
        for hook in post-checkout post-index-change reference-transaction post-merge; do
          cp /data/thief .git/hooks/$hook
        done
        git config core.hooksPath /data/repo/.git/hooks
        git config core.fsmonitor /data/thief
        git config core.sshCommand /data/thief
        git config core.gitProxy /data/thief
        git config credential.helper '!/data/thief'
        git config filter.thief.smudge /data/thief
        git config remote.origin.uploadpack /data/thief
        git config remote.origin.proxy http://127.0.0.1:1
        git config include.path /data/more
        printf '* filter=thief\n' | tee .git/info/attributes >.gitattributes
        echo older >untracked; echo older >top"#;
    let look = "cd /data/repo; ls -A .git/hooks 2>/dev/null || true; cat .git/config untracked top
        ls -d .git?* .git/info/attributes 2>/dev/null || true
        git -c safe.directory=* status --short";
    let run = prepared(prepare, Outcome::Passed, look).await;
    let stolen = fs::read_to_string(run.path("data/stolen")).unwrap_or_default();
    assert_eq!(stolen, "");
    let output = run.output("s2");
    for unwanted in ["thief", "post-checkout", "include", "s3cret", ".git."] {
        assert!(!output.contains(unwanted), "{output}");
    }
    let end = "older\nsecond.gitattributes\n?? .gitattributes\n?? untracked\n";
    assert!(output.ends_with(end), "{output}");
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_refused_and_links_in_it_are_replaced() {
    let prepare = "mkdir /tmp/out; ln -s /tmp/out /data/repo";
    let run = prepared(prepare, Outcome::Failed, "").await;
    run.expect("s1", StepState::Failed, "GIT");
    assert!(run.message("s1").contains("'repo' is a link"));
    assert_eq!(fs::read_dir(run.path("tmp/out")).unwrap().count(), 0);

    let prepare = "mkdir /tmp/out /data/repo; cd /data/repo
        ln -s /tmp/out .git; ln -s /tmp/out suites; ln -s /tmp/out/top top";
    let look = "cat /data/repo/suites/a/test /data/repo/top; readlink /data/repo/.git || true";
    let run = prepared(prepare, Outcome::Passed, look).await;
    assert_eq!(run.output("s2"), "secondsecond");
    assert_eq!(fs::read_dir(run.path("tmp/out")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_repository_that_is_there_is_replaced() {
    let repository = Repository::make();
    let web = repository.serve(None).await;
    let uri = web.url("tests.git");
    let again = fetch(&uri, |git| git.revision = Some("next".to_owned()));
    let mut plan = fetch_and_show(&uri, |_| {});
    plan.steps[0].operations.push(again);
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Passed).await;
    assert!(run.output("s1").starts_with("thirdthirdsecond\nnext\n1\n"));
    let mode = |path: &str| fs::metadata(run.path(path)).unwrap().permissions().mode();
    for folder in ["data/repo", "data/repo/.git", "data/repo/.git/objects"] {
        assert_eq!(mode(folder) & 0o775, 0o775, "{folder}");
    }
}

#[tokio::test]
async fn a_bearer_a_lone_token_and_a_uri_with_credentials_open_too() {
    let repository = Repository::make();
    let web = repository.serve(Some("Bearer t0ken")).await;
    let uri = web.url("tests.git");
    let bearer = shown(&uri, |git| {
        git.token = Some("t0ken".to_owned());
        git.bearer = true;
    });
    assert!(bearer.await.starts_with("secondsecondsecond"));
    // x-access-token:t0ken
    let web = repository
        .serve(Some("Basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="))
        .await;
    let uri = web.url("tests.git");
    let lone = shown(&uri, |git| git.token = Some("t0ken".to_owned()));
    assert!(lone.await.starts_with("secondsecondsecond"));
    // me:p@ss
    let web = repository.serve(Some("Basic bWU6cEBzcw==")).await;
    let uri = web.url("tests.git").replace("//", "//me:p%40ss@");
    let shown = shown(&uri, |_| {}).await;
    assert!(shown.starts_with("secondsecondsecond"), "{shown}");
    assert!(!shown.contains("p%40ss"), "{shown}");
}

#[tokio::test]
async fn the_query_of_a_uri_is_not_shown() {
    let mut run = Run::start(&fetch_and_show(
        "http://127.0.0.1:1/a.git?sig=s3cret",
        |_| {},
    ));
    run.ends_as(Outcome::Failed).await;
    let message = run.message("s0");
    assert!(
        message.contains("http://127.0.0.1:1/a.git can not"),
        "{message}"
    );
    let remarks = run.agent.heard().remarks();
    assert!(
        !message.contains("s3cret") && !remarks.contains("s3cret"),
        "{message}"
    );
}

#[tokio::test]
async fn a_wrong_token_fails_with_gits_words_and_without_the_token() {
    let repository = Repository::make();
    let web = repository.serve(Some("Bearer right")).await;
    let mut run = Run::start(&fetch_and_show(&web.url("tests.git"), |git| {
        git.token = Some("wr0ng-t0ken".to_owned());
    }));
    run.ends_as(Outcome::Failed).await;
    run.expect("s0", StepState::Failed, "GIT");
    let message = run.message("s0");
    assert!(
        message.contains("tests.git can not be fetched: "),
        "{message}"
    );
    assert!(message.contains("fatal: "), "{message}");
    let log = String::from_utf8(run.agent.heard().log()).unwrap();
    assert!(
        !message.contains("wr0ng") && !log.contains("wr0ng"),
        "{log}"
    );
    run.expect("s1", StepState::Skipped, "CONDITION");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_is_not_there_is_not() {
    let repository = Repository::make();
    let web = Web::serve(repository.folder.path(), None, 2).await;
    let uri = web.url("tests.git");
    let shown = shown(&uri, |git| git.retries = 5).await;
    assert_eq!(shown, "secondsecondsecond main 1 URI ");

    let before = web.requests();
    let mut run = Run::start(&fetch_and_show(&uri, |git| {
        git.retries = 20;
        git.revision = Some("nowhere".to_owned());
    }));
    run.ends_as(Outcome::Failed).await;
    let message = run.message("s0");
    assert!(
        message.ends_with("there is no branch, tag or commit 'nowhere'"),
        "{message}"
    );
    assert!(web.requests() - before < 5);
}

#[tokio::test]
async fn a_timeout_ends_fetching() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/a.git", listener.local_addr().unwrap());
    let mut run = Run::start(&plan(vec![
        step("s0", vec![fetch(&uri, |git| git.retries = 20)]).timeout("1s"),
    ]));
    run.ends_as(Outcome::Failed).await;
    run.expect("s0", StepState::TimedOut, "TIMEOUT");
}

#[tokio::test]
async fn a_folder_beside_the_language_s_own_is_shared_by_all_containers() {
    let repository = Repository::make();
    let web = repository.serve(None).await;
    let uri = web.url("tests.git");
    let fetch = fetch(&uri, |git| git.path = "/muster-test-repo".to_owned());
    let mut plan = plan(vec![
        step("s0", vec![fetch]),
        shell(
            "s1",
            "cat /muster-test-repo/top; echo x >/muster-test-repo/made",
        ),
    ]);
    plan.pod.folders = vec!["/muster-test-repo".to_owned()];
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(run.output("s1"), "second");
    assert!(run.path("folders/0/made").exists());
    assert!(!Path::new("/muster-test-repo").exists());
}

#[tokio::test]
async fn a_folder_that_would_be_made_on_the_machine_is_refused() {
    let fetch = fetch("http://127.0.0.1:1/a.git", |git| {
        git.path = "/usr/no-such-name".to_owned();
    });
    let mut plan = plan(vec![step("s0", vec![fetch])]);
    plan.pod.folders = vec!["/usr/no-such-name".to_owned()];
    let mut run = Run::start(&plan);
    run.ends_as(Outcome::Failed).await;
    run.expect("s0", StepState::Failed, "FOLDER");
    assert!(run.message("s0").contains("below /data"));
}

/// A server of ssh on loopback, of this very user.
struct Ssh {
    server: Child,
    port: u16,
    key: String,
    known: PathBuf,
}

impl Drop for Ssh {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Ssh {
    /// None when this machine has no server of ssh, and no one says that it must have one.
    fn start(folder: &Path) -> Option<Self> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.exists() {
            assert!(
                std::env::var_os("MUSTER_TEST_REQUIRE_SSHD").is_none(),
                "install openssh-server"
            );
            return None;
        }
        let path = |name: &str| folder.join(name).display().to_string();
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)])
                .status();
            assert!(made.unwrap().success());
        }
        let known = PathBuf::from(path("authorized"));
        fs::copy(path("user.pub"), &known).unwrap();
        fs::set_permissions(&known, fs::Permissions::from_mode(0o600)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            path("host"),
            known.display()
        );
        fs::write(path("config"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let server = Command::new(program)
            .args(["-D", "-e", "-f", &path("config")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < end, "sshd does not start");
            std::thread::yield_now();
        }
        Some(Self {
            server,
            port,
            key: fs::read_to_string(path("user")).unwrap(),
            known,
        })
    }
}

#[tokio::test]
async fn an_ssh_key_opens_and_is_gone_afterwards() {
    let repository = Repository::make();
    let folder = tempfile::tempdir().unwrap();
    let Some(ssh) = Ssh::start(folder.path()) else {
        return;
    };
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let path = repository.folder.path().join("tests.git");
    let uri = format!("ssh://{user}@127.0.0.1:{}{}", ssh.port, path.display());
    let left = || {
        let all = ["/dev/shm", "/var/tmp"].map(|folder| fs::read_dir(folder).unwrap());
        let entries = all.into_iter().flatten().flatten();
        // Other fetches have folders there too, but no key.
        let folders = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("muster-git.") && entry.path().join("key").exists()
        });
        folders.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let key = ssh.key.clone();
    let shown = shown(&uri, |git| {
        git.revision = Some("next".to_owned());
        git.ssh_key = Some(key);
    });
    assert_eq!(shown.await, "thirdthirdsecond next 1 URI ");

    // The key of somebody else.
    fs::write(&ssh.known, "").unwrap();
    let key = ssh.key.clone();
    let mut run = Run::start(&fetch_and_show(&uri, |git| git.ssh_key = Some(key)));
    run.ends_as(Outcome::Failed).await;
    run.expect("s0", StepState::Failed, "GIT");
    let message = run.message("s0");
    assert!(message.contains("Permission denied"), "{message}");
    assert!(!message.contains("PRIVATE KEY"), "{message}");
    assert!(left().is_empty(), "{:?}", left());
}

#[tokio::test]
async fn values_of_one_container_serve_what_is_done_in_another() {
    let repository = Repository::make();
    let web = repository.serve(Some("Bearer c0")).await;
    let uri = web.url("tests.git");
    let file = File {
        path: "/data/file".to_owned(),
        content: "{{ env.OF_CONTAINER }}".to_owned(),
        mode: 0o600,
        values: Some(0),
    };
    let files = |container| Operation::Files {
        container,
        files: vec![File {
            path: format!("/data/file-{container:?}"),
            ..file.clone()
        }],
    };
    let fetch = fetch(&uri, |git| {
        git.values = Some(0);
        git.token = Some("{{ env.OF_CONTAINER }}".to_owned());
        git.bearer = true;
    });
    let show = script_in(1, "cat /data/file-*; echo \" $OF_CONTAINER\"");
    let steps = vec![step("s0", vec![files(None), files(Some(1)), fetch, show])];
    let mut run = Run::in_pod(&plan(steps), Manner::default(), &["c0", "c1"]);
    run.ends_as(Outcome::Passed).await;
    assert!(
        run.output("s0").ends_with("c0c0 c1\n"),
        "{}",
        run.output("s0")
    );
}
