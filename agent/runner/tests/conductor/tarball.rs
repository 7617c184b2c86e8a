//! Archives, from a web server on this machine.

use std::{fs, path::Path, process::Command};

use muster_proto::runner::v1::{Outcome, StepState};
use muster_spec::plan::Operation;

use crate::{
    plan::{plan, shell, step},
    run::Run,
    web::Web,
};

/// A folder with `good.tar.gz`, `good.tar` and `evil.tar`.
fn archives() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::write(folder.path().join("in/file"), "content").unwrap();
    let tar = |arguments: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(arguments).current_dir(folder.path());
        assert!(tar.status().unwrap().success());
    };
    tar(&["-czf", "good.tar.gz", "in"]);
    tar(&["-cf", "good.tar", "in"]);
    tar(&["-cPf", "evil.tar", "--transform", "s,^,../../,", "in"]);
    folder
}

fn fetch(url: &str, path: &str) -> Operation {
    Operation::Tarball {
        url: url.to_owned(),
        path: path.to_owned(),
    }
}

async fn run(url: &str, outcome: Outcome) -> Run {
    let steps = vec![
        step("s0", vec![fetch(url, "/data/x/y")]),
        shell("s1", "cat /data/x/y/in/file"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(outcome).await;
    run
}

#[tokio::test]
async fn archives_are_unpacked_gzipped_or_not_and_redirects_are_followed() {
    let folder = archives();
    let web = Web::serve(folder.path(), None, 0).await;
    for name in ["good.tar.gz", "good.tar", "redirect/good.tar.gz"] {
        let run = run(&web.url(name), Outcome::Passed).await;
        assert_eq!(run.output("s1"), "content", "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_may_pass_is_tried_again_and_one_that_does_not_is_told() {
    let folder = archives();
    let web = Web::serve(folder.path(), None, 2).await;
    run(&web.url("good.tar"), Outcome::Passed).await;
    assert_eq!(web.requests(), 3);
    let failed = run(&web.url("none.tar"), Outcome::Failed).await;
    failed.expect("s0", StepState::Failed, "TARBALL");
    assert!(
        failed.message("s0").contains("404"),
        "{}",
        failed.message("s0")
    );
    assert_eq!(web.requests(), 4);
}

#[tokio::test]
async fn an_archive_that_leaves_its_folder_is_refused() {
    let folder = archives();
    let web = Web::serve(folder.path(), None, 0).await;
    let failed = run(&web.url("evil.tar"), Outcome::Failed).await;
    failed.expect("s0", StepState::Failed, "TARBALL");
    let message = failed.message("s0");
    assert!(message.contains("leads out of the folder"), "{message}");
    assert!(!failed.path("data/in").exists() && !Path::new("/in").exists());
}

#[tokio::test]
async fn credentials_of_the_url_are_sent_and_not_shown() {
    let folder = archives();
    // me:p@ss
    let web = Web::serve(folder.path(), Some("Basic bWU6cEBzcw=="), 0).await;
    for (query, outcome) in [("?", Outcome::Passed), (".none?", Outcome::Failed)] {
        let url = web.url(&format!("good.tar{query}signature=s3cret"));
        let url = url.replace("//", "//me:p%40ss@");
        let run = run(&url, outcome).await;
        let remarks = run.agent.heard().remarks();
        assert!(remarks.contains("/good.tar"), "{remarks}");
        for secret in ["p%40ss", "me:", "s3cret", "signature"] {
            assert!(!remarks.contains(secret), "{remarks}");
        }
    }
}
