//! Memory of a process, as the kernel counts it.

use anyhow::Context as _;

/// Memory of one process or the sum of several, in KiB.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Memory {
    /// Resident: all pages, shared ones in full.
    pub rss_kib: u64,
    /// Proportional: shared pages divided by those who share them.
    pub pss_kib: u64,
}

impl Memory {
    /// Reads that of a process of this machine.
    ///
    /// # Errors
    ///
    /// When there is none with this id, or it is not ours.
    pub fn of_process(id: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{id}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        Ok(Self::sum_of(&text))
    }

    /// Adds up all `Rss:` and `Pss:` lines of one or more `smaps_rollup` files.
    #[must_use]
    pub fn sum_of(text: &str) -> Self {
        let mut sum = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(key), Some(value)) = (words.next(), words.next()) else {
                continue;
            };
            let value: u64 = value.parse().unwrap_or(0);
            match key {
                "Rss:" => sum.rss_kib += value,
                "Pss:" => sum.pss_kib += value,
                _ => {}
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_add_up() {
        let text = "55d-7ff ---p 0 00:00 0 [rollup]\nRss: 3000 kB\nPss: 1000 kB\nPss_Dirty: 9 kB\n";
        let sum = Memory::sum_of(&text.repeat(2));
        assert_eq!((sum.rss_kib, sum.pss_kib), (6000, 2000));
    }
}
