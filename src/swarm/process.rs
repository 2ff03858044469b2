//! What a process of this machine uses, as the system tells it.

use std::fs;

/// Ticks of processor time per second, as Linux counts them for programs.
const TICKS_PER_SECOND: u64 = 100;
/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far, in microseconds.
    pub cpu_us: u64,
    /// Resident memory now.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of a process; none = there is no such process, or the system does not tell.
    #[must_use]
    pub fn of(process: u32) -> Option<Self> {
        if process == 0 {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let memory = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
        Self::read(&stat, &memory)
    }

    fn read(stat: &str, memory: &str) -> Option<Self> {
        // The name of the program may have anything in it, so fields count from its end.
        let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let pages: u64 = memory.split(' ').nth(1)?.parse().ok()?;
        Some(Self {
            cpu_us: (user + system) * (1_000_000 / TICKS_PER_SECOND),
            resident_bytes: pages * PAGE_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_tells() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 5 0 100 9 9";
        let want = Usage { cpu_us: 3_000_000, resident_bytes: 12 * PAGE_BYTES };
        assert_eq!(Usage::read(stat, "100 12 3 1 0 9 0"), Some(want));
        assert_eq!(Usage::read("", ""), None);
        assert!(Usage::of(std::process::id()).is_some_and(|usage| usage.resident_bytes > 0));
        assert_eq!(Usage::of(0), None);
    }
}
