//! Tests of the YAML reader.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    read_value(text, Limits::default()).unwrap()
}

fn refusal(text: &str) -> String {
    read(text, Limits::default()).unwrap_err().to_string()
}

#[test]
fn scalars_have_the_types_of_kubernetes() {
    let text = "a: 1\nb: '1'\nc: 0644\nd: 0o10\ne: 0x1F\nf: 1.50\ng: true\nh: yes\ni: ~\nj:\nk: 1.2.3\nl: -3\nm: 1e3\nn: !!str 5\no: '<<'\n";
    assert_eq!(
        value(text),
        json!({
            "a": 1, "b": "1", "c": 420, "d": 8, "e": 31, "f": 1.5, "g": true, "h": "yes",
            "i": null, "j": null, "k": "1.2.3", "l": -3, "m": 1000.0, "n": "5", "o": "<<"
        })
    );
}

#[test]
fn marks_name_line_and_column() {
    let documents = read("---\na:\n  - b: 1\n---\nc: 2\n", Limits::default()).unwrap();
    let item = documents[0].get("a").unwrap();
    let Content::List(items) = &item.content else {
        panic!("not a list")
    };
    assert_eq!(items[0].get("b").unwrap().mark, Mark { line: 3, column: 8 });
    assert_eq!(
        documents[1].get("c").unwrap().mark,
        Mark { line: 5, column: 4 }
    );
}

#[test]
fn empty_documents_are_left_out() {
    assert_eq!(read("", Limits::default()).unwrap(), []);
    assert_eq!(read("# only a comment\n", Limits::default()).unwrap(), []);
    assert_eq!(
        read("---\n---\na: 1\n---\n", Limits::default())
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn duplicate_keys_are_refused() {
    assert_eq!(
        refusal("a: 1\nb:\n  c: 1\n  c: 2\n"),
        "line 4, column 3: the key `c` is here twice: in line 3 and in line 4; keep one of them: \
         only one could count"
    );
    assert_eq!(
        refusal("a: {c: 1, c: 2}\n"),
        "line 1, column 11: the key `c` is twice in this line; keep one of them: only one could count"
    );
}

#[test]
fn text_that_is_not_yaml_gives_one_error_with_its_line() {
    let message = refusal("a: [1, 2\nb: }\n");
    assert!(message.starts_with("line "), "{message}");
    assert!(message.contains("not valid YAML"), "{message}");
    assert!(refusal("a: 1\n\tb: 2\n").contains("not valid YAML"));
}

#[test]
fn aliases_and_merge_keys_are_expanded() {
    assert_eq!(
        value("base: &base {a: 1, b: 2}\nuse: {<<: *base, b: 3}\nboth: {<<: [*base, {c: 4}]}\n"),
        json!({"base": {"a": 1, "b": 2}, "use": {"b": 3, "a": 1}, "both": {"a": 1, "b": 2, "c": 4}})
    );
    assert!(refusal("a: {<<: 5}\n").contains("`<<` merges a map"));
    assert!(refusal("a: &a [*a]\n").contains("alias"));
}

#[test]
fn billion_laughs_are_refused_within_the_limit() {
    let mut bomb = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for (before, after) in ('a'..'j').zip('b'..='j') {
        let items = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{after}: &{after} [{items}]\n"));
    }
    assert!(refusal(&bomb).contains("more than 100000 values"));
    let long = format!(
        "a: &a '{}'\nb: [{}]\n",
        "x".repeat(500_000),
        vec!["*a"; 1000].join(",")
    );
    assert!(refusal(&long).contains("more than 100000 values"));
}

#[test]
fn depth_and_size_are_limited() {
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    assert!(refusal(&deep).contains("nested deeper than 64 levels"));
    let aliased = format!(
        "a: &a {}1{}\nb: {}*a{}\n",
        "[".repeat(40),
        "]".repeat(40),
        "[".repeat(40),
        "]".repeat(40)
    );
    assert!(refusal(&aliased).contains("nested deeper than 64 levels"));
    let big = "a".repeat(1024 * 1024 + 1);
    assert_eq!(
        refusal(&big),
        "line 1, column 1: the file has 1048577 bytes, at most 1048576 are allowed"
    );
}

#[test]
fn unknown_tags_are_refused() {
    assert!(refusal("a: !include x\n").contains("tag"));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        drop(read(&text, Limits::default()));
    }

    #[test]
    fn no_text_like_yaml_panics(parts in proptest::collection::vec(
        prop::sample::select(vec![
            "a", ":", " ", "\n", "  ", "- ", "? ", "&a ", "*a", "[", "]", "{", "}", ",", "'", "\"",
            "|", ">", "---", "...", "#", "<<", "!!str ", "!x ", "%", "@", "\t", "\u{feff}", "\0", "é",
        ]), 0..60)) {
        drop(read(&parts.concat(), Limits::default()));
    }
}
