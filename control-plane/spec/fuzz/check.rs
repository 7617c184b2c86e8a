//! What holds of every text taken for an expression or a template. The fuzz target and a test of
//! the normal suite run it; it panics where something does not hold.

use muster_spec::expression::{
    Error, Expression, Lookup, Moment, Scope, Template, Value, Variables, resolve_template_final,
    text,
};

/// Variables and functions as a stage has them.
struct Stage<'a> {
    variables: &'a Variables,
    last: bool,
}

impl Scope for Stage<'_> {
    fn variable(&self, path: &str) -> Lookup {
        self.variables.variable(path)
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match (name, self.last) {
            ("date", true) => Moment::from_unix_ms(1_700_000_000_000).date(arguments),
            (_, true) => Lookup::Known(arguments.first().cloned().unwrap_or_default()),
            (_, false) => Lookup::Unknown,
        }
    }
}

/// Checks one text.
pub(crate) fn check(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    let mut first = Variables::new();
    first.set("a", 3);
    first.set("config.x", "x {{ y } \"z\'");
    let mut all = first.clone();
    for (name, value) in [
        ("b", serde(r#"{"k": [1, "two", null], "e": {}}"#)),
        ("c", Value::from(0.5)),
        ("d", Value::Null),
    ] {
        all.set(name, value);
    }
    all.complete("env", "");
    all.set("workingDir", "/data");
    let first = Stage {
        variables: &first,
        last: false,
    };
    let all = Stage {
        variables: &all,
        last: true,
    };
    if let Ok(expression) = Expression::parse(source) {
        one(&expression, &first, &all);
    }
    template(source, &first, &all);
}

fn serde(json: &str) -> Value {
    Expression::parse(json)
        .ok()
        .and_then(|literal| literal.value().cloned())
        .unwrap_or_default()
}

fn one(expression: &Expression, first: &Stage<'_>, all: &Stage<'_>) {
    let printed = expression.to_string();
    match Expression::parse(&printed) {
        Ok(again) => assert_eq!(again, *expression, "printed as {printed}"),
        // The shortest form of a deep expression may need more parentheses than allowed.
        Err(Error::Limit(_)) => {}
        Err(error) => panic!("{printed}: {error}"),
    }
    let once = expression.evaluate(all);
    let staged = expression
        .resolve(first)
        .and_then(|kept| kept.evaluate(all));
    match (once, staged) {
        (Ok(once), Ok(staged)) => assert_eq!(text(&once), text(&staged), "{printed}"),
        (Err(_), Err(_)) => {}
        // Each stage has a budget of its own.
        (Err(Error::Limit(_)), _) | (_, Err(Error::Limit(_))) => {}
        (once, staged) => panic!("{printed}: {once:?} at once, {staged:?} in stages"),
    }
}

fn template(source: &str, first: &Stage<'_>, all: &Stage<'_>) {
    let Ok(parsed) = Template::parse(source) else {
        return;
    };
    match Template::parse(&parsed.print()) {
        Ok(again) => assert_eq!(again.print(), parsed.print(), "{source}"),
        Err(Error::Limit(_)) => {}
        Err(error) => panic!("{}: {error}", parsed.print()),
    }
    let once = resolve_template_final(source, all);
    let staged = parsed
        .resolve(first)
        .and_then(|kept| resolve_template_final(&kept.print(), all));
    match (once, staged) {
        (Ok(once), Ok(staged)) => assert_eq!(once, staged, "{source}"),
        (Err(_), Err(_)) => {}
        (Err(Error::Limit(_)), _) | (_, Err(Error::Limit(_))) => {}
        (once, staged) => panic!("{source}: {once:?} at once, {staged:?} in stages"),
    }
}
