//! Words in maps that all CPUs change at the same time.

use core::sync::atomic::{AtomicU64, Ordering};

/// A word of a map's value.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a>(&'a AtomicU64);

impl Word<'_> {
    /// # Safety
    /// The pointer must be to a word of a map's value, aligned for it, that
    /// everyone else accesses atomically. The kernel keeps the value's memory
    /// while the program runs, even if it removes the entry meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn at(word: *mut u64) -> Self {
        // SAFETY: as promised.
        Self(unsafe { AtomicU64::from_ptr(word) })
    }

    /// A volatile read, which is atomic here: LLVM has no atomic one for the
    /// third version of BPF's instruction set.
    #[inline(always)]
    pub(crate) fn load(self) -> u64 {
        // SAFETY: the word is valid and aligned, and a load of so many bits is
        // one access.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    /// `BPF_XCHG`, a full barrier.
    #[inline(always)]
    pub(crate) fn swap(self, new: u64) -> u64 {
        self.0.swap(new, Ordering::SeqCst)
    }

    /// `BPF_FETCH | BPF_ADD`; returns the sum.
    ///
    /// Not relaxed: LLVM (22) turns that into an addition that fetches nothing,
    /// and uses the addend as the fetched value.
    #[inline(always)]
    pub(crate) fn add(self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::SeqCst).wrapping_add(more)
    }

    /// `BPF_CMPXCHG`; whether the word was as expected, and is new now.
    #[inline(always)]
    pub(crate) fn replace(self, expected: u64, new: u64) -> bool {
        self.0
            .compare_exchange(expected, new, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}
