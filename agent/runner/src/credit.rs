//! What a message of output costs of the credit that a conductor gives a shim.
//!
//! The kernel charges a socket for the memory of each message, which is rounded up to a power of
//! two, and for its own notes. A shim that counted bytes alone could fill the socket long before
//! its credit is used up, and would then wait to send while the conductor, whose log is full, does
//! not read: no signal would reach it. So a message costs the most that the kernel may charge.

/// What a shim may send ahead: less than a socket holds by default (208 KiB).
pub(crate) const WINDOW: u64 = 192 << 10;
/// Charged for a message beside its bytes.
const MESSAGE: usize = 2 << 10;

/// What a message with so many bytes of output costs.
pub(crate) const fn cost(bytes: usize) -> usize {
    2 * bytes + MESSAGE
}

/// How many bytes of output the next message may have under this credit.
pub(crate) const fn room(credit: u64) -> u64 {
    credit.saturating_sub(MESSAGE as u64) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_room_for_can_be_paid() {
        for credit in [0, 1, 2048, 2049, 4096, 256 << 10] {
            let room = room(credit);
            let paid =
                room == 0 || cost(usize::try_from(room).expect("it is small")) as u64 <= credit;
            assert!(paid, "{credit}");
        }
    }
}
