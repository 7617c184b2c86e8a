//! Files that steps leave behind.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt};

use muster_proto::runner::v1::{AgentWelcome, Outcome, StepState::Failed};
use muster_spec::plan::Operation;

use crate::{
    agent::Manner,
    plan::{Changed as _, keep, plan, shell, step},
    run::Run,
};

const MAKE: &str = "mkdir -p out/logs; cd out; echo one > one.txt; echo two > logs/two.log
    echo no > logs/secret.key; head -c 3000000 /dev/urandom > large; : > empty
    ln -s /etc/passwd escape; ln -s one.txt inside; mkfifo pipe; echo odd > 'a [b]*?'";

fn names(run: &Run) -> Vec<String> {
    run.agent.heard().artifacts.keys().cloned().collect()
}

#[tokio::test]
async fn files_that_match_arrive_whole_and_links_never_lead_out() {
    let steps = vec![
        shell("s1", &format!("{MAKE}; sha256sum < large; exit 1")).and(keep(
            Some(0),
            "out",
            &["**/*", "!**/*.key"],
        )),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    run.expect("s1", Failed, "EXIT_CODE");
    assert_eq!(
        names(&run),
        [
            "a [b]*?",
            "empty",
            "inside",
            "large",
            "logs/two.log",
            "one.txt"
        ]
    );
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts["inside"], b"one\n");
    assert_eq!(heard.artifacts["large"].len(), 3_000_000);
    let remarks = heard.remarks();
    assert!(
        remarks.contains("escape") && remarks.contains("pipe"),
        "{remarks}"
    );
}

#[tokio::test]
async fn broken_upload_begins_again_and_comes_once() {
    let manner = Manner {
        artifact_cuts: 3,
        ..Manner::default()
    };
    let steps = vec![shell("s1", MAKE).and(keep(Some(0), "out", &["large", "one.txt", "a*"]))];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(names(&run), ["a [b]*?", "large", "one.txt"]);
    assert_eq!(run.agent.heard().artifacts["large"].len(), 3_000_000);
}

/// An agent that cuts connections within files, and knows what it had.
fn cutting(cuts: &[usize]) -> Manner {
    Manner {
        cuts_within: cuts.to_vec(),
        welcome: AgentWelcome {
            resumes: true,
            ..AgentWelcome::default()
        },
        ..Manner::default()
    }
}

#[tokio::test]
async fn broken_upload_goes_on_where_it_broke() {
    let steps = vec![shell("s1", MAKE).and(keep(Some(0), "out", &["large"]))];
    let mut run = Run::with(&plan(steps), cutting(&[1_000_000, 500_000]), &[]);
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts["large"].len(), 3_000_000);
    let [first, second] = heard.resumed[..] else {
        panic!("{:?}", heard.resumed)
    };
    assert!(
        first >= 1_000_000 && second >= first + 500_000,
        "{:?}",
        heard.resumed
    );
    assert_eq!(heard.artifact_bytes, 3_000_000, "nothing was sent twice");
}

#[tokio::test]
async fn broken_upload_of_a_file_that_changed_begins_again() {
    let steps = vec![shell("s1", MAKE).and(keep(Some(0), "out", &["large"]))];
    let mut run = Run::with(&plan(steps), cutting(&[1_000_000]), &[]);
    run.agent.manner().changes = vec![run.path("data/out/large")];
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    let large = &heard.artifacts["large"];
    assert!(large.len() == 3_000_000 && large.starts_with(b"changed"));
    assert_eq!(
        heard.resumed.len(),
        1,
        "it asks once, and then begins again"
    );
    assert!(
        heard.artifact_bytes >= 4_000_000,
        "{}",
        heard.artifact_bytes
    );
}

#[tokio::test]
async fn broken_upload_of_which_the_server_has_nothing_begins_again() {
    let manner = Manner {
        artifact_cuts: 2,
        ..cutting(&[])
    };
    let steps = vec![shell("s1", MAKE).and(keep(Some(0), "out", &["large", "one.txt"]))];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(names(&run), ["large", "one.txt"]);
    let heard = run.agent.heard();
    assert!(
        !heard.resumed.is_empty() && heard.resumed.iter().all(|kept| *kept == 0),
        "{:?}",
        heard.resumed
    );
}

#[tokio::test]
async fn broken_upload_from_outside_the_folder_and_with_an_odd_name_comes_too() {
    let manner = Manner {
        artifact_cuts: 3,
        ..Manner::default()
    };
    let make =
        "mkdir -p out /tmp/r; echo 1 > /tmp/r/a.xml; echo 2 > 'out/wow!.txt'; echo 3 > 'out/!x'";
    let steps = vec![shell("s1", make).and(keep(Some(0), "out", &["*", "/tmp/r/*.xml"]))];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(names(&run), ["!x", "tmp/r/a.xml", "wow!.txt"]);
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("trying again"), "{remarks}");
}

#[tokio::test]
async fn archive_is_one_artifact() {
    let mut archive = keep(Some(0), "/data/out", &["logs/*.log", "one.txt"]);
    if let Operation::Artifacts(artifacts) = &mut archive {
        artifacts.compress = Some("all.tar.gz".to_owned());
    }
    let steps = vec![shell("s1", MAKE), step("s2", vec![archive]).when("always")];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(names(&run), ["all.tar.gz"]);
    let heard = run.agent.heard();
    let plain = flate2::read::GzDecoder::new(&heard.artifacts["all.tar.gz"][..]);
    let mut inside: Vec<_> = tar::Archive::new(plain)
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    inside.sort();
    assert_eq!(inside, ["logs/two.log", "one.txt"]);
}

#[tokio::test]
async fn refused_artifact_and_pattern_without_files_are_told() {
    let manner = Manner {
        refuse_artifacts: Some("the quota is used up"),
        ..Manner::default()
    };
    let steps = vec![
        shell("s1", MAKE),
        step("s2", vec![keep(Some(0), "out", &["one.txt"])]).optional(),
        step("s3", vec![keep(Some(0), "out", &["*.none"])]).optional(),
    ];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    let remarks = run.agent.heard().remarks();
    assert!(
        remarks.contains("one.txt: the quota is used up"),
        "{remarks}"
    );
    assert!(remarks.contains("*.none"), "{remarks}");
}

#[tokio::test]
async fn artifacts_are_kept_after_a_timeout() {
    let steps = vec![
        shell("s1", "echo part > part; sleep 100")
            .timeout("500ms")
            .and(keep(Some(0), "", &["part"])),
        crate::plan::group(
            "s2",
            vec![
                shell("s2.1", "echo other > other; sleep 100"),
                step("s2.2", vec![keep(Some(0), "", &["other"])]).when("always"),
            ],
        )
        .timeout("500ms")
        .when("always"),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Failed).await;
    assert_eq!(names(&run), ["other", "part"]);
}

#[tokio::test]
async fn without_a_container_only_shared_folders_are_searched() {
    let steps = vec![
        shell("s1", "echo shared > /data/shared"),
        step("s2", vec![keep(None, "", &["shared", "/etc/passwd"])]),
    ];
    let mut run = Run::start(&plan(steps));
    run.ends_as(Outcome::Passed).await;
    assert_eq!(names(&run), ["shared"]);
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("/etc/passwd"), "{remarks}");
}

/// Makes a hundred small files and keeps them.
const MANY: &str = "mkdir out; i=0; while [ $i -lt 100 ]; do echo $i > out/f$i; i=$((i+1)); done";

#[tokio::test]
async fn many_small_files_share_few_connections() {
    let mut run = Run::start(&plan(vec![shell("s1", MANY).and(keep(
        Some(0),
        "out",
        &["*"],
    ))]));
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts.len(), 100);
    assert_eq!(heard.artifacts["f17"], b"17\n");
    let connections = heard.artifact_connections;
    assert!(connections <= 8, "{connections} connections");
}

#[tokio::test]
async fn an_agent_that_takes_one_artifact_on_each_connection_gets_all_of_them() {
    let manner = Manner {
        one_artifact_each: true,
        ..Manner::default()
    };
    let steps = vec![shell("s1", MANY).and(keep(Some(0), "out", &["*"]))];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts.len(), 100);
    assert_eq!(heard.artifact_connections, 100);
}

#[tokio::test]
async fn files_beyond_the_limit_of_the_server_are_told_once_and_not_sent() {
    let manner = Manner {
        most_artifacts: Some(20),
        ..Manner::default()
    };
    let steps = vec![shell("s1", MANY).and(keep(Some(0), "out", &["*"]))];
    let mut run = Run::with(&plan(steps), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    let heard = run.agent.heard();
    assert_eq!(heard.artifacts.len(), 20);
    let remarks = heard.remarks();
    assert!(
        remarks.contains("80 files are left out: there are too many"),
        "{remarks}"
    );
    assert_eq!(remarks.matches("too many").count(), 1, "{remarks}");
    // Each of them is listed as missing.
    let missing: BTreeSet<&str> = heard
        .missing
        .iter()
        .map(|(step, file)| {
            let told = (step.as_str(), file.reason.as_str(), file.message.as_str());
            assert_eq!(told, ("s1", "TOO_MANY", "there are too many"));
            file.path.as_str()
        })
        .collect();
    assert_eq!((missing.len(), heard.missing.len()), (80, 80));
    let kept: BTreeSet<&str> = heard.artifacts.keys().map(String::as_str).collect();
    assert!(kept.is_disjoint(&missing));
}

/// Makes a file that its own user can not read, and one of an odd name.
const LOCKED: &str = "mkdir out; cd out; echo x > good; echo x > locked; chmod 0 locked
    mkdir closed; chmod 0 closed; echo x > \"$(printf 'new\\nline')\"; id -u";

fn missing(run: &Run) -> Vec<(String, String)> {
    let heard = run.agent.heard();
    let mut missing: Vec<(String, String)> = heard
        .missing
        .iter()
        .map(|(_, file)| (file.path.clone(), file.reason.clone()))
        .collect();
    missing.sort_unstable();
    missing
}

#[tokio::test]
async fn file_that_can_not_be_read_is_missing_with_its_reason_and_the_others_come() {
    let plan = plan(vec![shell("s1", LOCKED).and(keep(Some(0), "out", &["**"]))]);
    // Root reads everything.
    let mut run = Run::as_nobody(&plan).unwrap_or_else(|| Run::start(&plan));
    run.ends_as(Outcome::Passed).await;
    assert_ne!(run.output("s1").trim(), "0", "root reads everything");
    assert_eq!(names(&run), ["good"]);
    let expected = [
        ("closed", "UNREADABLE"),
        ("locked", "UNREADABLE"),
        (r"new\nline", "BAD_NAME"),
    ];
    assert_eq!(missing(&run), expected.map(owned));
    let remarks = run.agent.heard().remarks();
    assert!(
        remarks.contains("out/locked: Permission denied"),
        "{remarks}"
    );
    // Closed folders could not be removed by others than root.
    let closed = run.path("data/out/closed");
    std::fs::set_permissions(closed, PermissionsExt::from_mode(0o700)).unwrap();
}

fn owned((path, reason): (&str, &str)) -> (String, String) {
    (path.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn missing_files_are_told_until_they_are_noted_and_not_to_an_older_agent() {
    let steps = || vec![shell("s1", LOCKED).and(keep(Some(0), "out", &["new*"]))];
    let manner = Manner {
        missing_cuts: 2,
        ..Manner::default()
    };
    let mut run = Run::with(&plan(steps()), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(missing(&run), [owned((r"new\nline", "BAD_NAME"))]);
    let manner = Manner {
        notes_nothing: true,
        ..Manner::default()
    };
    let mut run = Run::with(&plan(steps()), manner, &[]);
    run.ends_as(Outcome::Passed).await;
    assert_eq!(missing(&run), []);
    let remarks = run.agent.heard().remarks();
    assert!(remarks.contains("control characters"), "{remarks}");
}
