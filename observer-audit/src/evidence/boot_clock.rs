//! The clock in which /proc shows when processes started.
//!
//! The kernel's record has the boot clock as it is. `/proc/PID/stat` has it as the
//! *reader's* time namespace shows it (`timens_add_boottime_ns` in `do_task_stat`,
//! `fs/proc/array.c`, Linux 5.6 and later): in a namespace with an offset the two
//! differ for every process.

use std::fs;
use std::io;
use std::path::Path;

const NS_PER_SECOND: u64 = 1_000_000_000;
const OFFSETS: &str = "/proc/self/timens_offsets";
/// Namespaces of this process, and of those that it would create. The offsets
/// are the latter's (`proc_timens_show_offsets`, `kernel/time/namespace.c`).
const OWN: &str = "/proc/self/ns/time";
const OF_CHILDREN: &str = "/proc/self/ns/time_for_children";

/// How start times of the kernel's records compare with those of /proc.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BootClock {
    /// What this process's time namespace adds, in nanoseconds; `None`: unknown.
    offset_ns: Option<i64>,
}

impl BootClock {
    /// The clock of this process. It stays the same for as long as the process
    /// has more than one thread (`timens_install`, `kernel/time/namespace.c`).
    pub(crate) fn own() -> Self {
        Self {
            offset_ns: own_offset(),
        }
    }

    /// The start time that /proc shows, in clock ticks, of a process that started
    /// then by the kernel's record. Computed as the kernel does it
    /// (`nsec_to_clock_t`, `kernel/time/time.c`), wrapping included.
    pub(crate) fn ticks(self, start_ns: u64) -> Option<u64> {
        let shown = start_ns.wrapping_add_signed(self.offset_ns?);
        let per_second = rustix::param::clock_ticks_per_second();
        shown.checked_div(NS_PER_SECOND.checked_div(per_second)?)
    }
}

fn own_offset() -> Option<i64> {
    let text = match fs::read_to_string(OFFSETS) {
        Ok(text) => text,
        // A kernel without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        Err(_) => return None,
    };
    let namespace = |path: &str| fs::read_link(Path::new(path)).ok();
    (namespace(OWN)? == namespace(OF_CHILDREN)?).then_some(())?;
    boottime(&text)
}

/// The line `boottime SECONDS NANOSECONDS`.
fn boottime(offsets: &str) -> Option<i64> {
    let mut lines = offsets.lines().map(str::split_ascii_whitespace);
    let mut fields =
        lines.find_map(|mut fields| (fields.next()? == "boottime").then_some(fields))?;
    let seconds: i64 = fields.next()?.parse().ok()?;
    let nanoseconds: i64 = fields.next()?.parse().ok()?;
    let per_second = i64::try_from(NS_PER_SECOND).ok()?;
    seconds.checked_mul(per_second)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_shown_with_the_offset_of_the_namespace() {
        let offsets = "monotonic           7         0\nboottime         -100 500000000\n";
        assert_eq!(boottime(offsets), Some(-99_500_000_000));
        for bad in [
            "",
            "boottime",
            "boottime 1",
            "boottime x 0",
            "boottime 9999999999999 0",
        ] {
            assert_eq!(boottime(bad), None, "{bad}");
        }
        let ticks = |offset_ns, start_ns| BootClock { offset_ns }.ticks(start_ns);
        let second = rustix::param::clock_ticks_per_second();
        assert_eq!(
            ticks(Some(0), 100_500_000_000),
            Some(100 * second + second / 2)
        );
        assert_eq!(ticks(Some(-99_500_000_000), 100_500_000_000), Some(second));
        // A process that is older than the namespace's clock.
        assert!(ticks(Some(-99_500_000_000), 1) > Some(1 << 40));
        assert_eq!(ticks(None, 1), None);
    }
}
