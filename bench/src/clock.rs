//! `CLOCK_MONOTONIC`, which sender and receiver share.

use std::time::Duration;

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Steps of the stamp in a frame's payload: 64 ns, so that 32 bits last for
/// 274 s.
const STAMP_SHIFT: u32 = 6;

/// Now, in nanoseconds since boot.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// CPU time of this process, all of its threads, in nanoseconds.
pub fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("no time before boot");
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).expect("a fraction of a second")
}

/// Sleeps until the clock shows this.
pub fn sleep_until(ns: u64) {
    let time = Timespec::try_from(Duration::from_nanos(ns)).expect("a time soon");
    // Cut short by a signal: the caller looks at the clock again anyway.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &time);
}

/// A time as it fits in a frame's payload.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are enough")]
pub fn stamp(ns: u64) -> u32 {
    (ns >> STAMP_SHIFT) as u32
}

/// Nanoseconds from a stamp until `now_ns`.
pub fn since(sent: u32, now_ns: u64) -> u64 {
    u64::from(stamp(now_ns).wrapping_sub(sent)) << STAMP_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_outlive_the_wrap() {
        let wrap = 1_u64 << (32 + STAMP_SHIFT);
        assert_eq!(since(stamp(wrap - 6400), wrap + 6400), 12_800);
    }
}
