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

/// What mounting needs; and what an overlay does in its own folders, as who has mounted it. In a
/// user namespace all this holds for the user's own files alone.
const CARRIED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD);

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
/// Capabilities are carried over to the child, which needs them for its mounts.
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
    carry(CARRIED)
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

/// Lets capabilities survive the start of a program.
fn carry(wanted: CapabilitySet) -> Result<(), Error> {
    let error = |error| Error::new("can not keep a capability", error);
    let mut sets = capabilities(None).map_err(error)?;
    sets.inheritable |= wanted;
    set_capabilities(None, sets).map_err(error)?;
    wanted
        .iter()
        .try_for_each(|one| configure_capability_in_ambient_set(one, true).map_err(error))
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
