//! Reports are read as a stream: cases are handed out before the rest of the file is read.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::Instant;

use muster_report::{Format, Limits, State, parse};

/// A head, a part many times, and a tail.
struct Long<'r> {
    head: &'r [u8],
    part: &'r [u8],
    left: usize,
    read: &'r Cell<usize>,
}

impl Read for Long<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() && self.left > 0 {
            self.left -= 1;
            self.head = self.part;
        }
        let count = self.head.read(into)?;
        self.read.set(self.read.get() + count);
        Ok(count)
    }
}

/// Formats whose cases come as they are read, with a head and the part of one case.
const FORMATS: [(Format, &str, &str); 5] = [
    (
        Format::Junit,
        "<testsuite>",
        "<testcase classname=\"shop.CartTest\" name=\"sums\" time=\"0.25\">\
         <failure message=\"expected 3\" type=\"AssertionError\"><![CDATA[at shop.CartTest.sums(CartTest.java:12)\n\
         at java.base/java.lang.reflect.Method.invoke(Method.java:569)\n]]></failure>\
         <system-out>adding &lt;1&gt; and 1\nadding 2 and 2\n</system-out></testcase>\n",
    ),
    (Format::Tap, "TAP version 13\n", "ok - sums\n"),
    (
        Format::GoTest,
        "",
        "{\"Action\":\"run\",\"Package\":\"p\",\"Test\":\"T\"}\n\
         {\"Action\":\"output\",\"Package\":\"p\",\"Test\":\"T\",\"Output\":\"adding\\n\"}\n\
         {\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"T\",\"Elapsed\":0.25}\n",
    ),
    (
        Format::Ctrf,
        "{\"results\": {\"tests\": [",
        "{\"name\": \"sums\", \"status\": \"passed\", \"duration\": 25, \"extra\": [1, 2, {}]},\n",
    ),
    (
        Format::Cucumber,
        "[",
        "{\"uri\": \"a.feature\", \"elements\": [{\"name\": \"sums\", \"steps\": [{\"result\": {\"status\": \"passed\"}}]}]},\n",
    ),
];

#[test]
fn cases_are_handed_out_before_the_rest_is_read() {
    for (format, head, part) in FORMATS {
        let read = Cell::new(0);
        let mut first = None;
        let reader = Long {
            head: head.as_bytes(),
            part: part.as_bytes(),
            left: 20_000,
            read: &read,
        };
        let outcome = parse(format, reader, &Limits::default(), &mut |case| {
            assert_ne!(case.state, State::Error);
            first.get_or_insert_with(|| read.get());
        });
        assert_eq!(outcome.unwrap().summary.counts.total(), 20_000);
        assert!(read.get() >= 20_000 * part.len());
        let first = first.unwrap();
        assert!(first < 150 * 1024, "{format}: {first} of {}", read.get());
    }
}

/// How fast reading is; run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn throughput() {
    for (format, head, part) in FORMATS {
        let read = Cell::new(0);
        let reader = Long {
            head: head.as_bytes(),
            part: part.as_bytes(),
            left: 60 * 1024 * 1024 / part.len(),
            read: &read,
        };
        let limits = Limits {
            cases: u64::MAX,
            ..Limits::default()
        };
        let started = Instant::now();
        let outcome = parse(format, reader, &limits, &mut |_| {}).unwrap();
        let megabytes = read.get() as f64 / 1e6;
        println!(
            "{format}: {megabytes:.0} MB, {} cases, {:.0} MB/s",
            outcome.summary.counts.total(),
            megabytes / started.elapsed().as_secs_f64()
        );
    }
}
