//! Cucumber's JSON: a list of features, each with scenarios. What the steps of a scenario say is in
//! `cucumber::steps`. A feature's name and file may stand behind its scenarios, so that those of one
//! feature are held until it ends.

use std::{collections::HashMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{
    broken::{Place, Step},
    case::{Case, Property, State},
    collector::Collector,
    input::Input,
    json::{self, few::Few, loose, object},
    number::whole,
    time,
};

mod steps;

use steps::Steps;

/// Reads a document.
pub(crate) fn read(input: Input<'_>, out: &mut Collector<'_>) -> Step<()> {
    out.summary.tool = Some("Cucumber".to_owned());
    json::read(input, out, false, |out, source| {
        source.deserialize_seq(Features { out })
    })
}

struct Features<'s, 'o> {
    out: &'s mut Collector<'o>,
}

impl<'de> Visitor<'de> for Features<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of features")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Feature { out: self.out })?.is_some() {}
        Ok(())
    }
}

struct Feature<'s, 'o> {
    out: &'s mut Collector<'o>,
}

impl<'de> DeserializeSeed<'de> for Feature<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Feature<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a feature")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let out = self.out;
        let mut cases = Vec::new();
        let (mut name, mut uri) = (String::new(), String::new());
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "name" => name = map.next_value::<loose::Text>()?.0.unwrap_or_default(),
                "uri" => uri = map.next_value::<loose::Text>()?.0.unwrap_or_default(),
                "elements" => map.next_value_seed(Elements {
                    out: &mut *out,
                    cases: &mut cases,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        /// The parser knows the line, and puts it in.
        const NOWHERE: Place = Place {
            line: 1,
            offset: None,
        };
        let (suite, class, file) = (out.name(&name), out.name(&uri), out.path(&uri));
        for mut case in cases {
            case.suite.clone_from(&suite);
            case.class.clone_from(&class);
            case.file.clone_from(&file);
            out.took(case.duration);
            out.started(case.started);
            if let Err(fault) = out.case(case, NOWHERE) {
                return Err(json::stop(out, fault));
            }
        }
        Ok(())
    }
}

struct Elements<'s, 'o> {
    out: &'s mut Collector<'o>,
    cases: &'s mut Vec<Case>,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of scenarios")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut background = Steps::default();
        let mut seen = HashMap::new();
        while let Some(element) = list.next_element::<Element>()? {
            if element.kind.0.as_deref() == Some("background") {
                background = element.steps;
                continue;
            }
            let ready = u64::try_from(self.cases.len()).unwrap_or(u64::MAX);
            let total = self.out.summary.counts.total().saturating_add(ready);
            if total >= self.out.limits.cases {
                let nowhere = Place {
                    line: 1,
                    offset: None,
                };
                let most = usize::try_from(self.out.limits.cases).unwrap_or(usize::MAX);
                let fault = nowhere.limit("cases", "cases", most);
                return Err(json::stop(self.out, fault));
            }
            let before = std::mem::take(&mut background);
            let case = element.into_case(before, &mut seen, self.out);
            self.cases.push(case);
        }
        Ok(())
    }
}

object! {
    /// A scenario, a row of an outline, or a background.
    struct Element {
        name: loose::Text = "name",
        keyword: loose::Text = "keyword",
        kind: loose::Text = "type",
        line: loose::Number = "line",
        start_timestamp: loose::Text = "start_timestamp",
        tags: Few<Tag> = "tags",
        before: Steps = "before",
        steps: Steps = "steps",
        after: Steps = "after",
    }
}

object! {
    struct Tag {
        name: loose::Text = "name",
    }
}

impl Element {
    /// Scenarios of one name in a feature are numbered: they are rows of an outline, and a report has
    /// each once.
    fn into_case(
        self,
        background: Steps,
        seen: &mut HashMap<String, u64>,
        out: &mut Collector<'_>,
    ) -> Case {
        let name = out.name(self.name.0.as_deref().unwrap_or_default());
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        let keyword = self.keyword.0.unwrap_or_default();
        let outline = keyword.contains("Outline") || keyword.contains("Template");
        let parameters = (outline || *count > 1).then(|| count.to_string());
        let mut steps = self.before;
        steps.add(background);
        steps.add(self.steps);
        steps.add(self.after);
        let mut case = Case {
            name,
            parameters,
            line: self
                .line
                .0
                .and_then(whole)
                .and_then(|line| u32::try_from(line).ok()),
            started: self.start_timestamp.0.as_deref().and_then(time::parse),
            tries: 1,
            ..Case::default()
        };
        for tag in self.tags.items {
            let Property { name, value } = out.property("tag", &tag.name.0.unwrap_or_default());
            out.put(&mut case.properties, &name, &value);
        }
        steps.put(&mut case, out);
        if case.state == State::Passed {
            case.message = None;
        }
        case
    }
}
