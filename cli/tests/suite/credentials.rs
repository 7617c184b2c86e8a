//! Credentials: they go in by a file or standard input, and never come out again.

use crate::home::Home;

const VALUE: &str = "hunter2-hunter2";

#[test]
fn a_value_goes_in_by_standard_input_or_a_file_and_runs_use_it() {
    let home = Home::new();
    let set = home.muster_with_input(["credentials", "set", "token"], &format!("{VALUE}\n"));
    let set = set.expect(0);
    assert_eq!(set.stdout, "");
    assert!(set.stderr.contains("stored token"), "{}", set.stderr);

    let key = home.write("key.pem", "-----BEGIN KEY-----\nx\n");
    let set = ["credentials", "set", "key", "--from-file", &key];
    let described = ["--description", "of the deployer", "-o", "json"];
    let set = home.muster(set.into_iter().chain(described)).expect(0);
    assert_eq!(set.json()["description"], "of the deployer");

    let list = home.muster(["credentials", "ls"]).expect(0);
    assert!(list.stdout.contains("token") && !list.stdout.contains(VALUE));
    let list = home.muster(["credentials", "ls", "-o", "json"]).expect(0);
    assert_eq!(list.json()["credentials"][0]["name"], "key");
    assert!(!list.stdout.contains(VALUE));

    let lines = format!(
        "steps:\n- run:\n    shell: |\n      test \"$T\" = {VALUE}\n      test \"$(printf %s \"$K\" | tail -1)\" = x\n    \
         env:\n    - {{name: T, value: '{{{{ credential(\"token\") }}}}'}}\n    \
         - {{name: K, value: '{{{{ credential(\"key\") }}}}'}}"
    );
    let file = home.workflow("uses", &lines);
    home.muster(["run", &file]).expect(0);

    let again = home.muster_with_input(
        [
            "credentials",
            "set",
            "token",
            "--from-file",
            "-",
            "-o",
            "json",
        ],
        "another",
    );
    assert_eq!(again.expect(0).json()["revision"], 2);
    home.muster(["run", &file]).expect(1);

    home.muster(["credentials", "delete", "token"]).expect(0);
    let run = home.muster(["run", &file]).expect(1);
    let told = format!("{}{}", run.stdout, run.stderr);
    assert!(told.contains("muster credentials set token"), "{told}");
    let gone = home.muster(["credentials", "delete", "token"]).expect(1);
    gone.expect_error(&["token"]);
}

#[test]
fn what_can_not_be_a_value_is_refused_before_anything_is_started() {
    let home = Home::new();
    home.muster(["credentials", "set", "token", VALUE])
        .expect(2);
    home.muster(["credentials", "set", "token"])
        .expect(2)
        .expect_error(&["standard input is empty"]);
    home.muster(["credentials", "set", "token", "--from-file", "nowhere"])
        .expect(2)
        .expect_error(&["nowhere"]);
    let long = home.write("long", &"x".repeat(70_000));
    home.muster(["credentials", "set", "token", "--from-file", &long])
        .expect(2)
        .expect_error(&["more than 65536 bytes"]);
    assert!(!home.data().exists(), "nothing was started");
    let file = home.write("value", VALUE);
    home.muster(["credentials", "set", "to:ken", "--from-file", &file])
        .expect(2)
        .expect_error(&["'to:ken' is not a name"]);
}
