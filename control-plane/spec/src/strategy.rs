//! From a strategy to instances: which workers, services and members there are, and the
//! variables that each has of its own. Pure; the compiler looks at it to find mistakes early,
//! the conductor when all values are known.
//!
//! The rules are those of the language: instances are all combinations of the matrix, each
//! `count` times; `maxCount` is a cap, fewer where the shortest list of shards has fewer values;
//! shards are split into parts of which none is longer than another by more than one, unless they are
//! balanced by how long their values take, see `balance`.

mod balance;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Map, json};

use crate::expression::{self, Expression, Scope, Template, Value};
use crate::plan;

/// Most instances of one strategy.
pub const MAX_INSTANCES: usize = 10_000;
/// Most values of one list.
pub const MAX_VALUES: usize = 100_000;

pub use balance::about;

/// Why there are no instances.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not known yet.
    #[error("`{0}` is not known here")]
    Unknown(String),
    /// It is wrong.
    #[error("{field}: {message}")]
    Wrong {
        /// Where: `count`, `matrix.browser`, …
        field: String,
        /// What was found and what is allowed.
        message: String,
    },
}

impl Error {
    fn wrong(field: &str, message: impl Into<String>) -> Self {
        Self::Wrong {
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

/// All instances; each is made when it is asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Instances {
    matrix: Vec<(String, Vec<Value>)>,
    shards: Vec<(String, Vec<Value>)>,
    combinations: usize,
    /// Instances of one combination.
    each: usize,
    /// How shards are split when it is not evenly.
    balanced: Option<Balanced>,
}

/// Shards that are split by how long their values take.
#[derive(Debug, Clone, PartialEq, Default)]
struct Balanced {
    /// Of each list the places of the values that each part gets.
    parts: Vec<Vec<Vec<usize>>>,
    /// How long each part takes, in milliseconds.
    loads: Vec<u64>,
}

/// What came of balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Values whose time is known from earlier runs.
    pub known: usize,
    /// All values.
    pub values: usize,
    /// How long the shortest part takes.
    pub shortest: Duration,
    /// How long the longest part takes.
    pub longest: Duration,
}

/// One instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its number, from 0.
    pub index: usize,
    /// `index`, `count`, `matrix`, `matrixIndex`, `matrixCount`, `shard`, `shardIndex` and
    /// `shardCount`, as expressions know them.
    pub variables: Map<String, Value>,
    /// What makes it differ from the others, for people: `browser=chrome, shard 2 of 3`.
    pub label: String,
}

impl Instances {
    /// Works a strategy out.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when the scope does not know all variables yet, [`Error::Wrong`] when
    /// a value is not what it should be or there are more than [`MAX_INSTANCES`].
    pub fn resolve(strategy: &plan::Strategy, scope: &dyn Scope) -> Result<Self, Error> {
        let matrix = lists("matrix", &strategy.matrix, scope)?;
        let shards = lists("shards", &strategy.shards, scope)?;
        let mut count = number("count", strategy.count.as_deref(), scope)?;
        let cap = number("maxCount", strategy.max_count.as_deref(), scope)?;
        if let Some(cap) = cap {
            let shortest = shards.iter().map(|(_, values)| values.len()).min();
            let most = cap.min(shortest.unwrap_or(usize::MAX));
            count = Some(count.unwrap_or(most).min(most));
        }
        let combinations = matrix.iter().try_fold(1_usize, |product, (_, values)| {
            product.checked_mul(values.len())
        });
        let instances = Self {
            combinations: combinations.unwrap_or(usize::MAX),
            each: count.unwrap_or(1),
            matrix,
            shards,
            balanced: None,
        };
        let total = instances.combinations.checked_mul(instances.each);
        match total {
            Some(total) if total <= MAX_INSTANCES => Ok(instances),
            _ => {
                let field = match (instances.matrix.is_empty(), instances.shards.is_empty()) {
                    (true, true) => "count",
                    (true, false) => "shards",
                    (false, _) => "matrix",
                };
                let found = instances.describe();
                let message = format!("{found}, at most {MAX_INSTANCES} are allowed");
                Err(Error::wrong(field, message))
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.combinations.saturating_mul(self.each)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the number comes about, for people: `6 instances: 3 combinations of browser × 2`.
    #[must_use]
    pub fn describe(&self) -> String {
        let total = match self.combinations.checked_mul(self.each) {
            Some(1) => "1 instance".to_owned(),
            Some(total) => format!("{total} instances"),
            None => "more instances than can be counted".to_owned(),
        };
        if self.matrix.is_empty() && self.shards.is_empty() {
            return total;
        }
        let mut parts = Vec::new();
        let sizes = |lists: &[(String, Vec<Value>)]| {
            let sizes = lists
                .iter()
                .map(|(name, values)| format!("{name} ({})", values.len()));
            sizes.collect::<Vec<_>>().join(", ")
        };
        if !self.matrix.is_empty() {
            parts.push(format!("matrix of {}", sizes(&self.matrix)));
        }
        if !self.shards.is_empty() {
            parts.push(format!("shards of {}", sizes(&self.shards)));
        }
        if self.each != 1 {
            parts.push(format!("count {}", self.each));
        }
        format!("{total}: {}", parts.join(", "))
    }

    /// The values that shards are split from, as texts, each once and in their order.
    #[must_use]
    pub fn shard_values(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        let values = self.shards.iter().flat_map(|(_, values)| values);
        let texts = values.map(expression::text);
        texts.filter(|text| seen.insert(text.clone())).collect()
    }

    /// Splits shards so that all parts take about as long, given how long values took, in
    /// milliseconds, by their texts. A value that is not among them takes the median of those that
    /// are. Nothing changes when none is, or when there is one part.
    ///
    /// Several lists are split one after the other, each for the parts that have the least so far.
    pub fn balance(&mut self, known: &HashMap<String, u64>) -> Option<Estimate> {
        if self.each < 2 || self.is_empty() {
            return None;
        }
        let weigh = |(_, values): &(String, Vec<Value>)| -> Vec<Option<u64>> {
            let texts = values.iter().map(expression::text);
            texts.map(|text| known.get(&text).copied()).collect()
        };
        let weights: Vec<Vec<Option<u64>>> = self.shards.iter().map(weigh).collect();
        let mut all: Vec<u64> = weights.iter().flatten().flatten().copied().collect();
        all.sort_unstable();
        let median = *all.get(all.len() / 2)?;
        let mut loads = vec![0; self.each];
        let parts = weights.iter().map(|weights| {
            let weights: Vec<u64> = weights.iter().map(|one| one.unwrap_or(median)).collect();
            balance::split(&weights, &mut loads)
        });
        let parts = parts.collect();
        let extreme = |load: Option<&u64>| Duration::from_millis(load.copied().unwrap_or_default());
        let estimate = Estimate {
            known: all.len(),
            values: weights.iter().map(Vec::len).sum(),
            shortest: extreme(loads.iter().min()),
            longest: extreme(loads.iter().max()),
        };
        self.balanced = Some(Balanced { parts, loads });
        Some(estimate)
    }

    /// What part `part` gets of each list.
    fn shard(&self, part: usize) -> Map<String, Value> {
        let mut shard = Map::new();
        for (number, (name, values)) in self.shards.iter().enumerate() {
            let own = match &self.balanced {
                None => split(values, part, self.each).to_vec(),
                Some(balanced) => {
                    let places = balanced.parts.get(number).and_then(|all| all.get(part));
                    let places = places.into_iter().flatten();
                    places.filter_map(|at| values.get(*at).cloned()).collect()
                }
            };
            shard.insert(name.clone(), Value::Array(own));
        }
        shard
    }

    /// What a part is called, for people: `shard 2 of 4`, and what it is made of when that differs.
    fn shard_label(&self, part: usize, shard: &Map<String, Value>) -> String {
        let label = format!("shard {} of {}", part + 1, self.each);
        let load = self.balanced.as_ref().and_then(|it| it.loads.get(part));
        let Some(load) = load else { return label };
        let sizes = shard.iter().map(|(name, values)| {
            let count = values.as_array().map_or(0, Vec::len);
            format!("{count} {name}")
        });
        let sizes = sizes.collect::<Vec<_>>().join(" and ");
        let time = balance::about(Duration::from_millis(*load));
        format!("{label}: {sizes}, about {time}")
    }

    /// What each part is called, for people, as it is in labels.
    pub fn shard_labels(&self) -> impl ExactSizeIterator<Item = String> {
        let parts = 0..self.each;
        parts.map(|part| self.shard_label(part, &self.shard(part)))
    }

    /// The instance of a number below [`Instances::len`].
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Instance> {
        if index >= self.len() {
            return None;
        }
        let (combination, part) = (index / self.each, index % self.each);
        let mut variables = Map::new();
        variables.insert("index".to_owned(), json!(index));
        variables.insert("count".to_owned(), json!(self.len()));
        let mut labels = Vec::new();
        // The counters are there whatever the strategy is.
        variables.insert("matrixIndex".to_owned(), json!(combination));
        variables.insert("matrixCount".to_owned(), json!(self.combinations));
        variables.insert("shardIndex".to_owned(), json!(part));
        variables.insert("shardCount".to_owned(), json!(self.each));
        if !self.matrix.is_empty() {
            let values = self.combination(combination);
            labels.extend(values.iter().map(|(name, value)| {
                let text: String = expression::text(value).chars().take(60).collect();
                format!("{name}={text}")
            }));
            variables.insert("matrix".to_owned(), Value::Object(values));
        }
        if !self.shards.is_empty() {
            let shard = self.shard(part);
            labels.push(self.shard_label(part, &shard));
            variables.insert("shard".to_owned(), Value::Object(shard));
        } else if self.each > 1 {
            labels.push(format!("{} of {}", part + 1, self.each));
        }
        Some(Instance {
            index,
            variables,
            label: labels.join(", "),
        })
    }

    /// The values of one combination: the last name changes fastest.
    fn combination(&self, number: usize) -> Map<String, Value> {
        let mut rest = number;
        let mut picked = Vec::with_capacity(self.matrix.len());
        for (name, values) in self.matrix.iter().rev() {
            let value = values.get(rest % values.len()).cloned().unwrap_or_default();
            picked.push((name.clone(), value));
            rest /= values.len();
        }
        picked.into_iter().rev().collect()
    }
}

/// Part `part` of `parts` parts; the first ones are longer by one where it does not come out even.
fn split(values: &[Value], part: usize, parts: usize) -> &[Value] {
    let (size, longer) = (values.len() / parts, values.len() % parts);
    let start = part * size + part.min(longer);
    let end = start + size + usize::from(part < longer);
    values.get(start..end).unwrap_or_default()
}

fn lists(
    field: &str,
    lists: &indexmap::IndexMap<String, Value>,
    scope: &dyn Scope,
) -> Result<Vec<(String, Vec<Value>)>, Error> {
    lists
        .iter()
        .map(|(name, list)| {
            Ok((
                name.clone(),
                items(&format!("{field}.{name}"), list, scope)?,
            ))
        })
        .collect()
}

/// The items of a list: given one by one, with templates in their texts, or by an expression.
///
/// # Errors
///
/// As [`Instances::resolve`]; `field` names the list in the text.
pub fn items(field: &str, list: &Value, scope: &dyn Scope) -> Result<Vec<Value>, Error> {
    let values = match list {
        Value::Array(items) => items
            .iter()
            .map(|item| templates(field, item, scope))
            .collect::<Result<Vec<_>, _>>()?,
        Value::String(text) => match evaluate(field, text, scope)? {
            Value::Array(items) => items,
            other => {
                let found: String = other.to_string().chars().take(60).collect();
                let text: String = text.chars().take(60).collect();
                let message = format!(
                    "expected a list, `{text}` is {found}; make one of a text with `split` or `json`"
                );
                return Err(Error::wrong(field, message));
            }
        },
        other => {
            return Err(Error::wrong(
                field,
                format!("expected a list, found {other}"),
            ));
        }
    };
    if values.len() > MAX_VALUES {
        let found = values.len();
        let message = format!("{found} values, at most {MAX_VALUES} are allowed");
        return Err(Error::wrong(field, message));
    }
    Ok(values)
}

fn templates(field: &str, value: &Value, scope: &dyn Scope) -> Result<Value, Error> {
    Ok(match value {
        Value::String(text) if text.contains("{{") => {
            let resolved = Template::parse(text)
                .and_then(|template| template.resolve(scope))
                .map_err(|error| Error::wrong(field, error.to_string()))?;
            match resolved.text() {
                Some(text) => Value::from(text),
                None => return Err(Error::Unknown(text.clone())),
            }
        }
        Value::Array(items) => items
            .iter()
            .map(|item| templates(field, item, scope))
            .collect::<Result<_, _>>()?,
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| Ok((key.clone(), templates(field, item, scope)?)))
            .collect::<Result<_, _>>()?,
        other => other.clone(),
    })
}

/// The number that an expression gives; nothing when there is no expression.
///
/// # Errors
///
/// As [`Instances::resolve`].
pub fn number(field: &str, text: Option<&str>, scope: &dyn Scope) -> Result<Option<usize>, Error> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let value = evaluate(field, text, scope)?;
    if value.as_str().is_some_and(|text| text.trim().is_empty()) {
        return Ok(None);
    }
    let number = match &value {
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).and_then(whole)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        let found: String = value.to_string().chars().take(60).collect();
        Error::wrong(
            field,
            format!("expected a whole number from 0 on, found {found}"),
        )
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number in range"
)]
fn whole(number: f64) -> Option<u64> {
    (0.0..=1e15).contains(&number).then_some(number as u64)
}

fn evaluate(field: &str, text: &str, scope: &dyn Scope) -> Result<Value, Error> {
    let resolved = Expression::parse(text)
        .and_then(|expression| expression.resolve(scope))
        .map_err(|error| Error::wrong(field, error.to_string()))?;
    resolved
        .value()
        .cloned()
        .ok_or_else(|| Error::Unknown(resolved.to_string()))
}

#[cfg(test)]
mod tests;
