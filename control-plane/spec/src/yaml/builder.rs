//! From parser events to nodes, within limits.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::Limits;
use super::node::{Content, Entry, Mark, Node, Scalar};
use crate::problem::{Place, Problem};

/// A long scalar counts as more than one node, so that copies of it are limited too.
const BYTES_PER_NODE: usize = 256;

/// Reads all documents.
pub(super) fn read(text: &str, limits: Limits) -> Result<Vec<Node>, Problem> {
    if text.len() > limits.bytes {
        return Err(Problem::new(
            &Mark::START.place(""),
            format!(
                "the file has {} bytes, at most {} are allowed",
                text.len(),
                limits.bytes
            ),
        ));
    }
    let mut builder = Builder {
        limits,
        nodes: 0,
        open: Vec::new(),
        anchors: HashMap::new(),
        documents: Vec::new(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = mark(error.marker()).place("");
            match error.info() {
                // The parser gives up before it has told of all levels.
                info if info.contains("recursion limit") => too_deep(&place, limits),
                info => Problem::new(&place, format!("not valid YAML: {info}")),
            }
        })?;
        builder.event(event, mark(&span.start))?;
    }
    Ok(builder.documents)
}

fn too_deep(place: &Place, limits: Limits) -> Problem {
    Problem::new(place, format!("nested deeper than {} levels", limits.depth))
}

fn mark(marker: &Marker) -> Mark {
    Mark {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

/// A finished node with its size, for limits of what aliases copy.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// A list or map that is not finished.
struct Open {
    mark: Mark,
    anchor: usize,
    nodes: usize,
    depth: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: HashSet<String>,
        /// Values of `<<`, merged when the map ends.
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    mark: Mark,
    merge: bool,
}

struct Builder {
    limits: Limits,
    nodes: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    documents: Vec<Node>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let nodes = 1 + text.len() / BYTES_PER_NODE;
                self.count(nodes, mark)?;
                let quoted = style != ScalarStyle::Plain || is_text(tag.as_deref(), mark)?;
                let text = text.into_owned();
                let built = Built {
                    node: Node {
                        mark,
                        content: Content::Scalar(Scalar { text, quoted }),
                    },
                    nodes,
                    depth: 1,
                };
                self.finish(built, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                is_text(tag.as_deref(), mark)?;
                self.start(mark, anchor, Inside::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                is_text(tag.as_deref(), mark)?;
                let inside = Inside::Map {
                    entries: Vec::new(),
                    keys: HashSet::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.start(mark, anchor, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, mark),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            return Err(Problem::new(
                &mark.place(""),
                format!(
                    "more than {} values, aliases counted in full",
                    self.limits.nodes
                ),
            ));
        }
        Ok(())
    }

    fn check_depth(&self, more: usize, mark: Mark) -> Result<(), Problem> {
        if self.open.len() + more > self.limits.depth {
            return Err(too_deep(&mark.place(""), self.limits));
        }
        Ok(())
    }

    fn start(&mut self, mark: Mark, anchor: usize, inside: Inside) -> Result<(), Problem> {
        self.count(1, mark)?;
        self.check_depth(1, mark)?;
        self.open.push(Open {
            mark,
            anchor,
            nodes: 1,
            depth: 1,
            inside,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let content = match open.inside {
            Inside::List(items) => Content::List(items),
            Inside::Map {
                mut entries,
                mut keys,
                merged,
                ..
            } => {
                for map in merged {
                    merge(map, &mut entries, &mut keys)?;
                }
                Content::Map(entries)
            }
        };
        let built = Built {
            node: Node {
                mark: open.mark,
                content,
            },
            nodes: open.nodes,
            depth: open.depth,
        };
        self.finish(built, open.anchor)
    }

    /// Copies what the anchor stands for; its size counts.
    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), Problem> {
        let Some(built) = self.anchors.get(&anchor) else {
            return Err(Problem::new(
                &mark.place(""),
                "an alias may not stand inside of what it names",
            ));
        };
        let (nodes, depth) = (built.nodes, built.depth);
        self.check_depth(depth, mark)?;
        let mut copy = built.clone();
        self.count(nodes, mark)?;
        copy.node.mark = mark;
        self.finish(copy, 0)
    }

    /// Puts a finished node into the open list or map, or ends a document.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.count(built.nodes, built.node.mark)?;
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.open.last_mut() else {
            if !built.node.is_null() {
                self.documents.push(built.node);
            }
            return Ok(());
        };
        open.nodes += built.nodes;
        open.depth = open.depth.max(built.depth + 1);
        match &mut open.inside {
            Inside::List(items) => items.push(built.node),
            Inside::Map {
                entries,
                keys,
                merged,
                key,
            } => match key.take() {
                None => *key = Some(as_key(built.node)?),
                Some(key) if key.merge => merged.push(built.node),
                Some(key) => {
                    if !keys.insert(key.text.clone()) {
                        return Err(twice(&key, entries));
                    }
                    entries.push(Entry {
                        key: key.text,
                        mark: key.mark,
                        value: built.node,
                    });
                }
            },
        }
        Ok(())
    }
}

/// A key that is in its map already.
fn twice(key: &Key, entries: &[Entry]) -> Problem {
    let first = entries.iter().find(|entry| entry.key == key.text);
    let name = shorten(&key.text);
    let message = match first.map(|first| first.mark.line) {
        Some(line) if line != key.mark.line => {
            format!(
                "the key `{name}` is here twice: in line {line} and in line {}",
                key.mark.line
            )
        }
        _ => format!("the key `{name}` is twice in this line"),
    };
    Problem::new(&key.mark.place(""), message).with_cure("keep one of them: only one could count")
}

fn as_key(node: Node) -> Result<Key, Problem> {
    match node.content {
        Content::Scalar(scalar) => Ok(Key {
            merge: scalar.text == "<<" && !scalar.quoted,
            text: scalar.text,
            mark: node.mark,
        }),
        Content::List(_) | Content::Map(_) => Err(Problem::new(
            &node.mark.place(""),
            format!("a key must be text, found {}", node.describe()),
        )),
    }
}

/// Adds the keys of a `<<` map, or of each in a list, that are not there yet.
fn merge(node: Node, entries: &mut Vec<Entry>, keys: &mut HashSet<String>) -> Result<(), Problem> {
    match node.content {
        Content::Map(more) => {
            for entry in more {
                if keys.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Content::List(items)
            if items
                .iter()
                .all(|item| matches!(item.content, Content::Map(_))) =>
        {
            items
                .into_iter()
                .try_for_each(|item| merge(item, entries, keys))
        }
        Content::List(_) | Content::Scalar(_) => Err(Problem::new(
            &node.mark.place(""),
            format!(
                "`<<` merges a map or a list of maps, found {}",
                node.describe()
            ),
        )),
    }
}

/// Whether a tag makes a scalar text; the tags of YAML itself are allowed, no others.
fn is_text(tag: Option<&Tag>, mark: Mark) -> Result<bool, Problem> {
    let Some(tag) = tag else { return Ok(false) };
    if tag.is_yaml_core_schema() {
        return Ok(tag.suffix == "str");
    }
    if tag.handle.is_empty() && tag.suffix == "!" {
        return Ok(true);
    }
    Err(Problem::new(
        &mark.place(""),
        format!(
            "the tag `{}{}` is not allowed",
            shorten(&tag.handle),
            shorten(&tag.suffix)
        ),
    ))
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}
