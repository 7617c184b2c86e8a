//! The Test Anything Protocol, versions 12 to 14, with subtests by indentation. What one line says is
//! in `tap::line`, what the block of diagnostics below it says in `tap::diagnostics`.
//!
//! The line of a test that has subtests is a summary of them, and no case: unless it fails although
//! none of them does.

use crate::{
    broken::{Place, Reason, Step},
    case::{Case, State},
    collector::Collector,
    lines::Lines,
    text::Clip,
    warning::WarningKind,
};

mod diagnostics;
pub(crate) mod line;

use diagnostics::Diagnostics;
use line::{Said, Test};

/// Spaces of a level of subtests.
const INDENT: usize = 4;

/// Tests of one indentation.
#[derive(Debug, Default)]
struct Level {
    /// The test whose subtests they are.
    name: String,
    count: u64,
    planned: Option<u64>,
    /// One of them, or below them, failed.
    failed: bool,
}

struct Tap<'a, 'o> {
    out: &'a mut Collector<'o>,
    levels: Vec<Level>,
    /// The name that a comment gives to subtests that follow, and its depth.
    announced: Option<(usize, String)>,
    /// The last test, to which diagnostics belong.
    pending: Option<(Case, Place)>,
    /// Comments behind a test that failed: what `Test::More` says.
    comments: Clip,
    block: Option<Diagnostics>,
    /// Something of the protocol was seen.
    seen: bool,
    /// There are other lines, which a test may print.
    foreign: bool,
}

/// Reads lines.
pub(crate) fn read(mut lines: Lines<'_>, out: &mut Collector<'_>) -> Step<()> {
    let comments = out.clip();
    let mut tap = Tap {
        out,
        levels: vec![Level::default()],
        announced: None,
        pending: None,
        comments,
        block: None,
        seen: false,
        foreign: false,
    };
    let result = tap.read(&mut lines);
    // What stood last in a broken report is a case, too.
    let place = lines.place();
    tap.flush()?;
    result?;
    if !tap.seen {
        return Err(place.fault(match tap.foreign {
            false => Reason::Empty,
            true => Reason::Unexpected {
                found: "other text stands".to_owned(),
                expected: "TAP",
            },
        }));
    }
    tap.close_to(1);
    tap.check(place)
}

impl Tap<'_, '_> {
    fn read(&mut self, lines: &mut Lines<'_>) -> Step<()> {
        while let Some(line) = lines.next()? {
            if line.long {
                self.out.line_skipped();
            }
            let text = crate::text::clean(line.bytes);
            if self.in_block(&text) {
                continue;
            }
            let trimmed = text.trim_start_matches(' ');
            let indent = text.len() - trimmed.len();
            self.line(indent, trimmed, line.place)?;
        }
        Ok(())
    }

    /// Whether a line belongs to a block of diagnostics.
    fn in_block(&mut self, text: &str) -> bool {
        let Some(block) = &mut self.block else {
            return false;
        };
        if !block.line(text) {
            let block = self.block.take();
            if let (Some(block), Some((case, _))) = (block, &mut self.pending) {
                block.put_into(case, self.out);
            }
        }
        true
    }

    fn line(&mut self, indent: usize, text: &str, place: Place) -> Step<()> {
        let depth = indent / INDENT;
        match line::parse(text) {
            Said::Block => self.block = Some(Diagnostics::new(indent, self.out)),
            Said::Subtest(name) => {
                self.seen = true;
                self.flush()?;
                self.announce(depth, name, place)?;
            }
            Said::Test(test) if indent.is_multiple_of(INDENT) => self.test(depth, &test, place)?,
            Said::Plan(count, reason) if indent.is_multiple_of(INDENT) => {
                self.flush()?;
                self.open_to(depth, place)?;
                self.seen = true;
                if let Some(level) = self.levels.get_mut(depth) {
                    level.planned = Some(count);
                }
                if count == 0 && depth == 0 && !reason.is_empty() {
                    self.out.put_summary("skipped", reason);
                }
            }
            Said::BailOut(reason) => {
                self.seen = true;
                let mut reason = reason.to_owned();
                crate::text::cut(&mut reason, self.out.limits.message);
                return Err(place.fault(Reason::BailedOut(reason)));
            }
            Said::Version if depth == 0 => {
                self.flush()?;
                if self.seen {
                    self.close_to(1);
                    self.check(place)?;
                    self.levels = vec![Level::default()];
                    self.out.warn(WarningKind::SeveralReports);
                }
                self.seen = true;
            }
            Said::Comment(text) => {
                if self
                    .pending
                    .as_ref()
                    .is_some_and(|(case, _)| case.state.is_bad())
                {
                    self.comments.push(text.as_bytes());
                    self.comments.push(b"\n");
                }
            }
            Said::Nothing => self.foreign |= !text.trim().is_empty(),
            Said::Test(_) | Said::Plan(..) | Said::Version => {}
        }
        Ok(())
    }

    /// A comment names subtests: those below its own indentation, as Node.js writes it, or those at
    /// its indentation, if nothing stands there yet. So another one before it is that of a level
    /// that is open by now.
    fn announce(&mut self, depth: usize, name: &str, place: Place) -> Step<()> {
        if let Some((before, _)) = self.announced {
            let below = usize::from(self.levels.len() > before);
            self.open_to((before + below).min(depth), place)?;
        }
        let name = self.out.name(name);
        self.announced = Some((depth, name));
        Ok(())
    }

    fn test(&mut self, depth: usize, test: &Test<'_>, place: Place) -> Step<()> {
        self.flush()?;
        self.seen = true;
        let below = self.levels.len() > depth + 1;
        let failed = below && self.close_to(depth + 1);
        self.open_to(depth, place)?;
        let bad = !test.ok && test.directive.is_none();
        let Some(level) = self.levels.get_mut(depth) else {
            return Ok(());
        };
        level.count += 1;
        level.failed |= bad || failed;
        let name = self.out.name(&test.name);
        if test.opens {
            // Its subtests follow in braces.
            self.announced = Some((depth, name));
            return Ok(());
        }
        if below && (failed || !bad) {
            return Ok(());
        }
        let path: Vec<&str> = self.levels[1..].iter().map(|l| l.name.as_str()).collect();
        let path: Vec<&str> = path.into_iter().filter(|name| !name.is_empty()).collect();
        let number = test.number.map(|number| number.to_string());
        let mut case = Case {
            suite: self.out.name(&path.join(" > ")),
            name: match name.as_str() {
                // A test without a description is known by its number.
                "" => number.unwrap_or_else(|| self.levels[depth].count.to_string()),
                _ => name,
            },
            duration: self.out.millis(test.millis),
            state: if bad { State::Failed } else { State::Passed },
            tries: 1,
            ..Case::default()
        };
        if let Some((directive, reason)) = test.directive {
            case.state = State::Skipped;
            case.message = self.out.message(reason);
            case.kind = Some(directive.as_str().to_owned());
        }
        self.pending = Some((case, place));
        Ok(())
    }

    /// Hands the last test out.
    fn flush(&mut self) -> Step<()> {
        let comments = std::mem::replace(&mut self.comments, self.out.clip());
        let block = self.block.take();
        let Some((mut case, place)) = self.pending.take() else {
            return Ok(());
        };
        if let Some(block) = block {
            block.put_into(&mut case, self.out);
        }
        if case.state.is_bad() && case.stack.is_none() {
            case.stack = self.out.stack(comments);
            crate::junit::trouble::complete(&mut case, self.out);
        }
        self.out.took(case.duration);
        self.out.case(case, place)
    }

    /// Opens levels down to a depth.
    fn open_to(&mut self, depth: usize, place: Place) -> Step<()> {
        while self.levels.len() <= depth {
            if self.levels.len() > self.out.limits.depth {
                return Err(place.limit("depth", "levels", self.out.limits.depth));
            }
            let next = self.levels.len();
            let announced = self
                .announced
                .take_if(|(at, _)| *at == next || *at + 1 == next);
            self.levels.push(Level {
                name: announced.map(|(_, name)| name).unwrap_or_default(),
                ..Level::default()
            });
        }
        self.announced = None;
        Ok(())
    }

    /// Closes levels until so many are left; whether a test in them failed.
    fn close_to(&mut self, left: usize) -> bool {
        let mut failed = false;
        while self.levels.len() > left {
            let closed = self.levels.pop().unwrap_or_default();
            failed |= closed.failed;
        }
        failed
    }

    /// Whether as many tests came as were planned.
    fn check(&self, place: Place) -> Step<()> {
        let level = self.levels.first();
        let (count, planned) = level.map_or((0, None), |level| (level.count, level.planned));
        let text = match planned {
            None => format!("without a plan, after {count} tests"),
            Some(planned) if planned > count => {
                format!("after {count} of {planned} tests that are planned")
            }
            Some(_) => return Ok(()),
        };
        Err(place.fault(Reason::Truncated(text)))
    }
}
