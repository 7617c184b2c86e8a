//! Processor time of a process, as the kernel counts it.

use std::time::Duration;

use anyhow::Context as _;

/// Returns the time that all threads of a process have run, in user and in system mode.
///
/// # Errors
///
/// When there is no process with this id.
pub fn of_process(id: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{id}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&text).with_context(|| format!("{path}: {text}"))?;
    let second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_micros(ticks * 1_000_000 / second.max(1)))
}

/// The fields `utime` and `stime`, the 14th and the 15th, behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_do_not_move_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 30 0 0 20 0 4 0 100 1 1";
        assert_eq!(ticks(stat), Some(280));
        assert_eq!(ticks("nothing"), None);
    }
}
