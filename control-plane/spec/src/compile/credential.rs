//! `credential(name)`: the control plane gives the value while the workflow runs. Which names are
//! meant is found here, since the plan says which ones may be asked for: what a test does can not
//! widen that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;

use crate::expression::{Budget, Error, Expression, Lookup, Scope, Template, Value, text};
use crate::plan;
use crate::problem::{Problem, Problems};
use crate::schema::{Json, Names, Spec, Strategy, Text, Visitor};
use crate::strategy::Instances;

use super::resolve::names_overlap;

/// Name of the function.
pub(super) const FUNCTION: &str = "credential";

/// Most credentials that a workflow may name: a conductor keeps them in memory.
pub const MAX_CREDENTIALS: usize = 100;
/// Longest name.
const LONGEST: usize = 63;

/// What to do about a name that is not known in time.
const CURE: &str = "write the name as it is, or put it together of parameters, or of the values of \
    a `matrix` that are written out";

/// The names of all credentials that a resolved spec asks for, those of its workers and services
/// too. With `allowed`, others are refused.
pub(super) fn names(
    spec: &mut Spec,
    allowed: Option<&BTreeSet<String>>,
    budget: &Budget,
    problems: &mut Problems,
) -> BTreeSet<String> {
    let mut gatherer = Gatherer {
        allowed,
        budget,
        problems,
        names: BTreeSet::new(),
        blocks: Vec::new(),
    };
    spec.visit(&mut gatherer);
    gatherer.names
}

/// Visits the texts that may ask for credentials; that others do not is checked when they are
/// resolved.
struct Gatherer<'a> {
    allowed: Option<&'a BTreeSet<String>>,
    budget: &'a Budget,
    problems: &'a mut Problems,
    names: BTreeSet<String>,
    /// The blocks around the text, the outermost first.
    blocks: Vec<Block>,
}

/// What is compiled for each instance of a strategy.
struct Block {
    own: Names,
    /// All of them, when they are known by now.
    instances: Option<Instances>,
}

/// The variables of one instance.
struct Instance(Map<String, Value>);

impl Scope for Instance {
    fn variable(&self, path: &str) -> Lookup {
        self.0.get(path).cloned().into()
    }
}

impl Gatherer<'_> {
    /// Notes what a call asks for.
    fn call(&mut self, arguments: Option<Vec<Expression>>) -> Result<(), (String, &'static str)> {
        let write = "write for example `credential(\"deploy-token\")`";
        let arguments = arguments.as_deref();
        let (name, computed) = match arguments {
            Some([name]) => (name, None),
            Some([name, computed]) => (name, computed.value()),
            Some(_) => {
                return Err((
                    "`credential` takes a name and `true` or `false`".into(),
                    write,
                ));
            }
            None => return Err(("the arguments of `credential` are not known".into(), write)),
        };
        if computed.is_some_and(|value| !value.is_boolean()) {
            let message = "the second argument of `credential` is `true` or `false`";
            return Err((message.into(), write));
        }
        let names = self
            .values(name)
            .map_err(|error| (error.to_string(), CURE))?;
        let Some(names) = names else {
            let name: String = name.to_string().chars().take(80).collect();
            let message = format!(
                "the name of a credential must be known when the execution is made, \
                 and `{name}` is not"
            );
            return Err((message, CURE));
        };
        for name in names {
            if !is_name(&name) {
                let name: String = name.chars().take(80).collect();
                let message = format!(
                    "`{name}` is no name of a credential: up to {LONGEST} letters, digits, \
                     `-` and `_`, beginning and ending with a letter or digit"
                );
                return Err((message, write));
            }
            if self.allowed.is_some_and(|allowed| !allowed.contains(&name)) {
                let message = format!(
                    "the credential `{name}` is not among those that were known when the parent \
                     execution was made"
                );
                return Err((message, CURE));
            }
            self.names.insert(name);
        }
        Ok(())
    }

    /// All values of an expression, for every instance of the blocks around it; nothing when some
    /// are not known.
    fn values(&self, expression: &Expression) -> Result<Option<BTreeSet<String>>, Error> {
        let mut open = vec![expression.clone()];
        for block in self.blocks.iter().rev() {
            let mut next = BTreeMap::new();
            for expression in open {
                let variables = expression.variables();
                if !variables.iter().any(|path| names_overlap(&block.own, path)) {
                    next.insert(expression.to_string(), expression);
                    continue;
                }
                let Some(instances) = &block.instances else {
                    return Ok(None);
                };
                for index in 0..instances.len() {
                    // Nothing is put together that can not be paid.
                    self.budget.charge(1)?;
                    let instance = instances.get(index).map(|one| one.variables);
                    let instance = Instance(instance.unwrap_or_default());
                    self.budget.charge_for(&instance.0)?;
                    let value = expression.resolve_within(&instance, self.budget)?;
                    next.insert(value.to_string(), value);
                    if next.len() > MAX_CREDENTIALS {
                        return Err(Error::Refused(too_many()));
                    }
                }
            }
            open = next.into_values().collect();
        }
        let values = open.iter().map(|expression| expression.value().map(text));
        Ok(values.collect())
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric();
    let (first, last) = (name.bytes().next(), name.bytes().last());
    name.len() <= LONGEST
        && first.is_some_and(plain)
        && last.is_some_and(plain)
        && name.bytes().all(|c| plain(c) || c == b'-' || c == b'_')
}

fn too_many() -> String {
    format!("more than {MAX_CREDENTIALS} credentials are named")
}

impl Visitor for Gatherer<'_> {
    fn inside(&mut self, text: &mut Text) {
        if !text.text.contains(FUNCTION) || self.names.len() > MAX_CREDENTIALS {
            return;
        }
        // What does not parse was refused when it was resolved.
        let Ok(template) = Template::parse(&text.text) else {
            return;
        };
        for call in template
            .expressions()
            .flat_map(|expression| expression.calls(FUNCTION))
        {
            if let Err((message, cure)) = self.call(call) {
                let problem = Problem::new(&text.place, message);
                self.problems.push(problem.with_cure(cure));
            }
        }
        if self.names.len() > MAX_CREDENTIALS {
            self.problems.push(Problem::new(&text.place, too_many()));
        }
    }

    fn enter(&mut self, own: Names, strategy: &Strategy) {
        let strategy = plan::Strategy::from(strategy);
        self.blocks.push(Block {
            own,
            instances: Instances::resolve(&strategy, &crate::expression::NoScope).ok(),
        });
    }

    fn leave(&mut self) {
        self.blocks.pop();
    }

    fn template(&mut self, _text: &mut Text) {}
    fn expression(&mut self, _text: &mut Text) {}
    fn value(&mut self, _value: &mut Json) {}
    fn early(&mut self, _text: &mut Text) {}
    fn formula(&mut self, _text: &mut Text) {}
    fn late_value(&mut self, _value: &mut Json) {}
}
