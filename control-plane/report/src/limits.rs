//! What a report may take. The numbers are bounds against mistakes and malice, far above what tools
//! write; `docs/reports.md` has the table.

/// Bounds of one report. What is beyond `bytes`, `depth`, `cases`, `attributes`, `values` or `open`
/// breaks the report at that place; texts and lists are cut there, and a warning counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file. 64 MiB: a hundred thousand cases with a stack each.
    pub bytes: u64,
    /// Elements or JSON values inside each other, and subtests of TAP.
    pub depth: usize,
    /// Cases of a report, before equal ones are folded.
    pub cases: u64,
    /// Attributes of an XML element; the widest that a tool writes has about fifteen.
    pub attributes: usize,
    /// Bytes of an attribute that are looked at. More than `message`, as the whole name takes part
    /// in an identity.
    pub attribute: usize,
    /// Bytes of a line of TAP or of `go test -json`. 1 MiB: Go writes a line of output whole.
    pub line: usize,
    /// Values of a JSON document that is held as a whole: the metrics of a load test.
    pub values: usize,
    /// Tests of Go that run, or packages that are built, at the same time.
    pub open: usize,
    /// Metrics of a report; also different labels of JMeter's samples.
    pub metrics: usize,
    /// Bytes of a name: suite, class, case, parameters, kind of a failure, metric. A longer one ends
    /// by a hash of the whole, so that it stays different from others with the same beginning.
    pub name: usize,
    /// Bytes of a path: file of a case, attachment.
    pub path: usize,
    /// Bytes of a message.
    pub message: usize,
    /// Bytes of a stack; head and tail are kept.
    pub stack: usize,
    /// Bytes of all messages and stacks of a report that are held together: what a server keeps of it.
    pub texts: usize,
    /// Attachments of a case.
    pub attachments: usize,
    /// Properties of a case, and of a whole report.
    pub properties: usize,
    /// Bytes of a property's value.
    pub property: usize,
    /// References to output of a case, and of the suites of a whole report.
    pub outputs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024 * 1024,
            depth: 64,
            cases: 200_000,
            attributes: 64,
            attribute: 64 * 1024,
            line: 1024 * 1024,
            values: 200_000,
            open: 10_000,
            metrics: 5_000,
            name: 1024,
            path: 1024,
            message: 4 * 1024,
            stack: 16 * 1024,
            texts: 64 * 1024 * 1024,
            attachments: 32,
            properties: 32,
            property: 1024,
            outputs: 64,
        }
    }
}
