//! Counters of what was lost, dropped or refused, one set for each CPU.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use observer_common::loss::Loss;

#[map]
static LOSS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT, 0);

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    if let Some(counter) = LOSS.get_ptr_mut(loss as u32) {
        // SAFETY: the pointer is to this CPU's value. A program that preempts
        // this one on the same CPU could lose one count, never corrupt it.
        unsafe { *counter = (*counter).wrapping_add(1) }
    }
}
