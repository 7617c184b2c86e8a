//! Masking: values that the run was given in secret are replaced before anything leaves the pod, also
//! where a process prints them in pieces or in another form. Which forms those are is in [`forms`].
//!
//! Artifacts are not masked: their bytes are the test's own.

mod forms;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::Bytes;
use muster_proto::runner::v1::Progress;

/// What stands in the place of a secret.
const MASKED: &[u8] = b"***";
/// Most secrets of a run; later ones are not known.
const MOST: usize = 1000;
/// Bytes of all values together; later ones are not known.
const MOST_BYTES: usize = 256 << 10;

/// The secrets of a run.
#[derive(Default)]
pub(crate) struct Secrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    values: Vec<Vec<u8>>,
    patterns: Option<Arc<Patterns>>,
}

/// All forms of all secrets.
struct Patterns {
    search: AhoCorasick,
    /// The forms that begin with each byte.
    by_first: Vec<Vec<Vec<u8>>>,
    longest: usize,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Takes note of values; what is printed from now on does not show them. Values that would
    /// mask anything are not noted: [`forms::is_secret`].
    pub(crate) fn add<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) {
        let mut known = self.lock();
        let before = known.values.len();
        for value in values {
            if forms::is_secret(value)
                && known.values.len() < MOST
                && known.values.iter().map(Vec::len).sum::<usize>() + value.len() <= MOST_BYTES
                && !known.values.iter().any(|one| one == value)
            {
                known.values.push(value.to_vec());
            }
        }
        if known.values.len() > before {
            known.patterns = Patterns::new(&known.values).map(Arc::new);
        }
    }

    /// Masks a whole text.
    pub(crate) fn text(&self, text: &str) -> String {
        match self.patterns() {
            Some(patterns) if patterns.search.is_match(text) => {
                let mut mask = Mask::new(self);
                let mut masked = mask.push(&patterns, text.as_bytes());
                masked.extend(mask.end());
                // A form is text, and what is cut out of text at the ends of texts is text.
                String::from_utf8_lossy(&masked).into_owned()
            }
            _ => text.to_owned(),
        }
    }

    /// Masks what is told of steps.
    pub(crate) fn progress(&self, progress: &mut Progress) {
        if self.patterns().is_none() {
            return;
        }
        for step in &mut progress.steps {
            step.display_name = self.text(&step.display_name);
            step.message = self.text(&step.message);
            for value in step.outputs.values_mut() {
                *value = self.text(value);
            }
        }
        for output in &mut progress.outputs {
            let masked = self.text(&output.json);
            // A number is a secret too.
            output.json = match serde_json::from_str::<serde::de::IgnoredAny>(&masked) {
                Ok(_) => masked,
                Err(_) => format!("\"{}\"", String::from_utf8_lossy(MASKED)),
            };
        }
    }

    fn patterns(&self) -> Option<Arc<Patterns>> {
        self.lock().patterns.as_ref().map(Arc::clone)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Patterns {
    /// `None` when they are too large to be searched for, which no limit here allows.
    fn new(values: &[Vec<u8>]) -> Option<Self> {
        let mut all: Vec<Vec<u8>> = values.iter().flat_map(|value| forms::of(value)).collect();
        all.sort_unstable();
        all.dedup();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&all)
            .ok()?;
        let longest = all.iter().map(Vec::len).max()?;
        let mut by_first = vec![Vec::new(); 256];
        for form in all {
            if let Some(first) = form.first() {
                by_first[usize::from(*first)].push(form);
            }
        }
        Some(Self {
            search,
            by_first,
            longest,
        })
    }

    /// The first place from `from` on whose bytes to the end could begin a secret.
    fn begins(&self, bytes: &[u8], from: usize) -> usize {
        let first = bytes.len().saturating_sub(self.longest - 1).max(from);
        let begins = |place: &usize| {
            let rest = &bytes[*place..];
            let forms = &self.by_first[usize::from(rest[0])];
            forms
                .iter()
                .any(|form| form.len() > rest.len() && form.starts_with(rest))
        };
        (first..bytes.len()).find(begins).unwrap_or(bytes.len())
    }
}

/// Masks one stream of bytes. What could be the beginning of a secret waits for what follows it.
pub(crate) struct Mask<'a> {
    secrets: &'a Secrets,
    held: Vec<u8>,
}

impl<'a> Mask<'a> {
    pub(crate) fn new(secrets: &'a Secrets) -> Self {
        Self {
            secrets,
            held: Vec::new(),
        }
    }

    /// Takes the next bytes; returns what may be shown by now.
    pub(crate) fn pass(&mut self, data: Bytes) -> Bytes {
        match self.secrets.patterns() {
            Some(patterns) => self.push(&patterns, &data).into(),
            None => data,
        }
    }

    /// Nothing follows: returns what has waited. In the beginning of a secret another one may be.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        match self.secrets.patterns().filter(|_| !self.held.is_empty()) {
            Some(patterns) => self.show(&patterns, |bytes, _| bytes.len()),
            None => std::mem::take(&mut self.held),
        }
    }

    fn push(&mut self, patterns: &Patterns, data: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(data);
        self.show(patterns, |bytes, from| patterns.begins(bytes, from))
    }

    /// Takes out what may be shown: all that stands before the place from which on bytes wait.
    fn show(&mut self, patterns: &Patterns, wait: impl Fn(&[u8], usize) -> usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        let mut shown = Vec::with_capacity(bytes.len());
        let mut done = 0;
        let mut waits = wait(&bytes, done);
        while let Some(found) = patterns.search.find(&bytes[done..]) {
            let (start, end) = (done + found.start(), done + found.end());
            // A longer secret may begin before it, or where it does.
            if start >= waits {
                break;
            }
            shown.extend_from_slice(&bytes[done..start]);
            shown.extend_from_slice(MASKED);
            done = end;
            waits = wait(&bytes, done);
        }
        shown.extend_from_slice(&bytes[done..waits]);
        self.held = bytes.split_off(waits);
        shown
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use muster_proto::runner::v1::{StepOutput, StepStatus};
    use proptest::prelude::*;

    use super::*;

    fn secrets(values: &[&str]) -> Secrets {
        let secrets = Secrets::default();
        secrets.add(values.iter().map(|value| value.as_bytes()));
        secrets
    }

    /// What is shown of a text that comes in pieces.
    fn shown(secrets: &Secrets, pieces: &[&[u8]]) -> Vec<u8> {
        let mut mask = Mask::new(secrets);
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(mask.pass(Bytes::copy_from_slice(piece)));
        }
        all.extend(mask.end());
        all
    }

    #[test]
    fn a_secret_is_masked_wherever_it_is_cut() {
        let secrets = secrets(&["pa55word", "pa55word-longer"]);
        for (text, expected) in [
            ("it is pa55word.", "it is ***."),
            ("it is pa55word-longer.", "it is ***."),
            ("it is pa55word-lon", "it is ***-lon"),
            ("pa55wor", "pa55wor"),
            ("pa55pa55wordpa55word", "pa55******"),
        ] {
            for cut in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                let found = shown(&secrets, &[first, second]);
                let found = String::from_utf8_lossy(&found);
                assert_eq!(found, expected, "{text} at {cut}");
            }
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            let found = shown(&secrets, &bytes);
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
    }

    #[test]
    fn what_could_begin_a_secret_waits_and_nothing_else_does() {
        let secrets = secrets(&["pa55word"]);
        let mut mask = Mask::new(&secrets);
        assert_eq!(mask.pass(Bytes::from_static(b"name: pa5")), "name: ");
        assert_eq!(mask.pass(Bytes::from_static(b"s")), "pa5s");
        assert_eq!(mask.pass(Bytes::from_static(b" $ ")), " $ ");
    }

    #[test]
    fn other_forms_of_a_secret_are_masked() {
        let secret = "p\u{e4} s+w\"or/d&?";
        let secrets = secrets(&[secret]);
        let hide = |text: &str| secrets.text(text);
        assert_eq!(hide("p%C3%A4%20s%2Bw%22or%2Fd%26%3F"), "***");
        assert_eq!(hide("p%c3%a4%20s%2bw%22or%2fd%26%3f"), "***");
        assert_eq!(hide("a=p%C3%A4+s%2Bw%22or%2Fd%26%3F&b"), "a=***&b");
        assert_eq!(
            hide(&serde_json::json!({"a": secret}).to_string()),
            "{\"a\":\"***\"}"
        );
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hide(&hex), "***");
        assert_eq!(hide(&hex.to_uppercase()), "***");
    }

    #[test]
    fn a_secret_with_several_lines_is_masked_line_by_line_too() {
        let secrets = secrets(&["-----BEGIN KEY-----\nabcdefghij\nshort\nklmnopqrst\n"]);
        assert_eq!(
            secrets.text("| abcdefghij\n| short\n| klmnopqrst"),
            "| ***\n| short\n| ***"
        );
    }

    #[test]
    fn short_values_mask_nothing_and_none_change_nothing() {
        let secrets = secrets(&["", "true\n", "False", "123"]);
        assert_eq!(secrets.text("true False 123"), "true False 123");
        assert_eq!(self::secrets(&["1234"]).text("pin 1234 12"), "pin *** 12");
        let text = Bytes::from_static(b"whatever");
        let passed = Mask::new(&secrets).pass(text.clone());
        assert_eq!(passed.as_ptr(), text.as_ptr());
    }

    #[test]
    fn what_is_told_of_steps_is_masked_and_stays_json() {
        let secrets = secrets(&["1234567", "s3cret-word"]);
        let output = |json: &str| StepOutput {
            json: json.to_owned(),
            ..StepOutput::default()
        };
        let mut progress = Progress {
            steps: vec![StepStatus {
                message: "no s3cret-word here".to_owned(),
                outputs: [("a".to_owned(), "s3cret-word\n".to_owned())].into(),
                ..StepStatus::default()
            }],
            outputs: vec![output("1234567"), output("[\"s3cret-word\"]"), output("5")],
            ..Progress::default()
        };
        secrets.progress(&mut progress);
        assert_eq!(progress.steps[0].message, "no *** here");
        assert_eq!(progress.steps[0].outputs["a"], "***\n");
        let told: Vec<_> = progress
            .outputs
            .iter()
            .map(|one| one.json.as_str())
            .collect();
        assert_eq!(told, ["\"***\"", "[\"***\"]", "5"]);
    }

    proptest! {
        #[test]
        fn pieces_show_what_the_whole_shows(
            values in proptest::collection::vec("[ab]{6,9}", 1..4),
            text in "[abc]{0,60}",
            sizes in proptest::collection::vec(1..7_usize, 1..6),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let secrets = secrets(&values);
            let mut pieces = Vec::new();
            let mut rest = text.as_bytes();
            for size in sizes.iter().cycle() {
                let (piece, later) = rest.split_at((*size).min(rest.len()));
                pieces.push(piece);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let whole = shown(&secrets, &[text.as_bytes()]);
            prop_assert_eq!(&shown(&secrets, &pieces), &whole);
            let whole = String::from_utf8_lossy(&whole).into_owned();
            for value in values {
                prop_assert!(!whole.contains(value), "{} in {}", value, whole);
            }
        }

        #[test]
        fn no_base64_of_a_text_shows_the_secret_in_it(
            secret in "[ -~]{6,30}",
            before in "[ -~]{0,8}",
            after in "[ -~]{0,8}",
        ) {
            let secrets = secrets(&[&secret]);
            let text = format!("{before}{secret}{after}");
            for engine in [
                base64::engine::general_purpose::STANDARD,
                base64::engine::general_purpose::URL_SAFE,
            ] {
                let encoded = engine.encode(&text);
                let masked = secrets.text(&encoded);
                prop_assert!(masked.contains("***"), "{} of {}", masked, text);
                // What is left has less than a group at each end of the secret.
                let left = masked.len() - 3;
                let around = engine.encode(&before).len() + engine.encode(&after).len();
                prop_assert!(left <= around + 8, "{} of {}", masked, text);
            }
        }
    }
}
