//! The formats of reports. How one is found is in `recognise`, how one is read in a file of its own.

use std::fmt;

use serde::Serialize;

/// What wrote a report, or rather: in which of the ways that tools agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JUnit XML: roots `testsuites` or `testsuite`.
    Junit,
    /// NUnit 3: root `test-run`.
    Nunit,
    /// xUnit.net v2: root `assemblies`, or one `assembly`.
    Xunit,
    /// The Test Anything Protocol, versions 12 to 14.
    Tap,
    /// `go test -json`: an event of `test2json` in each line.
    GoTest,
    /// Cucumber's JSON: a list of features.
    Cucumber,
    /// The Common Test Report Format.
    Ctrf,
    /// k6: `--summary-export`, or the data of `handleSummary` as JSON.
    K6Summary,
    /// JMeter: `statistics.json` of the dashboard.
    JmeterStatistics,
    /// JMeter: samples, as CSV with a head line.
    JtlCsv,
    /// JMeter: samples, as XML.
    JtlXml,
    /// Artillery: `--output`.
    Artillery,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Junit,
        Self::Nunit,
        Self::Xunit,
        Self::Tap,
        Self::GoTest,
        Self::Cucumber,
        Self::Ctrf,
        Self::K6Summary,
        Self::JmeterStatistics,
        Self::JtlCsv,
        Self::JtlXml,
        Self::Artillery,
    ];

    /// Its name in a row of a store: never changed once it is released.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Nunit => "nunit",
            Self::Xunit => "xunit",
            Self::Tap => "tap",
            Self::GoTest => "go-test",
            Self::Cucumber => "cucumber",
            Self::Ctrf => "ctrf",
            Self::K6Summary => "k6-summary",
            Self::JmeterStatistics => "jmeter-statistics",
            Self::JtlCsv => "jtl-csv",
            Self::JtlXml => "jtl-xml",
            Self::Artillery => "artillery",
        }
    }

    /// Whether it has cases; the others have metrics.
    #[must_use]
    pub fn has_cases(self) -> bool {
        !matches!(
            self,
            Self::K6Summary
                | Self::JmeterStatistics
                | Self::JtlCsv
                | Self::JtlXml
                | Self::Artillery
        )
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
