//! Pages of lists: by key, never by number.

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, K> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// What to pass as `after` for the next page; `None` at the end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Makes a page of what a query with `limit + 1` returned.
    pub(crate) fn new(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }
}

/// Coerces a wanted page size into what one query may return.
pub(crate) fn limit(wanted: u32) -> u32 {
    wanted.clamp(1, 1000)
}
