//! What must never go, whatever was chosen.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DAY: u64 = 24 * 3600 * 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn unit(state: State, finish: i64) -> Unit {
    Unit {
        state,
        finish_time: Some(at(finish)),
        log_bytes: 10,
        artifact_bytes: 0,
        pinned: false,
        has_logs: true,
        has_artifacts: true,
    }
}

fn judge_all(policy: Retention, units: &[Unit]) -> Vec<Verdict> {
    let mut judge = Judge::new(policy, false, at(100 * 24 * 3600));
    units.iter().map(|unit| judge.judge(unit)).collect()
}

#[test]
fn the_newest_of_each_kind_outlive_every_limit() {
    let units = [
        unit(State::Canceled, 9),
        unit(State::Passed, 8),
        unit(State::Failed, 7),
        unit(State::Passed, 6),
        unit(State::TimedOut, 5),
    ];
    assert_eq!(
        judge_all(Retention::DEFAULT, &units),
        [
            Verdict::Keep(Keep::Newest),
            Verdict::Keep(Keep::LastPass),
            Verdict::Keep(Keep::LastFailure),
            Verdict::Delete(Limit::Age),
            Verdict::Delete(Limit::Age),
        ]
    );
}

#[test]
fn count_and_size_are_of_the_newest() {
    let units = vec![unit(State::Passed, 99 * 24 * 3600); 5];
    let policy = Retention {
        max_count: Some(3),
        ..Retention::default()
    };
    let kept = judge_all(policy, &units);
    assert_eq!(kept[2], Verdict::Keep(Keep::Within));
    assert_eq!(kept[3], Verdict::Delete(Limit::Count));
    let policy = Retention {
        max_bytes: Some(20),
        ..Retention::default()
    };
    let kept = judge_all(policy, &units);
    assert_eq!(kept[1], Verdict::Keep(Keep::Within));
    assert_eq!(kept[2], Verdict::Delete(Limit::Size));
}

#[test]
fn logs_and_artifacts_may_go_before_their_row_and_only_once() {
    let policy = Retention {
        log_age_ms: Some(DAY),
        artifact_age_ms: Some(3 * DAY),
        ..Retention::default()
    };
    let mut old = unit(State::Passed, 98 * 24 * 3600);
    let units = [old.clone(), old.clone()];
    let trim = Verdict::Trim {
        logs: true,
        artifacts: false,
    };
    assert_eq!(judge_all(policy, &units)[1], trim);
    old.has_logs = false;
    let units = [old.clone(), old];
    assert_eq!(judge_all(policy, &units)[1], Verdict::Keep(Keep::Within));
}

#[test]
fn a_clock_that_went_back_deletes_nothing_by_age() {
    let units = vec![unit(State::Passed, 200 * 24 * 3600); 3];
    assert_eq!(
        judge_all(Retention::DEFAULT, &units)[2],
        Verdict::Keep(Keep::Within)
    );
}

#[test]
fn the_nearer_choice_wins_field_by_field_and_none_is_a_choice() {
    let workflow = Retention {
        max_age_ms: Some(0),
        ..Retention::default()
    };
    let project = Retention {
        max_age_ms: Some(DAY),
        max_count: Some(7),
        ..Retention::default()
    };
    let both = workflow.over(project);
    assert_eq!((both.max_age_ms, both.max_count), (Some(0), Some(7)));
}

#[test]
fn choices_are_read_as_people_write_them() {
    assert_eq!(text::age("14d"), Ok(14 * DAY));
    assert_eq!(text::age("2w"), Ok(14 * DAY));
    assert_eq!(text::age("none"), Ok(0));
    assert_eq!(text::count("500"), Ok(500));
    assert_eq!(text::bytes("20GiB"), Ok(20 << 30));
    for wrong in ["", "0d", "-1d", "1.5d", "14", "d", "99999999999w", "1s"] {
        assert!(text::age(wrong).is_err(), "{wrong}");
    }
    for wrong in ["0", "x", "-1", ""] {
        assert!(text::count(wrong).is_err(), "{wrong}");
        assert!(text::bytes(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn annotations_of_others_say_nothing_and_misspelt_ones_are_refused() {
    let read = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        text::annotations(&pairs.collect::<BTreeMap<_, _>>())
    };
    let chosen = read(&[("muster.dev/keep-age", "1d"), ("example.com/keep-age", "x")]);
    assert_eq!(chosen.expect("it is good").max_age_ms, Some(DAY));
    let wrong = read(&[("muster.dev/keep-ages", "1d")]).expect_err("there is none");
    assert!(wrong.to_string().contains("keep-artifacts"), "{wrong}");
    let wrong = read(&[("muster.dev/keep-age", "soon")]).expect_err("no age");
    assert!(wrong.to_string().contains("14d"), "{wrong}");
}

fn any_unit() -> impl Strategy<Value = Unit> {
    (
        prop::sample::select(State::ALL.to_vec()),
        prop::option::of(0..200_i64 * 24 * 3600),
        0..1000_u64,
        any::<bool>(),
        any::<(bool, bool)>(),
    )
        .prop_map(|(state, finish, bytes, pinned, (logs, artifacts))| Unit {
            finish_time: finish.map(at),
            log_bytes: bytes,
            artifact_bytes: bytes / 2,
            pinned,
            has_logs: logs,
            has_artifacts: artifacts,
            state,
        })
}

fn any_policy() -> impl Strategy<Value = Retention> {
    let limit = || prop::option::of(prop_oneof![0..5_u64, 0..200 * DAY]);
    (limit(), limit(), limit(), limit(), limit()).prop_map(|(age, count, bytes, log, artifact)| {
        Retention {
            max_age_ms: age,
            max_count: count,
            max_bytes: bytes,
            log_age_ms: log,
            artifact_age_ms: artifact,
        }
    })
}

proptest! {
    #[test]
    fn what_must_be_kept_is_kept_whatever_was_chosen(
        units in prop::collection::vec(any_unit(), 0..40),
        policy in any_policy(),
        held in any::<bool>(),
        now in 0..300_i64 * 24 * 3600,
    ) {
        let mut judge = Judge::new(policy, held, at(now));
        let verdicts: Vec<_> = units.iter().map(|unit| judge.judge(unit)).collect();
        let ended = |unit: &&Unit| unit.finish_time.is_some();
        let first = |wanted: &dyn Fn(&Unit) -> bool| {
            units.iter().filter(ended).position(wanted)
        };
        let over: Vec<_> = units.iter().zip(&verdicts).filter(|(unit, _)| ended(unit)).collect();
        let always = [
            first(&|_| true),
            first(&|unit| unit.state == State::Passed),
            first(&|unit| matches!(unit.state, State::Failed | State::TimedOut)),
        ];
        for index in always.into_iter().flatten() {
            prop_assert!(matches!(over[index].1, Verdict::Keep(_)));
        }
        for (unit, verdict) in units.iter().zip(&verdicts) {
            let must = held || unit.pinned || unit.finish_time.is_none() || !unit.state.is_terminal();
            prop_assert!(!must || matches!(verdict, Verdict::Keep(_)), "{:?}", unit);
            if let Verdict::Trim { logs, artifacts } = verdict {
                prop_assert!(logs <= &unit.has_logs && artifacts <= &unit.has_artifacts);
            }
        }
    }
}
