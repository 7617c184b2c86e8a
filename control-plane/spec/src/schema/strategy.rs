//! How often something is run, and with which values: `count`, `maxCount`, `matrix`, `shards`,
//! `balance` of services, workers and members of a suite. Into which instances that is worked out is the
//! business of [`crate::strategy`].

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::problem::Place;
use crate::yaml::Content;

use super::field::{Found, Json, Object, Reader, Text};
use super::visit::{Names, Visitor};

/// `count`, `maxCount`, `matrix`, `shards` and `balance`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Strategy {
    /// `count`, an expression of a number.
    pub count: Option<Text>,
    /// `maxCount`, an expression of a number.
    pub max_count: Option<Text>,
    /// `matrix`: each combination of the values.
    pub matrix: IndexMap<String, DynamicList>,
    /// `shards`: lists that are split over the instances.
    pub shards: IndexMap<String, DynamicList>,
    /// `balance`: what the parts of a shard are made equal in.
    #[serde(default, skip_serializing_if = "Balance::is_count")]
    pub balance: Balance,
}

/// What the parts of a shard are made equal in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Balance {
    /// How many values they have.
    #[default]
    Count,
    /// How long their values took in earlier runs.
    Duration,
}

impl Balance {
    /// What `balance` may say.
    pub(crate) const NAMES: [&'static str; 2] = ["count", "duration"];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub(crate) const fn is_count(&self) -> bool {
        matches!(self, Self::Count)
    }
}

/// A list, or an expression that gives one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DynamicList {
    /// The items, with templates in their texts.
    Items(Json),
    /// The expression.
    Expression(Text),
}

/// Most dimensions of a matrix, and most lists of shards.
const MAX_DIMENSIONS: usize = 32;

impl Strategy {
    /// Reads the five fields.
    pub(super) fn read(reader: &mut Reader, object: &mut Object<'_>) -> Self {
        let shards = lists(reader, object, "shards");
        Self {
            count: number(reader, object, "count"),
            max_count: number(reader, object, "maxCount"),
            matrix: lists(reader, object, "matrix"),
            balance: balance(reader, object, shards.is_empty()),
            shards,
        }
    }

    /// Whether nothing is said, which means one instance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Where a field is: `count`, `maxCount`, `matrix.browser`, `shards.files`.
    pub(crate) fn place_of(&self, field: &str) -> Option<&Arc<Place>> {
        match field.split_once('.') {
            None if field == "count" => self.count.as_ref().map(|text| &text.place),
            None if field == "maxCount" => self.max_count.as_ref().map(|text| &text.place),
            Some(("matrix", name)) => self.matrix.get(name).map(DynamicList::place),
            Some(("shards", name)) => self.shards.get(name).map(DynamicList::place),
            _ => None,
        }
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        for text in self.count.iter_mut().chain(&mut self.max_count) {
            visitor.formula(text);
        }
        for list in self.matrix.values_mut().chain(self.shards.values_mut()) {
            list.visit(visitor);
        }
    }

    /// The variables that each instance has of its own.
    pub(super) fn names(&self) -> Names {
        let mut names: Names = ["index", "count"].map(str::to_owned).into();
        for (root, lists) in [("matrix", &self.matrix), ("shard", &self.shards)] {
            names.insert(format!("{root}Index"));
            names.insert(format!("{root}Count"));
            names.extend(lists.keys().map(|key| format!("{root}.{key}")));
        }
        names
    }
}

impl DynamicList {
    /// Reads a list, or a text that is an expression.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        match &found.node.content {
            Content::List(_) => Some(Self::Items(found.json(reader))),
            _ => found
                .scalar(reader, "a list or an expression of one")
                .map(Self::Expression),
        }
    }

    fn place(&self) -> &Arc<Place> {
        match self {
            Self::Items(items) => &items.place,
            Self::Expression(text) => &text.place,
        }
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        match self {
            Self::Items(items) => visitor.late_value(items),
            Self::Expression(text) => visitor.formula(text),
        }
    }
}

/// What parts are made equal in; it needs lists that are split.
fn balance(reader: &mut Reader, object: &mut Object<'_>, nothing_to_split: bool) -> Balance {
    let Some(found) = object.take("balance") else {
        return Balance::Count;
    };
    let said = found.text(reader);
    let balance = match said.as_ref().map(|text| text.text.as_str()) {
        Some("count") | None => Balance::Count,
        Some("duration") => Balance::Duration,
        Some(other) => {
            let short: String = other.chars().take(60).collect();
            let names = Balance::NAMES.join(", ");
            let message = format!("shards can not be balanced by `{short}`; allowed: {names}");
            reader.problem(found.node.mark, &found.path, message);
            Balance::Count
        }
    };
    if nothing_to_split {
        let message = "there are no `shards` here that could be balanced";
        reader.problem(found.node.mark, &found.path, message);
    }
    balance
}

/// A number or an expression of one.
pub(super) fn number(
    reader: &mut Reader,
    object: &mut Object<'_>,
    name: &'static str,
) -> Option<Text> {
    let number = object.take(name)?;
    let number = number.scalar(reader, "a number or an expression of one");
    number.filter(Text::is_said)
}

fn lists(
    reader: &mut Reader,
    object: &mut Object<'_>,
    name: &'static str,
) -> IndexMap<String, DynamicList> {
    let Some(found) = object.take(name) else {
        return IndexMap::new();
    };
    let mut lists = IndexMap::new();
    let entries = found.entries(reader);
    if entries.len() > MAX_DIMENSIONS {
        let message = format!(
            "{} lists, at most {MAX_DIMENSIONS} are allowed",
            entries.len()
        );
        reader.problem(found.node.mark, &found.path, message);
        return lists;
    }
    for (entry, found) in entries {
        if let Some(list) = DynamicList::read(reader, &found) {
            lists.insert(entry.key.clone(), list);
        }
    }
    lists
}
