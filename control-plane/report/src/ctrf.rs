//! The Common Test Report Format: `results`, with `tests`. A test is handed out as it is read; what one
//! says is in `ctrf::test`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    broken::{Place, Step},
    collector::Collector,
    input::Input,
    json::{self, loose, object},
    number, time,
};

mod test;

use test::Test;

/// Reads a document.
pub(crate) fn read(input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    json::read(input, out, false, |out, source| {
        let found = source.deserialize_map(Root { out: &mut *out })?;
        if found {
            Ok(())
        } else {
            Err(json::unexpected(out, "`results` with `tests`"))
        }
    })
}

struct Root<'s, 'o> {
    out: &'s mut Collector<'o>,
}

impl<'de> Visitor<'de> for Root<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "results" {
                found |= map.next_value_seed(Results { out: self.out })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct Results<'s, 'o> {
    out: &'s mut Collector<'o>,
}

impl<'de> DeserializeSeed<'de> for Results<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<bool, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Results<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object `results`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let out = self.out;
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "tool" => {
                    let tool: Tool = map.next_value()?;
                    let text = [tool.name.0, tool.version.0].into_iter().flatten();
                    let text = text.collect::<Vec<_>>().join(" ");
                    out.summary.tool = out.optional_name(&text);
                }
                "summary" => {
                    let summary: Whole = map.next_value()?;
                    out.started(summary.start.0.and_then(time::from_epoch));
                    out.summary.duration = summary.took();
                }
                "environment" => {
                    let environment: Environment = map.next_value()?;
                    environment.put(out);
                }
                "tests" => {
                    found = true;
                    map.next_value_seed(Tests { out: &mut *out })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

struct Tests<'s, 'o> {
    out: &'s mut Collector<'o>,
}

impl<'de> DeserializeSeed<'de> for Tests<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tests<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tests")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        /// The parser knows the line, and puts it in.
        const NOWHERE: Place = Place {
            line: 1,
            offset: None,
        };
        while let Some(test) = list.next_element::<Test>()? {
            let case = test.into_case(self.out);
            if let Err(fault) = self.out.case(case, NOWHERE) {
                return Err(json::stop(self.out, fault));
            }
        }
        Ok(())
    }
}

object! {
    struct Tool {
        name: loose::Text = "name",
        version: loose::Text = "version",
    }
}

object! {
    /// The summary. Its counts are not looked at.
    struct Whole {
        start: loose::Number = "start",
        stop: loose::Number = "stop",
        duration: loose::Number = "duration",
    }
}

impl Whole {
    fn took(&self) -> Option<std::time::Duration> {
        if let Some(duration) = self.duration.0 {
            return number::from_millis(duration);
        }
        let (start, stop) = (self.start.0?, self.stop.0?);
        number::from_millis(stop - start)
    }
}

object! {
    /// Of the environment what says which software was tested.
    struct Environment {
        app_name: loose::Text = "appName",
        app_version: loose::Text = "appVersion",
        branch_name: loose::Text = "branchName",
        commit: loose::Text = "commit",
        test_environment: loose::Text = "testEnvironment",
    }
}

impl Environment {
    fn put(self, out: &mut Collector<'_>) {
        let members = [
            ("appName", self.app_name.0),
            ("appVersion", self.app_version.0),
            ("branchName", self.branch_name.0),
            ("commit", self.commit.0),
            ("testEnvironment", self.test_environment.0),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                out.put_summary(name, &value);
            }
        }
    }
}
