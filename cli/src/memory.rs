//! How this process uses memory when it is a daemon.

/// The kernel gives no pages of two megabytes, where often a few kilobytes are used: a daemon that does
/// nothing would hold three times as much. What a process starts inherits this, so it ends before.
#[must_use]
#[derive(Debug)]
pub(crate) struct SmallPages {
    /// It was so already.
    inherited: bool,
}

impl SmallPages {
    /// Begins, best before much is allocated: what was given is not taken back.
    pub(crate) fn begin() -> Self {
        let inherited = rustix::thread::transparent_huge_pages_are_disabled();
        // Where the kernel refuses it, only memory is lost.
        let _refused = rustix::thread::disable_transparent_huge_pages(true);
        Self {
            inherited: inherited.unwrap_or(false),
        }
    }

    /// Leaves it as it was before.
    pub(crate) fn end(self) {
        if !self.inherited {
            let _refused = rustix::thread::disable_transparent_huge_pages(false);
        }
    }
}
