//! What `/proc` says of a task in a single line.

use std::fs;
use std::path::Path;
use std::process;

use rustix::param::clock_ticks_per_second;

/// When a process started, as `/proc` says it: a tick is 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ebpf::program) struct Start {
    ticks: u64,
    /// How much the boot clock of this time namespace is ahead, in nanoseconds.
    ahead_ns: i128,
}

impl Start {
    /// So many ticks after the boot.
    #[cfg(test)]
    pub(super) fn of_initial_namespace(ticks: u64) -> Self {
        Self { ticks, ahead_ns: 0 }
    }

    /// Whether it is this moment of the initial time namespace's boot clock.
    pub(super) fn is(self, start_ns: u64) -> bool {
        let per_tick = 1_000_000_000_i128.checked_div(clock_ticks_per_second().into());
        let shown = i128::from(start_ns).saturating_add(self.ahead_ns);
        per_tick.and_then(|ns| shown.checked_div(ns)) == Some(self.ticks.into())
    }
}

/// Some of `/proc/TASK/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug)]
pub(in crate::ebpf::program) struct Stat {
    /// `task_struct.flags`
    pub(in crate::ebpf::program) flags: Option<u32>,
    pub(in crate::ebpf::program) start: Option<Start>,
}

/// Whether `/proc` numbers processes as this pid namespace does. In one that was
/// entered without mounting its own, a number is another process's there.
pub(in crate::ebpf::program) fn is_proc_ours() -> bool {
    let own = process::id().to_string();
    fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == own.as_str())
}

impl Stat {
    /// Of a task, by its name under `/proc`.
    pub(in crate::ebpf::program) fn of(task: &str) -> Option<Self> {
        let text = fs::read_to_string(Path::new("/proc").join(task).join("stat")).ok()?;
        Self::parse(&text, ahead_ns())
    }

    /// The second field is the name in brackets, which may hold brackets and
    /// blanks; after it come the third and the others.
    fn parse(text: &str, ahead_ns: i128) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number);
        let ticks = field(19).and_then(|ticks| ticks.parse().ok());
        Some(Self {
            flags: field(6).and_then(|flags| flags.parse().ok()),
            start: ticks.map(|ticks| Start { ticks, ahead_ns }),
        })
    }
}

/// What this time namespace adds to the boot clock (`time_namespaces(7)`), and
/// `/proc` to start times; zero on a kernel without such namespaces.
fn ahead_ns() -> i128 {
    let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    parse_offsets(&text).unwrap_or_default()
}

fn parse_offsets(text: &str) -> Option<i128> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i128>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2\n";
        let stat = Stat::parse(text, 0).unwrap();
        assert_eq!(stat.flags, Some(0x0040_0040));
        assert!(stat.start.unwrap().is(98_765_432_109));
        assert!(!stat.start.unwrap().is(98_770_000_000));
        for bad in ["", "42 (a)", "42 (a) S x", "42 a S 1 2 3"] {
            let stat = Stat::parse(bad, 0);
            assert!(stat.is_none_or(|stat| stat.start.is_none()), "{bad}");
        }
    }

    /// `/proc` shows a later time where the namespace's clock is ahead.
    #[test]
    fn time_namespaces_are_taken_out() {
        let offsets = "monotonic           0         0\nboottime          100 500000000\n";
        let ahead_ns = parse_offsets(offsets).unwrap();
        assert_eq!(ahead_ns, 100_500_000_000);
        let start = Start {
            ticks: 10_050 + 100,
            ahead_ns,
        };
        assert!(start.is(1_000_000_000));
        let behind = parse_offsets("boottime -3 0").unwrap();
        assert_eq!(behind, -3_000_000_000);
        assert_eq!(parse_offsets(""), None);
    }
}
