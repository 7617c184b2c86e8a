//! Free ports.

use std::net::{IpAddr, TcpListener};

/// Returns a port of `address` that nothing listens on now.
///
/// A server that is restarted must come back at the same port, so the tests choose it.
///
/// # Errors
///
/// When the address is not one of this machine.
pub fn free(address: IpAddr) -> anyhow::Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}
