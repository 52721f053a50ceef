//! Memory that is shared with the kernel.
//!
//! The kernel may write to it at any time, so it is read and written by atomic
//! operations only.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a word.
const WORD: usize = size_of::<AtomicU64>();

/// A mapping of a BPF map.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is
// accessed by atomic operations only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` bytes of a map from `offset` on.
    ///
    /// # Errors
    /// What `mmap` fails with.
    pub(super) fn new(
        map: impl AsFd,
        offset: usize,
        length: usize,
        access: ProtFlags,
    ) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choosing
        // disturbs no other memory.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                map,
                u64::try_from(offset).unwrap_or(u64::MAX),
            )?
        };
        NonNull::new(start.cast())
            .map(|start| Self { start, length })
            .ok_or_else(|| io::Error::other("mmap returned NULL"))
    }

    /// The word at the mapping's beginning.
    pub(super) fn first_word(&self) -> &AtomicU64 {
        let word = self.start.cast::<AtomicU64>();
        // SAFETY: a mapping is a page or more and begins at a page boundary,
        // it lives as long as `self`, and is accessed by atomic operations
        // only.
        unsafe { word.as_ref() }
    }

    /// The half word at an offset that is a multiple of its size; `None`
    /// beyond the end.
    pub(super) fn half_word(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at(offset, 1)?;
        // SAFETY: it lies within the mapping, aligned, and is accessed by
        // atomic operations only.
        Some(unsafe { at.as_ref() })
    }

    /// Copies a value, word by word, from an offset that is a multiple of a
    /// word; `None` beyond the end.
    ///
    /// The value is whole if the kernel does not write to it meanwhile, as the
    /// ring's protocol has it for an entry that is committed and has not been
    /// given back. Otherwise it may be made up of old and new words.
    pub(super) fn copy<T: FromBytes + IntoBytes>(&self, offset: usize) -> Option<T> {
        const { assert!(size_of::<T>().is_multiple_of(WORD)) };
        let mut value = T::new_zeroed();
        let (copies, _) = value.as_mut_bytes().as_chunks_mut::<WORD>();
        for (copy, word) in copies
            .iter_mut()
            .zip(self.words(offset, size_of::<T>() / WORD)?)
        {
            *copy = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        Some(value)
    }

    fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let first = self.at(offset, count)?;
        let words = NonNull::slice_from_raw_parts(first, count);
        // SAFETY: so many words lie within the mapping, aligned, and are
        // accessed by atomic operations only.
        Some(unsafe { words.as_ref() })
    }

    /// Where so many values lie from an offset on, if they are aligned and
    /// within the mapping.
    fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let end = size_of::<T>().checked_mul(count)?.checked_add(offset)?;
        let is_there = end <= self.length && offset.is_multiple_of(align_of::<T>());
        // SAFETY: the offset lies within the mapping.
        is_there.then(|| unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no
        // reference into it outlives `self`.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(result.is_ok(), "munmap: {result:?}");
    }
}
