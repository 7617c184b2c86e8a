//! The Common Test Report Format: `results`, with `tests`. A test is handed out as it is read; what one
//! says is in `ctrf::test`.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    broken::{Place, Step},
    collector::Collector,
    input::Input,
    json::{self, loose},
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
                    let text = [tool.name, tool.version].into_iter().flatten();
                    let text = text.collect::<Vec<_>>().join(" ");
                    out.summary.tool = out.optional_name(&text);
                }
                "summary" => {
                    let summary: Whole = map.next_value()?;
                    out.started(summary.start.and_then(time::from_epoch));
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
        source.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Tests<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tests")
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    #[serde(deserialize_with = "loose::text")]
    name: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    version: Option<String>,
}

/// The summary. Its counts are not looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Whole {
    #[serde(deserialize_with = "loose::number")]
    start: Option<f64>,
    #[serde(deserialize_with = "loose::number")]
    stop: Option<f64>,
    #[serde(deserialize_with = "loose::number")]
    duration: Option<f64>,
}

impl Whole {
    fn took(&self) -> Option<std::time::Duration> {
        if let Some(duration) = self.duration {
            return number::from_millis(duration);
        }
        let (start, stop) = (self.start?, self.stop?);
        number::from_millis(stop - start)
    }
}

/// Of the environment what says which software was tested.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Environment {
    #[serde(deserialize_with = "loose::text")]
    app_name: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    app_version: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    branch_name: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    commit: Option<String>,
    #[serde(deserialize_with = "loose::text")]
    test_environment: Option<String>,
}

impl Environment {
    fn put(self, out: &mut Collector<'_>) {
        let members = [
            ("appName", self.app_name),
            ("appVersion", self.app_version),
            ("branchName", self.branch_name),
            ("commit", self.commit),
            ("testEnvironment", self.test_environment),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                out.put_summary(name, &value);
            }
        }
    }
}
