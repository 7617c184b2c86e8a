//! What the results of one test over many runs say: pure, from rows to numbers.
//!
//! Which runs count, and where results come from, is not decided here.

use std::time::Duration;

/// How a test ended in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestState {
    /// As it should.
    Passed,
    /// It did not run, or fails as it is known to.
    Skipped,
    /// What it checks does not hold.
    Failed,
    /// It could not check.
    Error,
}

impl TestState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Skipped, Self::Failed, Self::Error];

    /// Its name where it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether somebody has to look at it.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Error)
    }
}

/// One result of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// How it ended.
    pub state: TestState,
    /// It passed after a try that did not.
    pub flaky: bool,
    /// How long it took.
    pub duration: Option<Duration>,
    /// What was tested: results of one revision are of the same code. `None` when nobody told.
    pub revision: Option<String>,
}

/// What the results of a test say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// Results that are no skips.
    pub runs: usize,
    /// Those that passed, flaky ones too.
    pub passed: usize,
    /// Those that did not.
    pub bad: usize,
    /// Those that passed after a try that did not.
    pub flaky: usize,
    /// How often the result changed between two runs of one revision, one after the other.
    pub flips: usize,
    /// From 0 to 1: flaky results and flips, of all runs.
    pub flaky_score: f64,
    /// Durations of passed runs, the middle one.
    pub median: Option<Duration>,
    /// Durations of passed runs: 95 of 100 were not longer.
    pub p95: Option<Duration>,
    /// Index of the oldest of the bad results that the newest one is the last of: since when it
    /// fails. `None` when its newest run passed.
    pub failing_since: Option<usize>,
}

impl Statistics {
    /// Looks at the results of one test, the newest first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of runs are small")]
    pub fn of(results: &[TestResult]) -> Self {
        let ran: Vec<(usize, &TestResult)> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| result.state != TestState::Skipped)
            .collect();
        let runs = ran.len();
        let bad = ran.iter().filter(|(_, it)| it.state.is_bad()).count();
        let flaky = ran.iter().filter(|(_, it)| it.flaky).count();
        let flips = flips(&ran);
        let failing = ran.iter().take_while(|(_, it)| it.state.is_bad());
        let mut durations: Vec<Duration> = ran
            .iter()
            .filter(|(_, it)| !it.state.is_bad())
            .filter_map(|(_, it)| it.duration)
            .collect();
        durations.sort_unstable();
        Self {
            runs,
            passed: runs - bad,
            bad,
            flaky,
            flips,
            flaky_score: match runs {
                0 => 0.0,
                runs => ((flaky + flips) as f64 / runs as f64).min(1.0),
            },
            median: at(&durations, 50),
            p95: at(&durations, 95),
            failing_since: failing.last().map(|(index, _)| *index),
        }
    }
}

/// Changes between runs of one revision that follow each other, whatever stands between them.
fn flips(ran: &[(usize, &TestResult)]) -> usize {
    let mut last: std::collections::BTreeMap<&str, bool> = std::collections::BTreeMap::new();
    let mut flips = 0;
    for (_, result) in ran {
        let Some(revision) = &result.revision else {
            continue;
        };
        let bad = result.state.is_bad();
        if last
            .insert(revision, bad)
            .is_some_and(|before| before != bad)
        {
            flips += 1;
        }
    }
    flips
}

/// The value of sorted ones that so many of a hundred do not exceed.
fn at(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(text: &str) -> Vec<TestResult> {
        let words = text.split_whitespace();
        words
            .map(|word| {
                let (state, revision) = word.split_once('@').unwrap_or((word, ""));
                TestResult {
                    state: match state {
                        "F" => TestState::Failed,
                        "E" => TestState::Error,
                        "S" => TestState::Skipped,
                        _ => TestState::Passed,
                    },
                    flaky: state == "R",
                    duration: Some(Duration::from_secs(1)),
                    revision: (!revision.is_empty()).then(|| revision.to_owned()),
                }
            })
            .collect()
    }

    #[test]
    fn a_test_fails_since_the_oldest_of_its_newest_failures() {
        let since = |text| Statistics::of(&results(text)).failing_since;
        assert_eq!(since("F E S F P F"), Some(3));
        assert_eq!(since("P F F"), None);
        assert_eq!(since("S F P"), Some(1));
        assert_eq!(since(""), None);
    }

    #[test]
    fn what_flips_on_one_revision_or_passes_on_a_retry_is_flaky() {
        let score = |text| Statistics::of(&results(text)).flaky_score;
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}");
        near(score("P@a P@a F@b F@b"), 0.0);
        near(score("P@a F@a P@a P@a"), 0.5);
        near(score("P@a F@b P@b F@c"), 0.25);
        // Without a revision a change may be the code's.
        near(score("P F P F"), 0.0);
        near(score("R P P P"), 0.25);
        near(score("S S"), 0.0);
    }

    #[test]
    fn durations_are_those_of_passed_runs() {
        let mut all = results("P P P P F");
        for (seconds, result) in (1..).zip(&mut all) {
            result.duration = Some(Duration::from_secs(seconds));
        }
        let found = Statistics::of(&all);
        assert_eq!(found.median, Some(Duration::from_secs(2)));
        assert_eq!(found.p95, Some(Duration::from_secs(4)));
        assert_eq!((found.runs, found.passed, found.bad), (5, 4, 1));
    }
}
