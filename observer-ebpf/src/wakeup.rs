//! Wakes the observer when a datagram is delivered by the ring, as a network
//! card interrupts its driver: once, and not again while the driver polls.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

use crate::atomic::Word;
use crate::output;

/// 1 while the observer sleeps and is to be woken. The observer maps this word
/// and sets it; the sender that wakes it clears it.
#[map]
static WAKEUP: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Wakes the observer if it sleeps. To be called after a record was written.
///
/// No wake-up is lost: `bpf_ringbuf_commit` (`kernel/bpf/ringbuf.c`, read in
/// 6.1 to 6.18) publishes the record with `xchg`, a full barrier, and this
/// reads the word after it. The observer sets the word, has a full barrier, and
/// looks at the ring after that. So either the observer sees the record, or
/// this sees that the observer sleeps.
///
/// By then the record has been committed, so the wake-up is that of an empty
/// entry which is discarded at once. The word is only read while the observer
/// is awake, so senders do not contend for it.
#[inline(always)]
pub(crate) fn wake_observer<const HAS_KFUNCS: bool>() {
    let Some(armed) = WAKEUP.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: it is the map's only value, a word, and the observer accesses it
    // atomically.
    let armed = unsafe { Word::at(armed) };
    if armed.load() == 0 || armed.swap(0) == 0 {
        return;
    }
    if !output::wake::<HAS_KFUNCS>(u64::from(BPF_RB_FORCE_WAKEUP)) {
        // The ring filled up at this moment: the next sender tries again.
        armed.swap(1);
    }
}
