//! Tags of XML: a name and bounded attributes. Where they stand is in `xml`.

use super::{Event, Reader, entity};
use crate::broken::{Reason, Step};

/// Bytes of a name of an element or attribute. The longest that a tool writes,
/// `xsi:noNamespaceSchemaLocation`, has 29.
const NAME: usize = 256;

/// The tag that begins an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its name, without a prefix.
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// An attribute; empty if it is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// An attribute, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it has no attributes.
    pub(crate) fn is_bare(&self) -> bool {
        self.attributes.is_empty()
    }
}

impl Reader<'_> {
    /// Reads the tag that begins here.
    pub(super) fn tag(&mut self) -> Step<Event<'_>> {
        self.input.consume(1);
        if self.input.peek()? == Some(b'/') {
            self.input.consume(1);
            return self.end_tag();
        }
        let name = self.name("a tag")?;
        let mut attributes = Vec::new();
        loop {
            self.white()?;
            match self.input.peek()? {
                None => return Err(self.inside(&name)),
                Some(b'>') => {
                    self.input.consume(1);
                    break;
                }
                Some(b'/') => {
                    self.input.consume(1);
                    if self.input.next()? != Some(b'>') {
                        let text = format!("a `/` in the tag `<{name}>` that does not end it");
                        return Err(self.place().malformed(text));
                    }
                    self.closes = true;
                    break;
                }
                Some(_) if attributes.len() >= self.bounds.attributes => {
                    let most = self.bounds.attributes;
                    return Err(self.place().limit("attributes", "attributes", most));
                }
                Some(_) => attributes.push(self.attribute(&name)?),
            }
        }
        if self.open.len() >= self.bounds.depth {
            let most = self.bounds.depth;
            return Err(self.place().limit("depth", "levels", most));
        }
        let local = match name.rsplit_once(':') {
            Some((_, local)) => local.to_owned(),
            None => name.clone(),
        };
        self.open.push(name);
        Ok(Event::Start(Tag {
            name: local,
            attributes,
        }))
    }

    fn end_tag(&mut self) -> Step<Event<'_>> {
        let name = self.name("an end tag")?;
        self.white()?;
        match self.input.next()? {
            Some(b'>') => {}
            None => return Err(self.inside(&name)),
            Some(_) => {
                let text = format!("something in the end tag `</{name}>`");
                return Err(self.place().malformed(text));
            }
        }
        match self.open.last() {
            Some(open) if *open == name => {
                self.close();
                Ok(Event::End)
            }
            Some(open) => {
                let text = format!("`</{name}>` where `</{open}>` is expected");
                Err(self.place().malformed(text))
            }
            None => Err(self.place().malformed(format!("`</{name}>` ends nothing"))),
        }
    }

    fn attribute(&mut self, tag: &str) -> Step<(String, String)> {
        let name = self.name("an attribute")?;
        self.white()?;
        let equals = self.input.next()?;
        self.white()?;
        let quote = self.input.next()?;
        let (Some(b'='), Some(quote @ (b'"' | b'\''))) = (equals, quote) else {
            if equals.is_none() || quote.is_none() {
                return Err(self.inside(tag));
            }
            let text = format!("the attribute `{name}` of `<{tag}>` has no value in quotes");
            return Err(self.place().malformed(text));
        };
        let mut value = Vec::new();
        let most = self.bounds.attribute;
        let mut cut = false;
        loop {
            let mut take = |bytes: &[u8]| {
                let room = most.saturating_sub(value.len()).min(bytes.len());
                cut |= room < bytes.len();
                value.extend_from_slice(&bytes[..room]);
            };
            self.input
                .take_until(|byte| byte == quote || byte == b'&', &mut take)?;
            match self.input.peek()? {
                None => return Err(self.inside(tag)),
                Some(b'&') => {
                    let mut char = Vec::new();
                    let count = entity::resolve(self.input.look(entity::LONGEST)?, &mut char);
                    self.input.consume(count);
                    take(&char);
                }
                Some(_) => {
                    self.input.consume(1);
                    break;
                }
            }
        }
        self.cut += u64::from(cut);
        // Not valid everywhere: made so with what else a text must not have, where it is used.
        Ok((name, String::from_utf8_lossy(&value).into_owned()))
    }

    /// The name of an element or attribute.
    fn name(&mut self, what: &str) -> Step<String> {
        let mut name = Vec::new();
        let mut long = false;
        self.input.take_until(
            |byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'=' | b'<'),
            |bytes| {
                let room = NAME.saturating_sub(name.len()).min(bytes.len());
                long |= room < bytes.len();
                name.extend_from_slice(&bytes[..room]);
            },
        )?;
        if long {
            let text = format!("{what} has a name of more than {NAME} bytes");
            return Err(self.place().malformed(text));
        }
        let first = name.first().copied();
        if self.input.peek()?.is_none() {
            let text = format!("in {what}");
            return Err(self.place().fault(Reason::Truncated(text)));
        }
        if !first.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':' || b >= 0x80) {
            let text = format!("{what} has no name; a `<` in text is written `&lt;`");
            return Err(self.place().malformed(text));
        }
        Ok(crate::text::clean(&name))
    }

    fn white(&mut self) -> Step<()> {
        self.input
            .take_until(|byte| !byte.is_ascii_whitespace(), |_| {})
    }

    fn inside(&self, tag: &str) -> crate::broken::Fault {
        let text = format!("in the tag `<{tag}>`");
        self.place().fault(Reason::Truncated(text))
    }
}
