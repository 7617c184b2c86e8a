//! `go test -json`: a line for each event of `test2json`. A test is a case when it ends; what is held
//! until then is bounded. What one line says is in `gotest::event`, what a test printed in
//! `gotest::printed`.
//!
//! A test with subtests is a case as well, as it may check something of its own. A package that fails
//! while none of its tests does (it does not build, or a test ends the process) is a case by the name
//! `(package)`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    broken::{Place, Reason, Step},
    case::{Case, State},
    collector::Collector,
    lines::Lines,
    number,
    text::Clip,
    warning::WarningKind,
};

pub(crate) mod event;
mod printed;

use event::Event;
use printed::Printed;

/// The name of the case that stands for a whole package.
const PACKAGE: &str = "(package)";

/// A test that runs.
struct Running {
    printed: Printed,
    started: Option<Timestamp>,
}

struct Go<'a, 'o> {
    out: &'a mut Collector<'o>,
    /// Tests that run, by package and name; what a package itself prints stands under an empty name.
    running: BTreeMap<(String, String), Running>,
    /// What building packages prints.
    builds: BTreeMap<String, Clip>,
    /// Packages of which a test failed.
    failed: BTreeSet<String>,
    events: u64,
    /// There are other lines.
    foreign: bool,
    last: Option<Timestamp>,
}

/// Reads lines.
pub(crate) fn read(mut lines: Lines<'_>, out: &mut Collector<'_>) -> Step<()> {
    out.summary.tool = Some("go test".to_owned());
    let mut go = Go {
        out,
        running: BTreeMap::new(),
        builds: BTreeMap::new(),
        failed: BTreeSet::new(),
        events: 0,
        foreign: false,
        last: None,
    };
    let result = go.read(&mut lines);
    if let (Some(first), Some(last)) = (go.out.summary.started, go.last) {
        go.out.summary.duration = number::from_seconds(last.duration_since(first).as_secs_f64());
    }
    result?;
    let place = lines.place();
    if go.events == 0 {
        return Err(place.fault(match go.foreign {
            false => Reason::Empty,
            true => Reason::Unexpected {
                found: "other text stands".to_owned(),
                expected: "an event of `go test -json`",
            },
        }));
    }
    // Of those that run the one that began last is the one that was at it, most often.
    let open = go.running.iter().max_by_key(|(_, running)| running.started);
    match open {
        Some(((package, test), _)) => {
            let text = match test.as_str() {
                "" => format!("while `{package}` ran"),
                _ => format!("while `{test}` of `{package}` ran"),
            };
            Err(place.fault(Reason::Truncated(text)))
        }
        None => Ok(()),
    }
}

impl Go<'_, '_> {
    fn read(&mut self, lines: &mut Lines<'_>) -> Step<()> {
        while let Some(line) = lines.next()? {
            if line.long {
                self.out.line_skipped();
                continue;
            }
            if line.bytes.trim_ascii().is_empty() {
                continue;
            }
            match Event::parse(line.bytes) {
                Some(event) => self.event(event, line.place)?,
                None if !line.ended && line.bytes.starts_with(b"{") => {
                    let text = "in the middle of an event".to_owned();
                    return Err(line.place.fault(Reason::Truncated(text)));
                }
                None => {
                    self.foreign = true;
                    self.out.warn(WarningKind::LineForeign);
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event, place: Place) -> Step<()> {
        self.events += 1;
        let time = event.time.0.as_deref().and_then(crate::time::parse);
        self.out.started(time);
        self.last = time.max(self.last);
        if let Some(path) = &event.import_path.0 {
            if event.action() == "build-output" {
                let path = self.out.name(path);
                let clip = self.out.clip();
                if !self.builds.contains_key(&path) {
                    self.room(place, self.builds.len())?;
                }
                let text = event.output.0.as_deref().unwrap_or_default();
                self.builds
                    .entry(path)
                    .or_insert(clip)
                    .push(text.as_bytes());
            }
            return Ok(());
        }
        let package = self
            .out
            .name(event.package.0.as_deref().unwrap_or_default());
        let test = self.out.name(event.test.0.as_deref().unwrap_or_default());
        let key = (package, test);
        match event.action() {
            "start" | "run" => {
                self.open(key, time, place)?;
            }
            "output" => {
                let text = event.output.0.as_deref().unwrap_or_default();
                self.open(key, None, place)?.printed.push(text);
            }
            "pass" | "fail" | "skip" => {
                self.open(key.clone(), None, place)?;
                if key.1.is_empty() {
                    self.package_ends(&key, &event, place)?;
                } else {
                    self.test_ends(key, &event, place)?;
                }
            }
            // pause, cont, bench, attr, artifacts.
            _ => {}
        }
        Ok(())
    }

    /// A test that runs, or begins to.
    fn open(
        &mut self,
        key: (String, String),
        time: Option<Timestamp>,
        place: Place,
    ) -> Step<&mut Running> {
        if !self.running.contains_key(&key) {
            self.room(place, self.running.len())?;
        }
        let limits = self.out.limits;
        Ok(self.running.entry(key).or_insert_with(|| Running {
            printed: Printed::new(limits.message, limits.stack),
            started: time,
        }))
    }

    fn room(&self, place: Place, count: usize) -> Step<()> {
        if count >= self.out.limits.open {
            let most = self.out.limits.open;
            return Err(place.limit("open", "tests that run at the same time", most));
        }
        Ok(())
    }

    fn test_ends(&mut self, key: (String, String), event: &Event, place: Place) -> Step<()> {
        let Some(running) = self.running.remove(&key) else {
            return Ok(());
        };
        let (package, name) = key;
        let state = match event.action() {
            "pass" => State::Passed,
            "skip" => State::Skipped,
            _ => State::Failed,
        };
        if state == State::Failed {
            self.failed.insert(package.clone());
        }
        let mut case = Case {
            class: package,
            name,
            state,
            tries: 1,
            duration: self
                .out
                .millis(event.elapsed.0.map(|seconds| seconds * 1000.0)),
            started: running.started,
            ..Case::default()
        };
        running.printed.put(&mut case, self.out);
        self.out.case(case, place)
    }

    /// Tests that still run when their package fails end with it.
    fn package_ends(&mut self, key: &(String, String), event: &Event, place: Place) -> Step<()> {
        let package = &key.0;
        let fails = event.action() == "fail";
        let own = self.running.remove(key);
        let left: Vec<_> = self
            .running
            .range((package.clone(), String::new())..)
            .map(|(key, _)| key.clone())
            .take_while(|(other, _)| other == package)
            .collect();
        for key in left {
            let Some(running) = self.running.remove(&key) else {
                continue;
            };
            if !fails {
                self.out.warn(WarningKind::TestUnfinished);
                continue;
            }
            self.failed.insert(package.clone());
            let mut case = self.error(package, key.1);
            case.started = running.started;
            running.printed.put(&mut case, self.out);
            case.state = State::Error;
            if case.message.is_none() {
                case.message = Some("the package ended while the test ran".to_owned());
            }
            self.out.case(case, place)?;
        }
        if !fails || self.failed.remove(package) {
            return Ok(());
        }
        let mut case = self.error(package, PACKAGE.to_owned());
        case.duration = self
            .out
            .millis(event.elapsed.0.map(|seconds| seconds * 1000.0));
        if let Some(running) = own {
            running.printed.put(&mut case, self.out);
        }
        case.state = State::Error;
        let built = event
            .failed_build
            .0
            .as_deref()
            .map(|path| self.out.name(path));
        if let Some(clip) = built.and_then(|path| self.builds.remove(&path)) {
            case.kind = Some("build".to_owned());
            case.message = Some("the package does not build".to_owned());
            case.stack = self.out.stack(clip);
        }
        self.out.case(case, place)
    }

    fn error(&self, package: &str, name: String) -> Case {
        Case {
            class: package.to_owned(),
            name,
            state: State::Error,
            tries: 1,
            ..Case::default()
        }
    }
}
