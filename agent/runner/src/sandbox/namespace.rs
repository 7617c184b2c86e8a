//! Entering new user, mount and process namespaces, and giving up what that granted.

use std::fs;

use rustix::{
    process::{getegid, geteuid},
    thread::{
        CapabilitySet, UnshareFlags, capabilities, clear_ambient_capability_set,
        configure_capability_in_ambient_set, set_capabilities,
    },
};

use super::Error;

/// User and group as whom a step wants to run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ids {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

/// Enters the namespaces. The next child is process 1 there.
///
/// An ordinary user keeps its own id in the new user namespace, so that files and `id` look the
/// same, unless another one is wanted: then it has that one inside, and stays who it is outside.
/// One capability is carried over to the child, which needs it for its mounts.
pub(super) fn enter(ids: Ids) -> Result<(), Error> {
    let wanted = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    let own = ids.user.is_none() && ids.group.is_none();
    if own && geteuid().is_root() && unshare(wanted).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(UnshareFlags::NEWUSER | wanted).map_err(|error| {
        let what = "new user, mount and process namespaces are not allowed here";
        Error::new(what, error)
    })?;
    write("/proc/self/setgroups", "deny")?;
    let inside = (ids.user.unwrap_or(user), ids.group.unwrap_or(group));
    write("/proc/self/uid_map", &format!("{} {user} 1", inside.0))?;
    write("/proc/self/gid_map", &format!("{} {group} 1", inside.1))?;
    carry(CapabilitySet::SYS_ADMIN)
}

#[expect(
    deprecated,
    reason = "unsafe only for the table of file descriptors, which is not unshared"
)]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

fn write(path: &str, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::new(format!("can not write {path}"), error))
}

/// Lets a capability survive the start of a program.
fn carry(capability: CapabilitySet) -> Result<(), Error> {
    let error = |error| Error::new("can not keep a capability", error);
    let mut sets = capabilities(None).map_err(error)?;
    sets.inheritable |= capability;
    set_capabilities(None, sets).map_err(error)?;
    configure_capability_in_ambient_set(capability, true).map_err(error)
}

/// Gives up what [`enter`] carried over; a real root keeps what it had.
pub(super) fn drop_privileges() {
    clear_ambient_capability_set().ok();
    if !geteuid().is_root()
        && let Ok(mut sets) = capabilities(None)
    {
        sets.effective = CapabilitySet::empty();
        sets.permitted = CapabilitySet::empty();
        sets.inheritable = CapabilitySet::empty();
        set_capabilities(None, sets).ok();
    }
}
