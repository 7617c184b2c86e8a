//! What instances a strategy gives, and what is refused.

use std::time::Instant;

use super::*;
use crate::expression::{NoScope, Variables};

fn strategy(value: Value) -> plan::Strategy {
    serde_json::from_value(value).expect("a strategy")
}

fn instances(value: Value) -> Instances {
    Instances::resolve(&strategy(value), &NoScope).expect("instances")
}

fn variable(instances: &Instances, name: &str) -> Vec<Value> {
    (0..instances.len())
        .map(|index| instances.get(index).expect("one").variables[name].clone())
        .collect()
}

#[test]
fn nothing_said_is_one_instance() {
    let one = instances(json!({"matrix": {}, "shards": {}}));
    assert_eq!(one.len(), 1);
    let one = one.get(0).expect("one");
    assert_eq!(
        Value::Object(one.variables),
        json!({
            "index": 0, "count": 1,
            "matrixIndex": 0, "matrixCount": 1, "shardIndex": 0, "shardCount": 1,
        })
    );
    assert_eq!(one.label, "");
}

#[test]
fn a_matrix_is_all_combinations_and_the_last_name_changes_fastest() {
    let all = instances(json!({"matrix": {"a": ["x", "y"], "b": [1, 2, 3]}, "shards": {}}));
    assert_eq!(all.len(), 6);
    assert_eq!(
        variable(&all, "matrix")[..4],
        [
            json!({"a": "x", "b": 1}),
            json!({"a": "x", "b": 2}),
            json!({"a": "x", "b": 3}),
            json!({"a": "y", "b": 1}),
        ]
    );
    assert_eq!(variable(&all, "matrixIndex")[5], 5);
    assert_eq!(all.get(4).expect("one").label, "a=y, b=2");
}

#[test]
fn shards_differ_in_length_by_no_more_than_one_and_lose_nothing() {
    for (values, count) in [(10, 3), (3, 3), (2, 5), (0, 2), (100, 7)] {
        let list: Vec<usize> = (0..values).collect();
        let all =
            instances(json!({"count": count.to_string(), "matrix": {}, "shards": {"f": list}}));
        let parts: Vec<Vec<Value>> = variable(&all, "shard")
            .into_iter()
            .map(|shard| shard["f"].as_array().expect("a list").clone())
            .collect();
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        let spread = lengths.iter().max().expect("some") - lengths.iter().min().expect("some");
        assert!(spread <= 1, "{lengths:?}");
        let joined: Vec<Value> = parts.concat();
        assert_eq!(Value::Array(joined), json!(list));
    }
}

#[test]
fn a_cap_gives_way_to_the_values_there_are() {
    let all = |value: Value| instances(value).len();
    assert_eq!(
        all(json!({"maxCount": "5", "matrix": {}, "shards": {"f": [1, 2, 3]}})),
        3
    );
    assert_eq!(
        all(json!({"maxCount": "2", "matrix": {}, "shards": {"f": [1, 2, 3]}})),
        2
    );
    assert_eq!(all(json!({"maxCount": "4", "matrix": {}, "shards": {}})), 4);
    assert_eq!(
        all(json!({"count": "7", "maxCount": "4", "matrix": {}, "shards": {}})),
        4
    );
    assert_eq!(all(json!({"count": "0", "matrix": {}, "shards": {}})), 0);
    assert_eq!(all(json!({"matrix": {"a": []}, "shards": {}})), 0);
    let both = json!({"count": "2", "matrix": {"a": [1, 2, 3]}, "shards": {"f": [1, 2]}});
    assert_eq!(all(both), 6);
}

#[test]
fn lists_and_numbers_may_be_expressions() {
    let mut scope = Variables::new();
    scope.set("config.workers", 3);
    scope.set("config.names", json!(["a", "b"]));
    let wanted = strategy(json!({
        "count": "config.workers",
        "matrix": {"name": "config.names", "other": ["{{ config.workers }}-x"]},
        "shards": {},
    }));
    let all = Instances::resolve(&wanted, &scope).expect("instances");
    assert_eq!(all.len(), 6);
    assert_eq!(
        variable(&all, "matrix")[0],
        json!({"name": "a", "other": "3-x"})
    );
    let early = Instances::resolve(&wanted, &NoScope);
    assert!(matches!(early, Err(Error::Unknown(_))), "{early:?}");
}

#[test]
fn what_is_no_list_or_number_is_named() {
    for (value, part) in [
        (
            json!({"count": "'x'", "matrix": {}, "shards": {}}),
            "count: expected a whole number",
        ),
        (
            json!({"count": "0-1", "matrix": {}, "shards": {}}),
            "count: expected a whole number",
        ),
        (
            json!({"matrix": {"a": "'x'"}, "shards": {}}),
            "matrix.a: expected a list",
        ),
        (
            json!({"matrix": {}, "shards": {"b": "5"}}),
            "shards.b: expected a list",
        ),
    ] {
        let error = Instances::resolve(&strategy(value), &NoScope).expect_err("it is wrong");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_matrix_of_a_million_is_refused_at_once() {
    let list: Vec<usize> = (0..100).collect();
    let wide = json!({"matrix": {"a": list, "b": list, "c": list}, "shards": {}});
    let started = Instant::now();
    let error = Instances::resolve(&strategy(wide), &NoScope).expect_err("too many");
    assert!(error.to_string().contains("1000000 instances"), "{error}");
    assert!(started.elapsed().as_secs() < 5);
}

/// Times by value.
fn times(known: &[(&str, u64)]) -> HashMap<String, u64> {
    let known = known.iter();
    known
        .map(|(text, time)| ((*text).to_owned(), *time))
        .collect()
}

#[test]
fn balanced_shards_take_about_as_long_and_say_so() {
    let mut all = instances(json!({
        "count": "2", "matrix": {}, "shards": {"files": ["a", "b", "c", "d", "e"]}, "balance": "duration",
    }));
    // `d` and `e` are new: they take the median, 20 s.
    let known = times(&[("a", 10_000), ("b", 90_000), ("c", 20_000), ("x", 500_000)]);
    let estimate = all.balance(&known).expect("times are known");
    assert_eq!((estimate.known, estimate.values), (3, 5));
    assert_eq!(estimate.shortest, Duration::from_secs(70));
    assert_eq!(estimate.longest, Duration::from_secs(90));
    assert_eq!(
        variable(&all, "shard"),
        [
            json!({"files": ["b"]}),
            json!({"files": ["a", "c", "d", "e"]})
        ]
    );
    let label = |index| all.get(index).expect("one").label;
    assert_eq!(label(0), "shard 1 of 2: 1 files, about 1m30s");
    assert_eq!(label(1), "shard 2 of 2: 4 files, about 1m10s");
}

#[test]
fn without_times_shards_are_split_evenly() {
    let even = instances(json!({"count": "2", "matrix": {}, "shards": {"f": ["a", "b", "c"]}}));
    let mut same = even.clone();
    assert_eq!(same.balance(&times(&[("x", 5)])), None);
    assert_eq!(same, even);
    let mut one = instances(json!({"matrix": {}, "shards": {"f": ["a"]}}));
    assert_eq!(one.balance(&times(&[("a", 5)])), None, "there is one part");
}

#[test]
fn each_combination_of_a_matrix_has_the_same_balanced_shards() {
    let mut all = instances(json!({
        "count": "2", "matrix": {"m": [1, 2]}, "shards": {"f": [7, "b", 7], "g": ["b"]},
    }));
    assert_eq!(all.shard_values(), ["7", "b"]);
    all.balance(&times(&[("7", 10), ("b", 30)])).expect("times");
    let shards = variable(&all, "shard");
    assert_eq!(shards[0], json!({"f": ["b"], "g": []}));
    assert_eq!(shards[1], json!({"f": [7, 7], "g": ["b"]}));
    assert_eq!(shards[..2], shards[2..]);
}
