//! Numbers as they are stored: the databases have no unsigned ones.

/// A number for a column; one that is too large becomes the largest there is.
pub(crate) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The number of a column; a negative one becomes 0.
pub(crate) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
