//! Wakes the observer when a datagram is delivered by the ring, as a network
//! card does: the first one interrupts, and then there is silence for as long
//! as the observer polls.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP},
    macros::map,
    maps::Array,
};

use crate::{atomic::Word, output};

/// 1 while the observer sleeps and wants to be woken. It maps this word and
/// sets it; whoever wakes it clears it.
#[map]
static WAKEUP: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Wakes the observer if it sleeps. To be called after a record was written.
///
/// No wake-up is lost in between: `bpf_ringbuf_commit` (`kernel/bpf/ringbuf.c`,
/// read in 6.1 to 6.18) publishes the record with `xchg`, a full barrier, and
/// this reads the word after it; the observer sets the word, has a full
/// barrier, and looks at the ring after that. So either it sees the record or
/// this sees that it sleeps.
///
/// The wake-up itself is that of an empty entry which is discarded at once:
/// the record has been committed before it was known that one is due, so that
/// a busy program does not touch the shared word but to read it.
#[inline(always)]
pub(crate) fn wake_observer<const HAS_KFUNCS: bool>() {
    let Some(asleep) = WAKEUP.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: it is the map's only value, a word, and the observer accesses it
    // atomically.
    let asleep = unsafe { Word::at(asleep) };
    if asleep.load() == 0 || asleep.swap(0) == 0 {
        return;
    }
    if !output::wake::<HAS_KFUNCS>(u64::from(BPF_RB_FORCE_WAKEUP)) {
        // The ring filled up in this moment: the next one tries again.
        asleep.swap(1);
    }
}
