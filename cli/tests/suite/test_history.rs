//! Tests over runs: `muster history`, `muster flaky` and `muster compare`.

use serde_json::Value;

use crate::home::{Done, Home};

/// A tool that tells of three tests what its config says.
const SPEC: &str = "\
config:
  cart: {type: string, default: <failure message='the cart is empty'/>}
  login: {type: string, default: ''}
  pay: {type: string, default: '0.1'}
steps:
- name: test
  shell: |
    {
      echo \"<testsuite name='shop'><testcase classname='shop' name='test_cart'>{{ config.cart }}</testcase>\"
      echo \"<testcase classname='shop' name='test_login'>{{ config.login }}</testcase>\"
      echo \"<testcase classname='shop' name='test_pay' time='{{ config.pay }}'/></testsuite>\"
    } > junit.xml
  artifacts: {paths: [junit.xml]}
";

const REFUSED: &str = "login=<failure message='no such user'/>";

/// Three runs, of which the second and the third have the same revision.
fn shop() -> Home {
    let home = Home::new();
    let file = home.workflow("shop", SPEC);
    home.muster(["apply", "-f", &file]).expect(0);
    let run = |commit: &str, branch: &str, config: &[&str]| {
        let mut line = vec!["run", "shop", "--quiet", "--tag", commit, "--tag", branch];
        for one in config {
            line.extend(["--config", one]);
        }
        home.muster(line).expect(0);
    };
    run("commit=aaaa1111", "branch=main", &[]);
    let fixed = ["cart=", "pay=1.9", REFUSED];
    run("commit=bbbb2222", "branch=topic", &fixed);
    run("commit=bbbb2222", "branch=topic", &fixed[..2]);
    home
}

fn names(list: &Value) -> Vec<&str> {
    let all = list.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn expect_words(done: &Done, words: &[&str]) {
    for word in words {
        assert!(done.stdout.contains(word), "'{word}': {}", done.stdout);
    }
}

#[test]
fn tests_are_compared_and_followed_over_runs() {
    let home = shop();
    comparisons(&home);
    histories(&home);
    flaky_tests(&home);
}

fn comparisons(home: &Home) {
    let told = home.muster(["compare", "shop-1", "shop-2", "-o", "json"]);
    let told = told.expect(1).json();
    assert_eq!(names(&told["newFailures"]), ["test_login"], "{told:#}");
    assert_eq!(told["newFailures"][0]["before"], "passed");
    assert_eq!(told["newFailures"][0]["after"], "failed");
    assert_eq!(names(&told["fixed"]), ["test_cart"]);
    assert_eq!(names(&told["slower"]), ["test_pay"]);
    assert_eq!(told["slower"][0]["secondsBefore"], 0.1);
    assert_eq!(told["slower"][0]["secondsAfter"], 1.9);
    assert_eq!((&told["added"], &told["removed"]), (&0.into(), &0.into()));
    assert_eq!(told["base"]["failed"], 1);
    let shown = home.muster(["compare", "shop-1", "shop-2"]).expect(1);
    expect_words(
        &shown,
        &[
            "new failures: 1\n  shop › test_login\n",
            "fixed: 1\n  shop › test_cart\n",
            "slower: 1\n  shop › test_pay  100ms → 1.9s\n",
            "shop-1: 2 passed, 1 failed\n",
        ],
    );
    // Nothing new fails in the other direction of time.
    let fixed = home.muster(["compare", "shop-2", "shop-3"]).expect(0);
    expect_words(&fixed, &["fixed: 1\n  shop › test_login\n"]);
    assert!(!fixed.stdout.contains("slower"), "{}", fixed.stdout);
    let none = home.muster(["compare", "shop-1", "shop-9"]).expect(1);
    assert!(none.stderr.contains("shop-9"), "{}", none.stderr);
}

fn histories(home: &Home) {
    let history = |flags: &[&str]| {
        let line = [&["history", "test_login", "-o", "json"], flags].concat();
        home.muster(line).expect(0).json()
    };
    let runs = |flags: &[&str]| -> Vec<String> {
        let told = history(flags);
        let runs = told["runs"].as_array().unwrap().iter();
        runs.map(|run| run["execution"].as_str().unwrap().to_owned())
            .collect()
    };
    let told = history(&[]);
    assert_eq!(runs(&[]), ["shop-3", "shop-2", "shop-1"]);
    let statistics = &told["statistics"];
    assert_eq!(
        (
            &statistics["runs"],
            &statistics["passed"],
            &statistics["flips"]
        ),
        (&3.into(), &2.into(), &1.into()),
        "{told:#}"
    );
    let second = &told["runs"][1];
    assert_eq!(second["state"], "failed");
    assert_eq!(second["message"], "no such user");
    assert_eq!(second["revision"], "bbbb2222");
    assert_eq!(second["tags"]["branch"], "topic");
    assert_eq!(runs(&["--tag", "branch=topic"]), ["shop-3", "shop-2"]);
    assert_eq!(runs(&["--tag", "commit=aaaa1111"]), ["shop-1"]);
    let neither = ["--tag", "commit=aaaa1111", "--tag", "branch=topic"];
    assert!(runs(&neither).is_empty());
    // Each run on this machine has an agent of its own.
    let agent = second["agent"].as_str().unwrap();
    assert_eq!(runs(&["--agent", agent]), ["shop-2"]);
    assert!(runs(&["--agent", "elsewhere"]).is_empty());
    assert_eq!(runs(&["--workflow", "shop"]).len(), 3);
    assert!(runs(&["--workflow", "other"]).is_empty());
    assert_eq!(runs(&["--limit", "1"]), ["shop-3"]);

    // By its id too, and in words.
    let id = told["test"]["id"].as_str().unwrap();
    let shown = home.muster(["history", id]).expect(0);
    expect_words(
        &shown,
        &[
            "shop › test_login\n",
            "2 of 3 passed",
            "flaky 33 %",
            "no such user",
            "bbbb2222",
        ],
    );
    let failing = history(&["--tag", "branch=topic"]);
    assert_eq!(failing["statistics"].get("failingSince"), None);
    let several = home.muster(["history", "test_"]).expect(2);
    assert!(
        several.stderr.contains("3 tests have 'test_'"),
        "{}",
        several.stderr
    );
    assert!(several.stderr.contains(id), "{}", several.stderr);
    let none = home.muster(["history", "test_none"]).expect(2);
    none.expect_error(&["no test has 'test_none' in its name"]);
}

fn flaky_tests(home: &Home) {
    let told = home.muster(["flaky", "-o", "json"]).expect(0).json();
    let tests = told["tests"].as_array().unwrap();
    assert_eq!(tests.len(), 1, "only that of one revision: {told:#}");
    assert_eq!(tests[0]["test"]["name"], "test_login");
    assert_eq!(tests[0]["statistics"]["flips"], 1);
    assert!(tests[0]["lastTime"].is_string());
    let shown = home.muster(["flaky", "--limit", "5"]).expect(0);
    expect_words(&shown, &["33 %", "shop › test_login"]);
    let later = home.muster(["flaky", "--since", "2100-01-01T00:00:00Z"]);
    let later = later.expect(0);
    assert_eq!(later.stdout, "");
    assert!(
        later.stderr.contains("no test was flaky"),
        "{}",
        later.stderr
    );
}
