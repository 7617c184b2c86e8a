//! The first items of a list.

use std::{fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Items that are kept; above what a case may have by any sensible limit.
const MOST: usize = 256;

/// The first items of a list; anything else than a list has none.
pub(crate) struct Few<T> {
    pub(crate) items: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(List(PhantomData))
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<T>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Few::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() < MOST {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(Few { items }),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Few { items })
    }
}
