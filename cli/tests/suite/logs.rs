//! Each flag of `muster logs`, on one execution with steps, both streams, workers, services, long lines
//! and escapes.

use std::{
    fs::File,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::home::{Home, until};

/// Characters of a line that is longer than a chunk, each of three bytes.
const LONG: usize = 70_000;

const SPEC: &str = r#"
services:
  db: {count: 2, shell: "echo \"database at $MUSTER_ADDRESS\"; exec sleep 600"}
steps:
- name: Count
  shell: |
    for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i"; done
- name: Both
  shell: |
    echo "from stdout"; sleep 0.3
    echo "Warning from stderr" >&2; sleep 0.3
    printf 'half a line, '; sleep 0.3
    echo "between" >&2; sleep 0.3
    echo "and its end"
- name: Later
  shell: |
    sleep 1.5; echo "after a while"
- name: Work
  parallel:
    count: 3
    shell: echo "worker {{ index }} says hello"
- name: Long
  shell: |
    printf '€%.0s' $(seq 70000); echo; echo "after the long one"
- name: Escapes
  shell: |
    printf '\033[31mred\033[0m \033]0;title\007\033[2Jrest\n'
"#;

/// An execution that is over, and what its whole log is.
struct Run {
    home: Home,
    whole: String,
}

impl Run {
    fn new() -> Self {
        let home = Home::new();
        let path = home.workflow("all", SPEC);
        home.muster(["run", &path, "--quiet"]).expect(0);
        let whole = home.muster(["logs", "all-1"]).expect(0).stdout;
        Self { home, whole }
    }

    /// What a command with these flags prints.
    #[track_caller]
    fn logs(&self, flags: &[&str]) -> String {
        let line = [&["logs", "all-1"], flags].concat();
        self.home.muster(line).expect(0).stdout
    }

    /// The objects that it prints.
    #[track_caller]
    fn objects(&self, flags: &[&str]) -> Vec<Value> {
        let text = self.logs(&[flags, &["-o", "json"]].concat());
        let objects = text.lines().map(|line| serde_json::from_str(line).unwrap());
        objects.collect()
    }

    #[track_caller]
    fn refused(&self, flags: &[&str], code: i32, words: &[&str]) {
        let line = [&["logs", "all-1"], flags].concat();
        let done = self.home.muster(line).expect(code);
        assert_eq!(done.stdout, "");
        for word in words {
            assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
        }
    }

    /// The number of the one line with this text, from 1.
    fn number(&self, text: &str) -> usize {
        1 + self.whole.lines().position(|line| line == text).unwrap()
    }
}

fn text(object: &Value) -> &str {
    object["text"].as_str().unwrap()
}

fn texts(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(text).collect()
}

#[test]
fn each_flag_chooses_what_it_says() {
    let run = Run::new();
    lines_and_ranges(&run);
    bytes(&run);
    searches(&run);
    steps_streams_and_children(&run);
    times(&run);
    objects(&run);
    attempts_and_following(&run);
    escapes(&run);
}

fn lines_and_ranges(run: &Run) {
    let all: Vec<&str> = run.whole.split_inclusive('\n').collect();
    let count = all.len();
    assert!(count > 15, "{}", run.whole.len());
    assert_eq!(run.logs(&["--tail", "2"]), all[count - 2..].concat());
    assert_eq!(run.logs(&["--tail", "0"]), "");
    assert_eq!(run.logs(&["--tail", "1000000"]), run.whole);
    assert_eq!(run.logs(&["--lines", "3"]), all[2]);
    assert_eq!(run.logs(&["--lines", "3:6"]), all[2..6].concat());
    assert_eq!(run.logs(&["--lines", ":6"]), all[..6].concat());
    let last = format!("{}:", count - 1);
    assert_eq!(run.logs(&["--lines", &last]), all[count - 2..].concat());
    assert_eq!(run.logs(&["--lines", "100000:"]), "");
    run.refused(&["--lines", "6:3"], 2, &["before the first"]);
    run.refused(
        &["--tail", "1", "--lines", "3"],
        2,
        &["cannot be used with"],
    );

    let timed = run.logs(&["--timestamps"]);
    assert_eq!(timed.lines().count(), count);
    for (timed, line) in timed.lines().zip(run.whole.lines()) {
        let (time, rest) = timed.split_once(' ').unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        assert_eq!(rest, line);
    }
}

fn bytes(run: &Run) {
    let all = run.whole.as_bytes();
    let place = run.whole.find("line 7").unwrap();
    let (from, to) = (place.to_string(), (place + 6).to_string());
    assert_eq!(run.logs(&["--bytes", &format!("{from}:{to}")]), "line 7");
    let head = run.logs(&["--bytes", &format!(":{from}")]);
    let tail = run.logs(&["--bytes", &format!("{from}:")]);
    assert_eq!(head.as_bytes(), &all[..place]);
    assert_eq!(head + &tail, run.whole);
    // Across chunks and segments, by sizes with a unit.
    let far = run.logs(&["--bytes", "64KiB:128KiB"]);
    assert!(far.contains("€€€"));
    let whole = String::from_utf8_lossy(&all[64 << 10..128 << 10]);
    assert!(far == whole, "the same bytes");
    assert_eq!(run.logs(&["--bytes", "1GiB:"]), "");
    let followed = run.logs(&["--bytes", &format!("{from}:{to}"), "-f"]);
    assert_eq!(followed, "line 7");
    let object = run.objects(&["--bytes", &format!("{from}:{to}")]);
    assert_eq!(texts(&object), ["line 7"]);
    assert_eq!(object[0]["offset"], place);
    for words in [&["--tail", "1"][..], &["--lines", "1"], &["--grep", "x"]] {
        let flags = [&["--bytes", "0:5"], words].concat();
        run.refused(&flags, 2, &["cannot be used with"]);
    }
    run.refused(&["--bytes", "5"], 2, &["500:2MiB"]);
    run.refused(&["--bytes", "5:5"], 2, &["not behind"]);
}

fn searches(run: &Run) {
    let (third, ninth) = (run.number("line 3"), run.number("line 9"));
    let found = run.logs(&["--grep", "^line [39]$"]);
    assert_eq!(found, format!("{third}:line 3\n--\n{ninth}:line 9\n"));
    let around = run.logs(&["--grep", "line 3", "-C", "1"]);
    let expected = format!(
        "{}-line 2\n{third}:line 3\n{}-line 4\n",
        third - 1,
        third + 1
    );
    assert_eq!(around, expected);
    let before = run.logs(&["--grep", "line 3", "-B", "2"]);
    assert_eq!(before.lines().count(), 3, "{before}");
    let after = run.logs(&["--grep", "line 3", "-A", "3"]);
    assert_eq!(after.lines().count(), 4, "{after}");
    let two = run.logs(&["--grep", "line", "-m", "2"]);
    assert_eq!(two.lines().count(), 2, "{two}");
    let any_case = run.logs(&["--grep", "WARNING FROM", "--ignore-case"]);
    assert!(any_case.ends_with(":Warning from stderr\n"), "{any_case}");
    let timed = run.logs(&["--grep", "line 3", "--timestamps"]);
    assert!(timed.starts_with(&format!("{third}:2")), "{timed}");
    assert!(timed.ends_with("Z line 3\n"), "{timed}");
    run.refused(&["--grep", "line", "--stream", "stderr"], 1, &[]);
    run.refused(&["--grep", "WARNING FROM"], 1, &[]);
    run.refused(&["--grep", "("], 2, &["grep"]);
    run.refused(&["-C", "1"], 2, &["--grep"]);

    // A line of several chunks is one line.
    let long = run.logs(&["--grep", "€€"]);
    let number = run.number("after the long one") - 1;
    assert!(long == format!("{number}:{}\n", "€".repeat(LONG)));
    let objects = run.objects(&["--grep", "€€"]);
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0]["line"], number);
    assert!(text(&objects[0]) == "€".repeat(LONG) + "\n");
    let objects = run.objects(&["--grep", "line 3", "-C", "1"]);
    let contexts: Vec<_> = objects.iter().map(|it| it["context"] == true).collect();
    assert_eq!(contexts, [true, false, true]);
}

fn steps_streams_and_children(run: &Run) {
    let errors = run.logs(&["--stream", "stderr"]);
    assert_eq!(errors, "Warning from stderr\nbetween\n");
    let both = run.logs(&["--stream", "stderr", "--stream", "stdout", "--step", "Both"]);
    let expected = "from stdout\nWarning from stderr\nhalf a line, between\nand its end\n";
    assert_eq!(both, expected);
    let remarks = run.objects(&["--stream", "system"]);
    assert!(remarks.iter().all(|it| it["stream"] == "system"));
    let count: String = (1..=10).map(|number| format!("line {number}\n")).collect();
    let step = run.objects(&["--step", "Count", "--stream", "stdout"]);
    assert_eq!(texts(&step).concat(), count);
    let reference = step[0]["step"].as_str().unwrap();
    let same = run.logs(&["--step", reference, "--stream", "stdout"]);
    assert_eq!(same, count, "by its reference");
    run.refused(&["--step", "None"], 2, &["has no step 'None'", "Count"]);

    for index in ["0", "2"] {
        let worker = run.logs(&["--worker", index, "--stream", "stdout"]);
        assert_eq!(worker, format!("worker {index} says hello\n"));
    }
    run.refused(&["--worker", "3"], 2, &["no such child", "worker"]);
    let first = run.logs(&["--service", "db/0", "--stream", "stdout"]);
    let second = run.logs(&["--service", "db/1", "--stream", "stdout"]);
    assert!(first.starts_with("database at 127."), "{first}");
    assert!(second.starts_with("database at 127.") && first != second);
    run.refused(
        &["--service", "db"],
        2,
        &["has several of them", "all-1.db.0"],
    );
    run.refused(&["--service", "none"], 2, &["no such child"]);
}

fn times(run: &Run) {
    let later = run.objects(&["--step", "Later", "--stream", "stdout"]);
    assert_eq!(texts(&later), ["after a while\n"]);
    let time = later[0]["time"].as_str().unwrap();
    let since = run.logs(&["--since", time]);
    assert!(since.contains("after a while\n") && since.contains("after the long one\n"));
    assert!(!since.contains("and its end\n"));
    let until = run.logs(&["--until", time]);
    assert!(until.contains("and its end\n") && !until.contains("after a while\n"));
    assert!(
        until + &since == run.whole,
        "one ends where the other begins"
    );
    assert_eq!(run.logs(&["--until", "2h"]), "");
    run.refused(&["--since", time, "--until", "2h"], 2, &["end_time"]);
    assert_eq!(run.logs(&["--since", "2h"]).len(), run.whole.len());
    run.refused(&["--since", "yesterday"], 2, &["5m"]);
}

fn objects(run: &Run) {
    let all = run.objects(&[]);
    let texts = texts(&all);
    assert!(texts.iter().all(|text| !text.contains('\u{fffd}')));
    let long = "€".repeat(LONG) + "\n";
    assert!(texts.contains(&long.as_str()), "a line of several chunks");
    // A stream has lines of its own, also when another comes between.
    assert!(texts.contains(&"half a line, and its end\n") && texts.contains(&"between\n"));
    for object in &all {
        assert!(object["time"].is_string() && object["step"].is_string());
        assert_eq!(object.get("continues"), None);
        let text = text(object);
        if text.starts_with("half") {
            continue;
        }
        let at = usize::try_from(object["offset"].as_u64().unwrap()).unwrap();
        assert!(run.whole[at..].starts_with(text), "{at}: {text}");
    }
    let size: usize = texts.iter().map(|text| text.len()).sum();
    assert_eq!(size, run.whole.len(), "each byte once");
}

fn attempts_and_following(run: &Run) {
    assert!(run.logs(&["--attempt", "1"]) == run.whole);
    run.refused(&["--attempt", "9"], 1, &["attempt"]);
    assert!(run.logs(&["-f"]) == run.whole);
    run.refused(&["--attempt", "0"], 2, &["--attempt"]);
}

/// `muster` on a terminal that `script` makes, which is a part of Debian's base.
struct OnTerminal {
    script: Child,
    printed: PathBuf,
}

impl OnTerminal {
    /// Starts it; `None` where there is no such program.
    fn start(home: &Home, line: &str) -> Option<Self> {
        let printed = home.path().join(".terminal");
        let script = Command::new("script")
            .args([
                "-qec",
                &format!("'{}' {line}", env!("CARGO_BIN_EXE_muster")),
            ])
            .arg("/dev/null")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .env("TERM", "xterm")
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(File::create(&printed).unwrap())
            .spawn();
        let Ok(script) = script else {
            eprintln!("skipped: there is no program `script` that makes a terminal");
            return None;
        };
        Some(Self { script, printed })
    }

    fn printed(&self) -> String {
        let bytes = std::fs::read(&self.printed).unwrap();
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.script.id()).unwrap();
        rustix::process::kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end; returns what it has printed.
    fn wait(mut self) -> String {
        until("the command on the terminal ends", || {
            match self.script.try_wait().unwrap() {
                Some(_) => Ok(()),
                None => Err(self.printed().chars().rev().take(500).collect()),
            }
        });
        self.printed()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

fn escapes(run: &Run) {
    let raw = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jrest";
    let piped = run.logs(&["--step", "Escapes", "--stream", "stdout"]);
    assert_eq!(piped, format!("{raw}\n"), "untouched into a pipe");
    let line = "logs all-1 --step Escapes --stream stdout";
    let Some(terminal) = OnTerminal::start(&run.home, line) else {
        return;
    };
    let filtered = terminal.wait();
    assert!(
        filtered.contains("\x1b[31mred\x1b[0m rest\n"),
        "{filtered:?}"
    );
    assert!(!filtered.contains("\x1b]0;") && !filtered.contains("\x1b[2J"));
    let terminal = OnTerminal::start(&run.home, &format!("{line} --raw"));
    let left = terminal.unwrap().wait();
    assert!(left.contains(raw), "{left:?}");
}

#[test]
fn a_slow_terminal_is_told_how_to_read_what_it_has_missed() {
    let home = Home::new();
    // Steps do not see what becomes of files outside: they wait for a word of this test.
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gate.local_addr().unwrap().port();
    let open = || writeln!(gate.accept().unwrap().0, "go").unwrap();
    let path = home.workflow(
        "many",
        &format!(
            "steps:\n- shell: |\n    wait_for() {{ bash -c 'read go < /dev/tcp/127.0.0.1/{port}'; }}\n    \
             echo begin; wait_for\n    seq 1 6000000; wait_for; echo over"
        ),
    );
    let run = home.start(["run", &path, "--quiet"]);
    until("it has begun", || {
        let begun = home.muster(["logs", "many-1"]).stdout;
        begun.contains("begin\n").then_some(()).ok_or(begun)
    });
    let Some(terminal) = OnTerminal::start(&home, "logs many-1 --follow") else {
        return;
    };
    until("it is followed", || {
        let printed = terminal.printed();
        printed.contains("begin\n").then_some(()).ok_or(printed)
    });
    terminal.signal(Signal::STOP);
    open();
    until("the server has it", || {
        let last = home.muster(["logs", "many-1", "--tail", "1"]).stdout;
        last.contains("6000000").then_some(()).ok_or(last)
    });
    terminal.signal(Signal::CONT);
    open();
    run.wait().expect(0);
    let printed = terminal.wait();
    let whole = home.muster(["logs", "many-1"]).expect(0).stdout;

    let warning = printed.lines().find(|line| line.contains("skipped "));
    let warning = warning.expect("more was missed than a reader may be behind");
    let (_, command) = warning.split_once("to read them: muster ").unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    let [.., "--bytes", range] = words[..] else {
        panic!("{command}");
    };
    let (from, to) = range.split_once(':').unwrap();
    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
    assert!(to - from > 1 << 20, "{range}");
    let missed = home.muster(&words).expect(0).stdout;
    assert!(missed == whole[from..to], "the bytes between");
    // It may stand behind a part of a line.
    let (before, after) = printed.split_once("skipped ").unwrap();
    assert!(before.contains(whole[..from].trim_end()));
    assert!(after.contains(whole[to..].trim_end()));
}
