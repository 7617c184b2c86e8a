//! Reading fields: the cursor over a map that knows its path, gathers problems and ends with
//! "unknown field".

#[cfg(test)]
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::expression::Value;
use crate::problem::{Place, Problem, Problems};
use crate::suggest;
use crate::yaml::{Content, Entry, Mark, Node};

/// A text of a manifest with its place; a template or an expression, by its field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub place: Arc<Place>,
}

impl Text {
    /// Whether it says anything.
    #[must_use]
    pub fn is_said(&self) -> bool {
        !self.text.trim().is_empty()
    }
}

/// A value that is passed on as it is, apart from templates in its texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Json {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Arc<Place>,
}

/// What reading a document gathers.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Name for places, when the file has several documents.
    pub(super) document: Arc<str>,
    /// What breaks the schema.
    pub(super) problems: Problems,
    /// What the language has and this version has not.
    pub(super) unsupported: Problems,
    /// What has no effect.
    pub(super) warnings: Problems,
    /// The fields that are known at each path.
    #[cfg(test)]
    pub(super) known: BTreeMap<String, BTreeSet<String>>,
}

impl Reader {
    pub(super) fn place(&self, mark: Mark, path: &str) -> Place {
        Place {
            document: Arc::clone(&self.document),
            ..mark.place(path)
        }
    }

    pub(super) fn problem(&mut self, mark: Mark, path: &str, message: impl Into<String>) {
        let problem = Problem::new(&self.place(mark, path), message);
        self.problems.push(problem);
    }

    /// Remembers which fields are known at a path, for the test that compares them with the JSON
    /// Schema.
    #[cfg(test)]
    pub(super) fn record(&mut self, path: &str, fields: &[&str]) {
        let known = self.known.entry(path.to_owned()).or_default();
        known.extend(fields.iter().map(|field| (*field).to_owned()));
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "nothing is recorded outside of tests")]
    pub(super) fn record(&self, _path: &str, _fields: &[&str]) {}

    fn expected(&mut self, found: &Found<'_>, what: &str) {
        let mut problem = Problem::new(
            &self.place(found.node.mark, &found.path),
            format!("expected {what}, found {}", found.node.describe()),
        );
        if what == "text"
            && matches!(&found.node.content, Content::Scalar(scalar) if !scalar.quoted)
        {
            problem = problem.with_cure("put it in quotes");
        }
        self.problems.push(problem);
    }
}

/// A node with its path.
#[derive(Debug, Clone)]
pub(super) struct Found<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

impl<'n> Found<'n> {
    pub(super) fn text(&self, reader: &mut Reader) -> Option<Text> {
        match &self.node.content {
            Content::Scalar(scalar) if scalar.value().is_string() => {
                Some(self.as_text(reader, scalar.text.clone()))
            }
            _ => {
                reader.expected(self, "text");
                None
            }
        }
    }

    /// Text, or a number or boolean taken as its text.
    pub(super) fn scalar(&self, reader: &mut Reader, what: &str) -> Option<Text> {
        match &self.node.content {
            Content::Scalar(scalar) => {
                let text = match scalar.value() {
                    Value::String(text) => text,
                    value => crate::expression::text(&value),
                };
                Some(self.as_text(reader, text))
            }
            _ => {
                reader.expected(self, what);
                None
            }
        }
    }

    /// Warns of a number whose text is another one than what is written, where a text is meant.
    pub(super) fn warn_of_number(&self, reader: &mut Reader) {
        let Content::Scalar(scalar) = &self.node.content else {
            return;
        };
        let value = scalar.value();
        let text = crate::expression::text(&value);
        if value.is_number() && text != scalar.text {
            let written: String = scalar.text.chars().take(60).collect();
            let message = format!("`{written}` is a number, read as `{text}`");
            let place = reader.place(self.node.mark, &self.path);
            let cure = "put it in quotes to keep it as it is";
            reader
                .warnings
                .push(Problem::new(&place, message).with_cure(cure));
        }
    }

    fn as_text(&self, reader: &Reader, text: String) -> Text {
        Text {
            text,
            place: Arc::new(reader.place(self.node.mark, &self.path)),
        }
    }

    pub(super) fn flag(&self, reader: &mut Reader) -> Option<bool> {
        if let Content::Scalar(scalar) = &self.node.content
            && !scalar.quoted
        {
            match (scalar.value(), scalar.text.to_ascii_lowercase().as_str()) {
                (Value::Bool(flag), _) => return Some(flag),
                (_, "yes" | "on") => return Some(true),
                (_, "no" | "off") => return Some(false),
                _ => {}
            }
        }
        reader.expected(self, "true or false");
        None
    }

    pub(super) fn integer(&self, reader: &mut Reader) -> Option<i64> {
        let value = match &self.node.content {
            Content::Scalar(scalar) => scalar.value().as_i64(),
            _ => None,
        };
        if value.is_none() {
            reader.expected(self, "an integer");
        }
        value
    }

    pub(super) fn number(&self, reader: &mut Reader) -> Option<f64> {
        let value = match &self.node.content {
            Content::Scalar(scalar) => scalar.value().as_f64(),
            _ => None,
        };
        if value.is_none() {
            reader.expected(self, "a number");
        }
        value
    }

    pub(super) fn json(&self, reader: &Reader) -> Json {
        Json {
            value: self.node.to_value(),
            place: Arc::new(reader.place(self.node.mark, &self.path)),
        }
    }

    pub(super) fn items(&self, reader: &mut Reader) -> Vec<Self> {
        let Content::List(items) = &self.node.content else {
            reader.expected(self, "a list");
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items
            .map(|(index, node)| Found {
                node,
                path: format!("{}[{index}]", self.path),
            })
            .collect()
    }

    /// Keys with their values.
    pub(super) fn entries(&self, reader: &mut Reader) -> Vec<(&'n Entry, Self)> {
        let Content::Map(entries) = &self.node.content else {
            reader.expected(self, "a map");
            return Vec::new();
        };
        let found = |entry: &'n Entry| {
            let found = Found {
                node: &entry.value,
                path: format!("{}.{}", self.path, entry.key),
            };
            (entry, found)
        };
        entries.iter().map(found).collect()
    }

    pub(super) fn texts(&self, reader: &mut Reader) -> IndexMap<String, Text> {
        let mut texts = IndexMap::new();
        for (entry, found) in self.entries(reader) {
            if let Some(text) = found.text(reader) {
                texts.insert(entry.key.clone(), text);
            }
        }
        texts
    }

    pub(super) fn scalars(&self, reader: &mut Reader, what: &str) -> IndexMap<String, Text> {
        let mut texts = IndexMap::new();
        for (entry, found) in self.entries(reader) {
            if let Some(text) = found.scalar(reader, what) {
                texts.insert(entry.key.clone(), text);
            }
        }
        texts
    }

    pub(super) fn text_list(&self, reader: &mut Reader) -> Vec<Text> {
        let items = self.items(reader);
        items.iter().filter_map(|item| item.text(reader)).collect()
    }

    /// The map as an object; a problem when it is none.
    pub(super) fn object(&self, reader: &mut Reader) -> Option<Object<'n>> {
        match &self.node.content {
            Content::Map(entries) => Some(Object {
                entries,
                path: self.path.clone(),
                mark: self.node.mark,
                asked: Vec::new(),
                cures: Vec::new(),
            }),
            _ => {
                reader.expected(self, "a map");
                None
            }
        }
    }
}

/// A map with known fields. Fields asked for are the known ones; [`Object::finish`] refuses the
/// others.
#[derive(Debug)]
pub(super) struct Object<'n> {
    entries: &'n [Entry],
    path: String,
    mark: Mark,
    asked: Vec<&'static str>,
    /// What to do about fields that are known elsewhere and not here.
    cures: Vec<(&'static str, &'static str)>,
}

impl<'n> Object<'n> {
    pub(super) fn place(&self, reader: &Reader) -> Arc<Place> {
        Arc::new(reader.place(self.mark, &self.path))
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A field, when it is there and not `null`.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Found<'n>> {
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        if entry.value.is_null() {
            return None;
        }
        let separator = if self.path.is_empty() { "" } else { "." };
        Some(Found {
            node: &entry.value,
            path: format!("{}{separator}{name}", self.path),
        })
    }

    pub(super) fn text(&mut self, reader: &mut Reader, name: &'static str) -> Option<Text> {
        self.take(name)?.text(reader)
    }

    /// A text that says something: an empty one is as good as none.
    pub(super) fn said(&mut self, reader: &mut Reader, name: &'static str) -> Option<Text> {
        self.text(reader, name).filter(Text::is_said)
    }

    pub(super) fn scalar(&mut self, reader: &mut Reader, name: &'static str) -> Option<Text> {
        self.take(name)?.scalar(reader, "text or a number")
    }

    pub(super) fn flag(&mut self, reader: &mut Reader, name: &'static str) -> Option<bool> {
        self.take(name)?.flag(reader)
    }

    pub(super) fn texts(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
    ) -> IndexMap<String, Text> {
        self.take(name)
            .map(|found| found.texts(reader))
            .unwrap_or_default()
    }

    pub(super) fn text_list(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
    ) -> Option<Vec<Text>> {
        Some(self.take(name)?.text_list(reader))
    }

    /// A list of whatever `read` makes of an item.
    pub(super) fn list<T>(
        &mut self,
        reader: &mut Reader,
        name: &'static str,
        read: impl Fn(&mut Reader, &Found<'n>) -> Option<T>,
    ) -> Vec<T> {
        let Some(found) = self.take(name) else {
            return Vec::new();
        };
        let items = found.items(reader);
        items.iter().filter_map(|item| read(reader, item)).collect()
    }

    /// Fields of the language that this version refuses to run.
    pub(super) fn unsupported(&mut self, reader: &mut Reader, names: &[&'static str]) {
        for name in names {
            if let Some(found) = self.take(name) {
                let place = reader.place(found.node.mark, &found.path);
                let problem = Problem::new(&place, format!("not supported yet: `{name}`"));
                reader.unsupported.push(problem);
            }
        }
    }

    /// A field that has no effect.
    pub(super) fn without_effect(&mut self, reader: &mut Reader, name: &'static str, why: &str) {
        if let Some(found) = self.take(name) {
            let place = reader.place(found.node.mark, &found.path);
            let problem = Problem::new(&place, format!("`{name}` has no effect: {why}"));
            reader.warnings.push(problem);
        }
    }

    /// Fields that are allowed and not looked at.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// What to write in the place of a field that people expect here.
    pub(super) fn cure(&mut self, name: &'static str, cure: &'static str) {
        self.cures.push((name, cure));
    }

    /// Refuses the fields that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader) {
        reader.record(&self.path, &self.asked);
        for entry in self.entries {
            if self.asked.contains(&entry.key.as_str()) {
                continue;
            }
            let separator = if self.path.is_empty() { "" } else { "." };
            let key: String = entry.key.chars().take(60).collect();
            let path = format!("{}{separator}{key}", self.path);
            let place = reader.place(entry.mark, &path);
            let mut problem = Problem::new(&place, format!("unknown field `{key}`"));
            let own = self.cures.iter().find(|(name, _)| *name == entry.key);
            problem.cure = match own {
                Some((_, cure)) => Some((*cure).to_owned()),
                None => suggest::advice(&key, &self.asked),
            };
            reader.problems.push(problem);
        }
    }
}
