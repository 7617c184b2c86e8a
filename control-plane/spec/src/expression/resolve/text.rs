//! `map`, `filter` and `eval`: functions with an expression in a text.

use super::{Argument, Resolver, Tree};
use crate::expression::error::Error;
use crate::expression::scope::{Layered, Lookup, Scope};
use crate::expression::value::{Value, text, truthy};
use crate::expression::{functions, parser};

/// Deepest nesting of expressions in texts.
const MAX_TEXT_NESTING: usize = 8;

impl Resolver<'_> {
    /// `map`, `filter` and `eval`: functions with an expression in a text.
    pub(super) fn text_function(
        &self,
        name: &str,
        values: &[Value],
    ) -> Result<Option<Tree>, Error> {
        match (name, values) {
            ("map", [list, body]) => self.map(list, body).map(Some),
            ("filter", [list, body]) => self.filter(list, body),
            ("eval", [body]) => {
                let tree = parser::parse(&text(body))?;
                self.below(self.scope)?.resolve(&tree).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn map(&self, list: &Value, body: &Value) -> Result<Tree, Error> {
        let items = functions::items("map", list)?;
        let body = parser::parse(&text(body))?;
        let mut results = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            results.push(self.with_item(index, value, &body)?);
        }
        let values: Option<Vec<Value>> = results
            .iter()
            .map(|tree| match tree {
                Tree::Literal(value) => Some(value.clone()),
                _ => None,
            })
            .collect();
        match values {
            Some(values) => self.known(Value::Array(values)),
            None => Ok(Tree::Call {
                name: "list".to_owned(),
                arguments: results
                    .into_iter()
                    .map(|tree| Argument {
                        tree,
                        spread: false,
                    })
                    .collect(),
            }),
        }
    }

    /// Nothing when the body is not known for an item: the call is kept whole.
    fn filter(&self, list: &Value, body: &Value) -> Result<Option<Tree>, Error> {
        let items = functions::items("filter", list)?;
        let tree = parser::parse(&text(body))?;
        let mut kept = Vec::new();
        for (index, value) in items.iter().enumerate() {
            match self.with_item(index, value, &tree)? {
                Tree::Literal(verdict) if truthy(&verdict) => kept.push(value.clone()),
                Tree::Literal(_) => {}
                _ => return Ok(None),
            }
        }
        self.known(Value::Array(kept)).map(Some)
    }

    fn with_item(&self, index: usize, value: &Value, body: &Tree) -> Result<Tree, Error> {
        let item = Item { index, value };
        let scope = Layered {
            inner: &item,
            outer: self.scope,
        };
        self.below(&scope)?.resolve(body)
    }

    /// The same pass one text deeper.
    fn below<'b>(&'b self, scope: &'b dyn Scope) -> Result<Resolver<'b>, Error> {
        if self.nesting >= MAX_TEXT_NESTING {
            return Err(Error::Limit(
                "more than 8 expressions in one another's texts",
            ));
        }
        Ok(Resolver {
            scope,
            budget: self.budget,
            nesting: self.nesting + 1,
        })
    }
}

/// `_.value`, `_.index` and `_.key` inside `map` and `filter`.
struct Item<'a> {
    index: usize,
    value: &'a Value,
}

impl Scope for Item<'_> {
    fn variable(&self, path: &str) -> Lookup {
        match path {
            "_.value" => Lookup::Known(self.value.clone()),
            "_.index" | "_.key" => Lookup::Known(Value::from(self.index)),
            _ => Lookup::Unknown,
        }
    }
}
