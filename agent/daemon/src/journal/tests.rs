//! The journal through crashes: what was said to be begun stays, what was forgotten stays away.

use std::{collections::BTreeMap, fs, path::PathBuf};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn id(number: u8) -> AttemptId {
    Uuid::from_u128(u128::from(number) + 1).into()
}

fn entry(number: u8) -> Entry {
    Entry {
        attempt: id(number),
        epoch: i64::from(number),
        stop_after: number
            .is_multiple_of(2)
            .then(|| Duration::from_millis(u64::from(number) * 1500)),
        begun: false,
    }
}

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state/agent.journal");
        Self {
            _directory: directory,
            path,
        }
    }

    fn open(&self) -> Journal {
        Journal::open(&self.path).expect("it can be read")
    }
}

/// The same as the journal holds, by attempt: whether it has begun.
fn held(journal: &Journal) -> BTreeMap<AttemptId, bool> {
    let entries = journal.entries().into_iter();
    entries.map(|entry| (entry.attempt, entry.begun)).collect()
}

fn length(journal: &Journal) -> u64 {
    journal.lock().log.as_ref().map_or(0, Log::length)
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Receive(u8),
    Begin(u8),
    Found(u8),
    Forget(u8),
}

fn change() -> impl Strategy<Value = Change> {
    (0..4u8, 0..6u8).prop_map(|(kind, number)| match kind {
        0 => Change::Receive(number),
        1 => Change::Begin(number),
        2 => Change::Found(number),
        _ => Change::Forget(number),
    })
}

fn apply(journal: &Journal, model: &mut BTreeMap<AttemptId, bool>, change: Change) {
    match change {
        Change::Receive(number) => {
            journal.receive(entry(number)).expect("it is writable");
            model.entry(id(number)).or_insert(false);
        }
        Change::Begin(number) => {
            match journal.begin(entry(number)) {
                Ok(()) => {}
                Err(failure) => assert_eq!(failure, Failure::BegunBefore),
            }
            model.insert(id(number), true);
        }
        Change::Found(number) => {
            journal.found(entry(number)).expect("it is writable");
            model.insert(id(number), true);
        }
        Change::Forget(number) => {
            journal.forget(id(number)).expect("it is writable");
            model.remove(&id(number));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_crash_at_any_byte_leaves_what_was_whole_by_then(
        lives in prop::collection::vec((prop::collection::vec(change(), 0..30), 0.0..=1.0_f64), 1..4),
    ) {
        let place = Place::new();
        let mut model = BTreeMap::new();
        for (changes, cut) in lives {
            let journal = place.open();
            prop_assert_eq!(&held(&journal), &model);
            // What the file holds at each length that it had.
            let mut past = vec![(length(&journal), model.clone())];
            for change in changes {
                apply(&journal, &mut model, change);
                prop_assert_eq!(&held(&journal), &model);
                past.push((length(&journal), model.clone()));
            }
            drop(journal);
            // Everything behind the first length may be cut off, in the middle of a line too.
            let (first, last) = (past[0].0, length_of(&place));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "it is small and not negative")]
            let at = first + ((last - first) as f64 * cut) as u64;
            let file = fs::OpenOptions::new().write(true).open(&place.path).expect("it is there");
            file.set_len(at).expect("it is writable");
            let whole = past.iter().rev().find(|(length, _)| *length <= at);
            model.clone_from(&whole.expect("the first one is whole").1);
        }
        prop_assert_eq!(&held(&place.open()), &model);
    }

    #[test]
    fn bytes_that_nobody_wrote_are_no_entries_and_hide_none(
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let place = Place::new();
        place.open().begin(entry(1)).expect("it is writable");
        let mut bytes = fs::read(&place.path).expect("it is there");
        bytes.extend(noise);
        bytes.push(b'\n');
        Record::Begun(entry(2)).write(&mut bytes);
        fs::write(&place.path, bytes).expect("it is writable");
        let expected = BTreeMap::from([(id(1), true), (id(2), true)]);
        prop_assert_eq!(held(&place.open()), expected);
    }
}

fn length_of(place: &Place) -> u64 {
    fs::metadata(&place.path).expect("it is there").len()
}

#[test]
fn a_journal_stays_short_and_loses_nothing_by_that() {
    let place = Place::new();
    let journal = place.open();
    journal.begin(entry(0)).expect("it is writable");
    let mut longest = 0;
    for number in (0..80).flat_map(|_round| 1..6) {
        journal.begin(entry(number)).expect("it is writable");
        journal.forget(id(number)).expect("it is writable");
        longest = longest.max(length(&journal));
    }
    journal.begin(entry(9)).expect("it is writable");
    assert!(longest < 60_000, "{longest} bytes");
    // A new file that was cut short is never seen.
    fs::write(place.path.with_extension("draft"), b"half a li").expect("it is writable");
    let expected = BTreeMap::from([(id(0), true), (id(9), true)]);
    assert_eq!(held(&place.open()), expected);
}

#[test]
fn what_an_earlier_process_has_begun_is_not_begun_again() {
    let place = Place::new();
    let journal = place.open();
    journal.begin(entry(1)).expect("it is writable");
    journal.begin(entry(1)).expect("the same process may go on");
    journal.receive(entry(2)).expect("it is writable");
    let again = place.open();
    assert_eq!(again.begin(entry(1)), Err(Failure::BegunBefore));
    again.begin(entry(2)).expect("nothing was made for it");
    let kept = again.entries();
    let stop_after = kept.iter().map(|entry| entry.stop_after);
    assert!(stop_after.eq([None, Some(Duration::from_secs(3))]));
}

#[test]
fn an_older_process_writes_nothing_once_a_newer_one_has_opened_the_journal() {
    let place = Place::new();
    let older = place.open();
    older.receive(entry(1)).expect("it is writable");
    let newer = place.open();
    assert_eq!(older.begin(entry(1)), Err(Failure::TakenOver));
    assert_eq!(*older.condition().borrow(), Condition::TakenOver);
    newer.begin(entry(1)).expect("it is the newer one's now");
    assert_eq!(older.repair(), Err(Failure::TakenOver));
    assert_eq!(held(&place.open()), BTreeMap::from([(id(1), true)]));
}

/// Something that is no file in the journal's place; also root can not write to it.
fn break_it(place: &Place) -> PathBuf {
    let aside = place.path.with_extension("aside");
    fs::rename(&place.path, &aside).expect("it is there");
    fs::create_dir(&place.path).expect("the place is free");
    aside
}

#[test]
fn what_can_not_be_written_is_not_begun_and_is_again_when_it_can() {
    let place = Place::new();
    let journal = place.open();
    journal.begin(entry(1)).expect("it is writable");
    let aside = break_it(&place);
    assert!(matches!(
        journal.begin(entry(2)),
        Err(Failure::Unwritable(_))
    ));
    assert!(journal.failing().is_some());
    assert!(matches!(
        journal.receive(entry(3)),
        Err(Failure::Unwritable(_))
    ));
    // What ends meanwhile is written when that can be done again.
    assert!(journal.forget(id(1)).is_err());
    assert!(journal.repair().is_err());
    fs::remove_dir(&place.path).expect("it is empty");
    fs::rename(&aside, &place.path).expect("the place is free");
    journal.repair().expect("it is writable again");
    assert_eq!(journal.failing(), None);
    journal.begin(entry(2)).expect("it is writable again");
    assert_eq!(held(&place.open()), BTreeMap::from([(id(2), true)]));
}

#[test]
fn a_journal_that_could_not_be_written_at_the_start_is_read_again_first() {
    let place = Place::new();
    let older = place.open();
    older.begin(entry(1)).expect("it is writable");
    // The new file can not be made: what is in its place is no file.
    let draft = place.path.with_extension("draft");
    fs::create_dir(&draft).expect("the place is free");
    let newer = place.open();
    assert_eq!(held(&newer), BTreeMap::from([(id(1), true)]));
    assert!(matches!(newer.begin(entry(2)), Err(Failure::Unwritable(_))));
    older.begin(entry(3)).expect("nobody has it yet");
    fs::remove_dir(&draft).expect("it is empty");
    newer.repair().expect("it is writable again");
    assert_eq!(newer.begin(entry(3)), Err(Failure::BegunBefore));
    assert_eq!(older.begin(entry(4)), Err(Failure::TakenOver));
}

#[test]
fn a_line_that_is_not_what_was_written_is_not_believed() {
    let place = Place::new();
    let journal = place.open();
    journal.begin(entry(1)).expect("it is writable");
    journal.begin(entry(3)).expect("it is writable");
    let text = fs::read_to_string(&place.path).expect("it is there");
    let damaged = text.replace("\"epoch\":1", "\"epoch\":7");
    assert_ne!(text, damaged);
    fs::write(&place.path, damaged).expect("it is writable");
    assert_eq!(held(&place.open()), BTreeMap::from([(id(3), true)]));
}

#[test]
fn a_journal_of_a_newer_version_is_not_guessed_at() {
    let place = Place::new();
    drop(place.open());
    let mut bytes = Vec::new();
    Record::Journal {
        version: VERSION + 1,
    }
    .write(&mut bytes);
    fs::write(&place.path, bytes).expect("it is writable");
    let error = Journal::open(&place.path).expect_err("it is newer");
    assert!(matches!(error, Error::File { .. }), "{error}");
}

#[test]
fn many_that_begin_at_once_are_all_durable() {
    let place = Place::new();
    let journal = place.open();
    std::thread::scope(|scope| {
        for number in 0..32 {
            let journal = &journal;
            scope.spawn(move || journal.begin(entry(number)).expect("it is writable"));
        }
    });
    assert_eq!(*journal.synced.lock().expect("no panic"), 32);
    assert_eq!(held(&place.open()).len(), 32);
}
