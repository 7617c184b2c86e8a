//! Tests of the expression language: its grammar, its quirks, its stages.

use proptest::prelude::*;
use serde_json::json;

use super::tree::{Argument, Operator, Path, Segment};
use super::*;

/// The expression after one pass that knows nothing.
fn folded(text: &str) -> String {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let resolved = expression.resolve(&NoScope);
    resolved
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .to_string()
}

fn refusal(text: &str) -> String {
    let result = Expression::parse(text).and_then(|expression| expression.resolve(&NoScope));
    result.expect_err(text).to_string()
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(folded(text), *expected, "{text}");
    }
}

#[test]
fn operators_have_their_priorities() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("72 / 2 ** 4", "4.5"),
        ("1 + 2 * 3 ** 4 * 5 + 6", "817"),
        ("2 ** 3 ** 2", "64"),
        ("7 % 4 + 1", "4"),
        ("1 + 2 * 3 * 4 + 5 = 20 + 10", "true"),
        ("10 > 2 && 5 <= 5", "true"),
        ("10 - 2 - 3", "5"),
        ("3 <> 5", "true"),
        ("3 = 3", "true"),
    ]);
}

#[test]
fn and_with_or_have_one_priority_and_give_operands() {
    check(&[
        ("true && false || true", "true"),
        ("true || false && false", "false"),
        ("1 && 0 || 2", "2"),
        ("1 || 0 || 2", "1"),
        ("'' || 'fallback'", "\"fallback\""),
        ("0 && unknown", "0"),
        ("1 && unknown", "unknown"),
        ("!0 && 500", "500"),
        ("!5 && 500", "false"),
    ]);
}

#[test]
fn unary_minus_takes_all_that_follows() {
    check(&[
        ("-5+3", "-8"),
        ("5 - -3 * 2", "11"),
        ("(-5)+3", "-2"),
        ("-4", "-4"),
        ("-x+3", "-x+3"),
        ("(-x)+3", "(-x)+3"),
        ("- 1 > 5 ? 2 : 3", "-3"),
    ]);
}

#[test]
fn ternaries_read_branches_above_and_or() {
    check(&[
        ("true ? 'a' : 'b'", "\"a\""),
        ("5 == 3 || 2 == 4 ? 'a' : 'b'", "\"b\""),
        ("false ? 'value' : true ? 'xyz' : 'another'", "\"xyz\""),
        ("x ? 1 : 2 && 3", "(x?1:2)&&3"),
        ("x ? (a && b) : c", "x?(a&&b):c"),
    ]);
    assert!(refusal("x ? a && b : c").contains("need parentheses"));
}

#[test]
fn equality_compares_texts() {
    check(&[
        ("5 == '5'", "true"),
        ("null == ''", "true"),
        ("true == 'true'", "true"),
        ("[1,2] == '1,2'", "true"),
        ("{\"b\":1,\"a\":2} == '{\"a\":2,\"b\":1}'", "true"),
        ("1.0 == 1", "true"),
    ]);
}

#[test]
fn numbers_have_no_needless_fraction() {
    check(&[
        ("2 + 3", "5"),
        ("1000000 * 1000000", "1000000000000"),
        ("6 / 3", "2"),
        ("3 / 5", "0.6"),
        ("5.0", "5"),
        ("1e3", "1000"),
        ("9223372036854775807 + 0", "9223372036854775807"),
        ("'n' + 1.50", "\"n1.5\""),
    ]);
    assert!(refusal("5 / 0").contains("division by zero"));
    assert!(refusal("10 > 2 > 3").contains("boolean true is not a number"));
    assert!(refusal("10 ** 400").contains("too large"));
}

#[test]
fn literals_are_json_with_single_quotes_and_line_breaks() {
    check(&[
        ("'it\\'s'", "\"it's\""),
        ("\"a\nb\"", "\"a\\nb\""),
        ("\"\\u00e9\\ud83d\\ude00\"", "\"é😀\""),
        (
            "[1, 'a', [true, null], {'k': -2}]",
            "[1,\"a\",[true,null],{\"k\":-2}]",
        ),
        ("['v1', 'v2'].0", "\"v1\""),
        ("{\"k\": {\"a\": \"v\"}}.k.a", "\"v\""),
        ("", "null"),
        ("nullable", "nullable"),
        ("true.x", "true.x"),
    ]);
    assert!(refusal("[a, 1]").contains("use list(…) for expressions"));
    assert!(refusal("a[0]").contains("`list.0`"));
    assert!(refusal("'open").contains("not closed"));
}

#[test]
fn errors_of_the_grammar_name_the_place() {
    assert_eq!(
        refusal("1 + * 2"),
        "expected a value, found `*` at character 5 of `1 + * 2`"
    );
    assert_eq!(
        refusal("f(1 2)"),
        "expected `,` or `)`, found the value number 2 at character 5 of `f(1 2)`"
    );
    assert_eq!(
        refusal("joi([1])"),
        "there is no function `joi`; did you mean `join`?"
    );
}

#[test]
fn functions_give_what_the_language_says() {
    check(&[
        ("string(500, 'x', null)", "\"500x\""),
        ("int(500.888)", "500"),
        ("int('7')", "7"),
        ("float('500.44')", "500.44"),
        ("bool('off')", "false"),
        ("json('{\"a\": 500}')", "{\"a\":500}"),
        (
            "tojson({\"b\": 1, \"a\": 500})",
            "\"{\\\"a\\\":500,\\\"b\\\":1}\"",
        ),
        (
            "shellquote('a b', 'c', \"it's\", '')",
            "\"'a b' c 'it'\\\\''s' ''\"",
        ),
        ("shellparse(\"a 'b c' d\\\\ e\")", "[\"a\",\"b c\",\"d e\"]"),
        ("shellquote(shellparse(\"a 'b c'\")...)", "\"a 'b c'\""),
        ("trim('  a b \n ')", "\"a b\""),
        ("yaml('foo:\n  - bar: 1')", "{\"foo\":[{\"bar\":1}]}"),
        (
            "toyaml({\"foo\":{\"bar\":\"baz\"}})",
            "\"foo:\\n    bar: baz\\n\"",
        ),
        ("list('a', 10, ['b'])", "[\"a\",10,[\"b\"]]"),
        ("join(['a',10,['b',4]])", "\"a,10,b,4\""),
        ("join([['a','b'],'x']...)", "\"axb\""),
        ("split('a---b', '---')", "[\"a\",\"b\"]"),
        ("split(null)", "[\"\"]"),
        ("len('abcde') + len([1,2]) + len({'a':1})", "8"),
        ("floor(2.6) + ceil(1.6) + round(1.5)", "6"),
        ("chunk([1,2,3,4,5], 2)", "[[1,2],[3,4],[5]]"),
        ("at([1,2,3], 2)", "3"),
        ("at({'x': 'v'}, 'y')", "null"),
        (
            "entries({'b': 1, 'a': 2})",
            "[{\"key\":\"a\",\"value\":2},{\"key\":\"b\",\"value\":1}]",
        ),
        ("range(5)", "[0,1,2,3,4]"),
        ("range(5, 8)", "[5,6,7]"),
        ("range(5, 3)", "[]"),
        ("any(null, 0, 1)", "0"),
        ("map([1,2], '_.value * 2 + _.index')", "[2,5]"),
        ("map([1,2], '_.value + x')", "list(1+x,2+x)"),
        ("filter([1,2,3,4,5], '_.value > 2')", "[3,4,5]"),
        ("eval('5 * 10 * something')", "50*something"),
        ("relpath('/data/a/ccc', '/data/a/xyz')", "\"../ccc\""),
        ("relpath('/xyz', '/xyz')", "\".\""),
        ("abspath('..', '/data/abc')", "\"/data\""),
        ("abspath('/a/./b/../c')", "\"/a/c\""),
        ("abspath('x')", "abspath(\"x\")"),
    ]);
    assert_eq!(folded("jq([1], '.')"), "jq([1],\".\")");
    assert!(refusal("jq([1])").contains("jq takes 2 argument(s), found 1"));
    assert!(refusal("glob()").contains("glob takes at least 1 argument(s), found 0"));
    assert!(refusal("at([1], 5)").contains("no item 5 among 1"));
    assert!(refusal("join(1)").contains("join needs a list, found number 1"));
    assert!(refusal("len()").contains("len takes 1 argument(s), found 0"));
}

#[test]
fn wildcards_take_the_rest_of_each_item() {
    let mut scope = Variables::new();
    scope.set(
        "services.db",
        json!([{"ip": "a", "d": {"e": 1}}, {"ip": "b", "d": {"e": 2}}]),
    );
    let value = |text: &str| Expression::parse(text).unwrap().evaluate(&scope).unwrap();
    assert_eq!(value("services.db.*.ip"), json!(["a", "b"]));
    assert_eq!(value("services.db.*.*.d.e"), json!([1, 2]));
    assert_eq!(value("services.db.1.ip"), json!("b"));
    assert_eq!(value("services . db . 0 . ip"), json!("a"));
    assert_eq!(value("map(services.db, '_.value.ip').1"), json!("b"));
    assert_eq!(folded("services.db.*.ip"), "services.db.*.ip");
}

#[test]
fn complete_names_have_a_value_for_what_is_missing() {
    let mut scope = Variables::new();
    scope.set("env.HOME", "/root");
    scope.complete("env", "");
    assert_eq!(
        resolve_template_final("[{{ env.HOME }}{{ env.MISSING }}]", &scope).unwrap(),
        "[/root]"
    );
}

#[test]
fn errors_under_unknown_conditions_wait() {
    check(&[
        ("x && 1/0", "x&&1/0"),
        ("x ? 1/0 : 1 + 1", "x?1/0:2"),
        ("false && 1/0", "false"),
    ]);
    assert!(refusal("x + 1/0").contains("division by zero"));
}

#[test]
fn what_must_be_known_and_is_not_is_named() {
    let error = resolve_template_final("a {{ b.c + 1 }}", &NoScope).unwrap_err();
    assert_eq!(error.to_string(), "`b.c+1` is not known here");
}

#[test]
fn templates_keep_unknown_parts_and_escape_braces() {
    let mut scope = Variables::new();
    scope.set("config.x", "{{ evil }} {");
    let cases = [
        ("", ""),
        ("plain { text }}", "plain { text }}"),
        ("a{{ 5 + 45 }}b", "a50b"),
        ("a{{ env.x * 5 }}{{ 'b' }}", "a{{env.x*5}}b"),
        ("{{}}x{{ null }}", "x"),
        (
            "{{ config.x }}{{ env.y }}",
            "{{\"{{\"}} evil }} {{\"{\"}}{{env.y}}",
        ),
        ("{{\"{{\"}}.Name}}", "{{\"{{\"}}.Name}}"),
        ("{{ {\"a\":{\"b\":1}}.a.b }}", "1"),
        ("{{ \"}}\" }}", "}}"),
    ];
    for (template, expected) in cases {
        assert_eq!(
            resolve_template(template, &scope).unwrap(),
            expected,
            "{template}"
        );
    }
    scope.set("env.y", "Y");
    let kept = resolve_template("{{ config.x }}{{ env.z }}", &scope).unwrap();
    scope.set("env.z", "Z");
    assert_eq!(
        resolve_template_final(&kept, &scope).unwrap(),
        "{{ evil }} {Z"
    );
}

#[test]
fn wrong_templates_name_the_cure() {
    let error = resolve_template("docker inspect -f '{{.State}}'", &NoScope).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("write a literal `{{` as `{{\"{{\"}}`"),
        "{message}"
    );
    assert!(resolve_template("a {{ b", &NoScope).is_err());
}

#[test]
fn sizes_are_limited() {
    for text in [
        "(".repeat(100),
        "!".repeat(100) + "x",
        "f(".repeat(100),
        "[".repeat(100),
        vec!["x"; 300].join("+"),
        "x".repeat(MAX_LENGTH + 1),
        "range(10000000)".to_owned(),
        "map(range(100000), 'range(100000)')".to_owned(),
        "map(range(50000), '\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"')".to_owned(),
    ] {
        let message = refusal(&text);
        assert!(message.contains("too large"), "{message}");
    }
    let looped = "eval(x)";
    let mut scope = Variables::new();
    scope.set("x", "eval(x)");
    let error = Expression::parse(looped)
        .unwrap()
        .resolve(&scope)
        .unwrap_err();
    assert!(matches!(error, Error::Limit(_)), "{error}");
}

#[test]
fn the_deepest_expressions_fit_into_a_small_stack() {
    let chain = vec!["env.a"; 126].join("+");
    let mut scope = Variables::new();
    scope.set("x", format!("eval(x)+{chain}"));
    let text = format!("eval(x)+{chain}");
    let body = move || {
        let error = Expression::parse(&text).unwrap().resolve(&scope);
        assert!(matches!(error, Err(Error::Limit(_))), "{error:?}");
        let nested = format!("{}x{}", "!(".repeat(30), ")".repeat(30));
        assert!(
            Expression::parse(&nested)
                .unwrap()
                .resolve(&NoScope)
                .is_ok()
        );
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    thread.spawn(body).unwrap().join().unwrap();
}

fn operators() -> impl Strategy<Value = Operator> {
    prop::sample::select(vec![
        Operator::And,
        Operator::Or,
        Operator::Equal,
        Operator::NotEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Add,
        Operator::Subtract,
        Operator::Multiply,
        Operator::Divide,
        Operator::Remainder,
        Operator::Power,
    ])
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        (-1000i32..1000).prop_map(|n| Value::from(f64::from(n) + 0.5)),
        "[a-z{}'\"\\\\\\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn segments() -> impl Strategy<Value = Segment> {
    prop_oneof![
        4 => "[a-c]".prop_map(Segment::Name),
        1 => Just(Segment::Each),
        1 => "[0-2]".prop_map(Segment::Name),
    ]
}

fn paths() -> impl Strategy<Value = Path> {
    ("[a-d]", prop::collection::vec(segments(), 0..3)).prop_map(|(first, rest)| {
        let mut path = vec![Segment::Name(first)];
        path.extend(rest);
        Path(path)
    })
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        values().prop_map(Tree::Literal),
        paths().prop_map(Tree::Variable),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        let names: Vec<&str> = known_functions().collect();
        let names = prop::sample::select(names);
        let arguments = prop::collection::vec((inner.clone(), any::<bool>()), 0..3);
        prop_oneof![
            4 => (operators(), boxed.clone(), boxed.clone()).prop_map(|(operator, left, right)| {
                Tree::Binary { operator, left, right }
            }),
            1 => boxed.clone().prop_map(Tree::Not),
            1 => inner.clone().prop_map(|inner| match parser::negated(&inner) {
                Some(value) => Tree::Literal(value),
                None => Tree::Minus(Box::new(inner)),
            }),
            1 => (boxed.clone(), boxed.clone(), boxed).prop_map(|(condition, yes, no)| {
                Tree::Choice { condition, yes, no }
            }),
            2 => (names, arguments).prop_map(|(name, arguments)| Tree::Call {
                name: name.to_owned(),
                arguments: arguments
                    .into_iter()
                    .map(|(tree, spread)| Argument { tree, spread })
                    .collect(),
            }),
            1 => (inner, segments()).prop_map(|(base, segment)| {
                match base {
                    Tree::Variable(mut path) => {
                        path.0.push(segment);
                        Tree::Variable(path)
                    }
                    base => Tree::Property { base: Box::new(base), segment },
                }
            }),
        ]
    })
}

/// The stage at which functions of the outside are known.
struct Last(Variables);

impl Scope for Last {
    fn variable(&self, path: &str) -> Lookup {
        self.0.variable(path)
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        match arguments {
            [] => Lookup::Refused(format!("{name} knows nothing")),
            [first, ..] => Lookup::Known(first.clone()),
        }
    }
}

proptest! {
    #[test]
    fn printed_trees_parse_to_themselves(tree in trees()) {
        let text = print::print(&tree);
        prop_assert_eq!(parser::parse(&text), Ok(tree), "{}", text);
    }

    #[test]
    fn stages_give_what_one_evaluation_gives(
        tree in trees(),
        values in prop::array::uniform4((values(), 0..3usize)),
    ) {
        let expression = Expression { tree };
        // Each variable is known from one of the stages on.
        let [mut first, mut second, mut all] = [(); 3].map(|()| Variables::new());
        for (name, (value, stage)) in ["a", "b", "c", "d"].into_iter().zip(values) {
            if stage == 0 {
                first.set(name, value.clone());
            }
            if stage <= 1 {
                second.set(name, value.clone());
            }
            all.set(name, value);
        }
        let all = Last(all);
        let once = expression.evaluate(&all);
        let staged = expression
            .resolve(&first)
            .and_then(|kept| kept.resolve(&second))
            .and_then(|kept| Expression::parse(&kept.to_string()))
            .and_then(|kept| kept.evaluate(&all));
        match (once, staged) {
            (Ok(once), Ok(staged)) => prop_assert_eq!(value::json(&once), value::json(&staged)),
            (Err(_), Err(_)) => {}
            (once, staged) => prop_assert!(false, "{once:?} but {staged:?}"),
        }
    }

    #[test]
    fn kept_templates_resolve_as_the_whole(text in "[a{}\"]{0,12}", more in "[{}b]{0,4}") {
        let Ok(template) = Template::parse(&text) else { return Ok(()) };
        let mut scope = Variables::new();
        scope.set("config.x", more);
        let source = format!("{}{{{{config.x}}}}{{{{env.y}}}}{{{{config.x}}}}", template.print());
        let kept = resolve_template(&source, &scope);
        let mut all = scope;
        all.set("env.y", "Y");
        all.set("a", "A");
        if let Ok(once) = resolve_template_final(&source, &all) {
            prop_assert_eq!(resolve_template_final(&kept.unwrap(), &all), Ok(once));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        drop(Expression::parse(&text).map(|expression| expression.evaluate(&NoScope)));
        drop(resolve_template(&text, &NoScope));
    }

    #[test]
    fn no_text_like_an_expression_panics(parts in prop::collection::vec(prop::sample::select(vec![
        "a", ".", "*", "(", ")", "...", "-", "!", "+", "/", "%", "**", "?", ":", "'", "\"", "[", "]", "{", "}",
        "{{", "}}", "1", "0", "9223372036854775807", "1e308", ",", " ", "range(", "chunk(", "at(", "map(",
        "split(", "join(", "null", "true", "'a'", "[1,2]", "\\u", "\\ud800", "é", "relpath(", "shellparse(",
        "yaml(", "json(", "eval(", "int(", "round(", "==", "&&", "||", ">",
    ]), 0..16)) {
        let text = parts.concat();
        drop(Expression::parse(&text).map(|expression| expression.evaluate(&NoScope)));
        drop(resolve_template(&text, &NoScope));
    }
}
