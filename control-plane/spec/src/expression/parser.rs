//! From text to tree, by operator priority.

use super::error::Error;
use super::lexer::{self, Token};
use super::tree::{Argument, Operator, Path, Segment, Tree};
use super::value::Value;
use super::{MAX_LENGTH, MAX_NESTING};

/// Deepest tree: long chains of operators grow it without nesting.
const MAX_DEPTH: usize = 128;

/// Below all operators: `? :` is read only here.
const LOWEST: i32 = -1;
/// Above all operators: the operand of `!`.
const HIGHEST: i32 = i32::MAX;

/// Parses a whole text; an empty one is `null`.
pub(super) fn parse(text: &str) -> Result<Tree, Error> {
    if text.len() > MAX_LENGTH {
        return Err(Error::Limit("more than 65536 bytes"));
    }
    let mut parser = Parser::new(text, 0)?;
    if parser.token == Token::End {
        return Ok(Tree::Literal(Value::Null));
    }
    let tree = parser.expression(LOWEST, 0)?.tree;
    match parser.token {
        Token::End => Ok(tree),
        _ => Err(parser.unexpected("the end")),
    }
}

/// Parses the inside of `{{ }}` that begins at `at`; gives the tree, if there is one, and the
/// offset after the closing braces.
pub(super) fn parse_in_template(text: &str, at: usize) -> Result<(Option<Tree>, usize), Error> {
    let mut parser = Parser::new(text, at)?;
    if parser.token == Token::TemplateEnd {
        return Ok((None, parser.after));
    }
    let tree = parser.expression(LOWEST, 0)?.tree;
    match parser.token {
        Token::TemplateEnd if parser.after - at > MAX_LENGTH => {
            Err(Error::Limit("more than 65536 bytes"))
        }
        Token::TemplateEnd => Ok((Some(tree), parser.after)),
        _ => Err(parser.unexpected("`}}`")),
    }
}

/// A tree and how deep it is.
struct Grown {
    tree: Tree,
    depth: usize,
}

impl Grown {
    fn leaf(tree: Tree) -> Self {
        Self { tree, depth: 1 }
    }

    fn over(tree: Tree, below: usize) -> Result<Self, Error> {
        if below >= MAX_DEPTH {
            return Err(Error::Limit("more than 128 operators in a row"));
        }
        Ok(Self {
            tree,
            depth: below + 1,
        })
    }
}

struct Parser<'a> {
    text: &'a str,
    token: Token,
    /// Offset of the token.
    at: usize,
    /// Offset after it.
    after: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, at: usize) -> Result<Self, Error> {
        let (token, at, after) = lexer::next(text, at)?;
        Ok(Self {
            text,
            token,
            at,
            after,
        })
    }

    fn advance(&mut self) -> Result<Token, Error> {
        let (token, at, after) = lexer::next(self.text, self.after)?;
        self.at = at;
        self.after = after;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = self.token.describe();
        Error::syntax(
            self.text,
            self.at,
            format!("expected {expected}, found {found}"),
        )
    }

    fn expect(&mut self, token: &Token, after: &str) -> Result<(), Error> {
        if self.token != *token {
            return Err(self.unexpected(&format!("{}{after}", token.describe())));
        }
        self.advance()?;
        Ok(())
    }

    /// An operand and all operators that bind stronger than `priority`.
    fn expression(&mut self, priority: i32, nesting: usize) -> Result<Grown, Error> {
        if nesting > MAX_NESTING {
            return Err(Error::Limit("nested deeper than 64 levels"));
        }
        let mut left = self.operand(nesting)?;
        loop {
            match &self.token {
                Token::Question if priority < 0 => {
                    self.advance()?;
                    left = self.choice(left, nesting)?;
                }
                Token::Operator(operator) if operator.priority() > priority => {
                    let operator = *operator;
                    self.advance()?;
                    let right = self.expression(operator.priority(), nesting + 1)?;
                    left = binary(operator, left, right)?;
                }
                Token::Property(segment) => {
                    let segment = segment.clone();
                    self.advance()?;
                    left = property(left, segment)?;
                }
                _ => return Ok(left),
            }
        }
    }

    /// `yes : no` after the question mark. Both are read at the priority of `&&` and `||`, so
    /// these need parentheses there.
    fn choice(&mut self, condition: Grown, nesting: usize) -> Result<Grown, Error> {
        let yes = self.expression(0, nesting + 1)?;
        self.expect(
            &Token::Colon,
            " (inside `? :`, `&&`, `||` and `? :` need parentheses)",
        )?;
        let no = self.expression(0, nesting + 1)?;
        let below = condition.depth.max(yes.depth).max(no.depth);
        Grown::over(
            Tree::Choice {
                condition: Box::new(condition.tree),
                yes: Box::new(yes.tree),
                no: Box::new(no.tree),
            },
            below,
        )
    }

    fn operand(&mut self, nesting: usize) -> Result<Grown, Error> {
        match self.token.clone() {
            Token::Literal(value) => {
                self.advance()?;
                Ok(Grown::leaf(Tree::Literal(value)))
            }
            Token::Name(path) => {
                self.advance()?;
                if self.token == Token::Open {
                    return self.call(&path, nesting);
                }
                Ok(Grown::leaf(Tree::Variable(path)))
            }
            Token::Open => {
                self.advance()?;
                let inner = self.expression(LOWEST, nesting + 1)?;
                self.expect(&Token::Close, "")?;
                Ok(inner)
            }
            Token::Not => {
                self.advance()?;
                let inner = self.expression(HIGHEST, nesting + 1)?;
                Grown::over(Tree::Not(Box::new(inner.tree)), inner.depth)
            }
            Token::Operator(Operator::Subtract) => {
                self.advance()?;
                let inner = self.expression(LOWEST, nesting + 1)?;
                match negated(&inner.tree) {
                    Some(value) => Ok(Grown::leaf(Tree::Literal(value))),
                    None => Grown::over(Tree::Minus(Box::new(inner.tree)), inner.depth),
                }
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The arguments of a call, from its opening parenthesis.
    fn call(&mut self, path: &Path, nesting: usize) -> Result<Grown, Error> {
        let name = path.to_string();
        if path.0.contains(&Segment::Each) {
            return Err(self.unexpected("an operator"));
        }
        self.advance()?;
        let mut arguments = Vec::new();
        let mut below = 0;
        while self.token != Token::Close {
            if !arguments.is_empty() {
                self.expect(&Token::Comma, " or `)`")?;
            }
            let argument = self.expression(LOWEST, nesting + 1)?;
            let spread = self.token == Token::Spread;
            if spread {
                self.advance()?;
            }
            below = below.max(argument.depth);
            arguments.push(Argument {
                tree: argument.tree,
                spread,
            });
        }
        self.advance()?;
        Grown::over(Tree::Call { name, arguments }, below)
    }
}

fn binary(operator: Operator, left: Grown, right: Grown) -> Result<Grown, Error> {
    let below = left.depth.max(right.depth);
    Grown::over(
        Tree::Binary {
            operator,
            left: Box::new(left.tree),
            right: Box::new(right.tree),
        },
        below,
    )
}

fn property(base: Grown, segment: Segment) -> Result<Grown, Error> {
    if let Tree::Variable(mut path) = base.tree {
        path.0.push(segment);
        return Ok(Grown::leaf(Tree::Variable(path)));
    }
    Grown::over(
        Tree::Property {
            base: Box::new(base.tree),
            segment,
        },
        base.depth,
    )
}

/// The negative of a number literal.
pub(super) fn negated(tree: &Tree) -> Option<Value> {
    let Tree::Literal(Value::Number(number)) = tree else {
        return None;
    };
    if let Some(int) = number.as_i64() {
        return int.checked_neg().map(Value::from);
    }
    serde_json::Number::from_f64(0.0 - number.as_f64()?).map(Value::Number)
}
