//! Memory that is shared with the kernel.

use std::{
    io,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use zerocopy::FromBytes;

/// A mapping of a BPF map.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread; it is
// accessed through atomics, and by copying what the kernel has published.
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
                std::ptr::null_mut(),
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
        // it lives as long as `self`, and the word is only ever accessed
        // atomically, by the kernel as well.
        unsafe { word.as_ref() }
    }

    /// The half word at an offset that is a multiple of its size; `None`
    /// beyond the end.
    pub(super) fn half_word(&self, offset: usize) -> Option<&AtomicU32> {
        if !offset.is_multiple_of(size_of::<AtomicU32>()) {
            return None;
        }
        let at = self.at::<AtomicU32>(offset)?;
        // SAFETY: it lies within the mapping, aligned, and is only ever
        // accessed atomically, by the kernel as well.
        Some(unsafe { at.as_ref() })
    }

    /// Copies a value out that the kernel has published and does not change
    /// until it is given back; `None` beyond the end.
    pub(super) fn copy<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let at = self.at::<T>(offset)?;
        // SAFETY: so many bytes lie within the mapping, and any bytes make a
        // `T`.
        Some(unsafe { at.read_unaligned() })
    }

    fn at<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        // SAFETY: the offset lies within the mapping.
        (end <= self.length).then(|| unsafe { self.start.add(offset) }.cast())
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
