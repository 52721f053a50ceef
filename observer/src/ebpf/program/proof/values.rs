//! Values that nothing else has, and clocks that tell one field from another.

use std::hash::{BuildHasher as _, RandomState};
use std::process;

use observer_common::record::COMM_LEN;
use rustix::thread::{CapabilitySet, capabilities};
use rustix::time::{ClockId, clock_gettime};

use super::child::Ids;
use crate::ebpf::program::self_test::truth::padded;

/// User and group ids of nobody: no distribution gives out any from here on.
const FIRST_ID: u32 = 0x8000_0000;

/// Whether the boot clock is ahead of the monotonic clock by more than a tick of
/// `/proc`: it goes on while the host sleeps.
pub(super) fn has_slept() -> bool {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let boot = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (
        boot.tv_sec.saturating_sub(monotonic.tv_sec),
        boot.tv_nsec.saturating_sub(monotonic.tv_nsec),
    );
    i128::from(seconds)
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds.into())
        > 100_000_000
}

/// Ids of nobody, each another; `None` where this process may not take them on.
pub(super) fn unused_ids() -> Option<Ids> {
    let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if !capabilities(None).ok()?.effective.contains(wanted) {
        return None;
    }
    // Far from the end, where -1 means that an id stays as it is.
    let [first, ..] = random().to_ne_bytes();
    let id = |number: u32| {
        FIRST_ID
            .wrapping_add(u32::from(first) << 16)
            .wrapping_add(number)
    };
    Some(Ids {
        users: [id(0), id(1), id(2)],
        groups: [id(3), id(4), id(5)],
    })
}

/// A name that no other thread has.
pub(super) fn random_name() -> [u8; COMM_LEN] {
    padded(format!("{:015x}", random()).as_bytes())
}

fn random() -> u64 {
    RandomState::new().hash_one(process::id())
}
