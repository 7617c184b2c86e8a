//! Quarantine: tests whose failures do not count for a while, and when the failure of a step is forgiven
//! for it. Pure; which tests are in quarantine, and what reports tell, is not known here.

use std::time::Duration;

/// How long a test is in quarantine when nobody says.
pub const DEFAULT: Duration = Duration::from_secs(14 * DAY);
/// Longest time that a test is put into quarantine for.
pub const LONGEST: Duration = Duration::from_secs(90 * DAY);
/// Most entries of a project; those that have expired make room.
pub const MOST: u64 = 1000;

const DAY: u64 = 24 * 3600;

/// What a report that a step has collected says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its path, for people.
    pub path: String,
    /// It was read to its end.
    pub whole: bool,
    /// Tests that did not pass.
    pub bad: i64,
    /// Of those, the ones that were in quarantine.
    pub quarantined: i64,
    /// Conditions on metrics that do not hold.
    pub crossed: usize,
    /// Tests that did not pass, and did where they were told again: in another try, or as another test of the
    /// same name.
    pub overruled: u64,
    /// It is older than the try of the step that failed: it can not speak for it.
    pub stale: bool,
}

/// Whether the failure of a step is forgiven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// So many tests failed, all in quarantine.
    Forgiven(i64),
    /// It stays a failure, for this reason.
    Failed(String),
}

/// Judges a step by all reports that it has collected. What is missing or can not be read is never taken
/// for good: a tool that was cut off may have had other failures to tell.
#[must_use]
pub fn judge(reports: &[Evidence]) -> Verdict {
    let failed = |words: String| Verdict::Failed(words);
    if let Some(broken) = reports.iter().find(|report| !report.whole) {
        return failed(format!("its report {} is broken", broken.path));
    }
    if let Some(report) = reports.iter().find(|report| report.crossed > 0) {
        return failed(format!(
            "{} tells of thresholds that do not hold",
            report.path
        ));
    }
    if let Some(report) = reports.iter().find(|report| report.overruled > 0) {
        return failed(format!(
            "{} tells of a test that failed and passed, which may be two of one name",
            report.path
        ));
    }
    let sum = |of: fn(&Evidence) -> i64| reports.iter().map(of).sum::<i64>();
    let (bad, quarantined) = (sum(|report| report.bad), sum(|report| report.quarantined));
    if bad > quarantined {
        let others = bad - quarantined;
        return match quarantined {
            // What everybody sees needs no remark.
            0 => failed(String::new()),
            _ => failed(format!(
                "{} failed beside {quarantined} in quarantine",
                tests(others)
            )),
        };
    }
    let fresh = reports.iter().filter(|report| !report.stale);
    match fresh.map(|report| report.quarantined).sum() {
        count if count > 0 => Verdict::Forgiven(count),
        _ if reports.iter().any(|report| report.stale && report.bad > 0) => failed(
            "its reports are older than this try of it, so they tell nothing of it".to_owned(),
        ),
        _ if reports.is_empty() => failed("it has collected no report of its tests".to_owned()),
        _ => failed("its reports tell of no failed test".to_owned()),
    }
}

fn tests(count: i64) -> String {
    match count {
        1 => "1 test".to_owned(),
        count => format!("{count} tests"),
    }
}

/// The remark of a step that is forgiven.
#[must_use]
pub fn remark(count: i64) -> String {
    match count {
        1 => "1 quarantined test failed".to_owned(),
        count => format!("{count} quarantined tests failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bad: i64, quarantined: i64) -> Evidence {
        Evidence {
            path: "junit.xml".to_owned(),
            whole: true,
            bad,
            quarantined,
            crossed: 0,
            overruled: 0,
            stale: false,
        }
    }

    fn reason(reports: &[Evidence]) -> String {
        match judge(reports) {
            Verdict::Failed(reason) => reason,
            Verdict::Forgiven(count) => panic!("{count} are forgiven"),
        }
    }

    #[test]
    fn only_failures_in_quarantine_are_forgiven() {
        assert_eq!(judge(&[report(2, 2), report(0, 0)]), Verdict::Forgiven(2));
        assert_eq!(
            reason(&[report(2, 2), report(1, 0)]),
            "1 test failed beside 2 in quarantine"
        );
        assert_eq!(reason(&[report(1, 0)]), "");
    }

    #[test]
    fn without_a_failed_test_something_else_was_wrong() {
        assert!(reason(&[]).contains("no report"));
        assert!(reason(&[report(0, 0)]).contains("no failed test"));
    }

    #[test]
    fn a_report_that_is_broken_or_crossed_forgives_nothing() {
        let broken = Evidence {
            whole: false,
            ..report(1, 1)
        };
        assert!(reason(&[report(1, 1), broken]).contains("broken"));
        let overruled = Evidence {
            overruled: 1,
            ..report(1, 1)
        };
        assert!(reason(&[overruled]).contains("two of one name"));
        let crossed = Evidence {
            crossed: 1,
            ..report(0, 0)
        };
        assert!(reason(&[report(1, 1), crossed]).contains("thresholds"));
    }

    #[test]
    fn an_old_report_speaks_against_a_step_and_never_for_it() {
        let old = |bad, quarantined| Evidence {
            stale: true,
            ..report(bad, quarantined)
        };
        assert!(reason(&[old(1, 1)]).contains("older"));
        assert_eq!(judge(&[old(1, 1), report(1, 1)]), Verdict::Forgiven(1));
        assert!(reason(&[old(1, 0), report(1, 1)]).contains("beside"));
    }
}
