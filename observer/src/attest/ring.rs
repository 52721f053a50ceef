//! The ring buffer that the eBPF programs write to.

use std::{
    io,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use aya::maps::{MapData, RingBuf};
use observer_common::record::Record;
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};
use zerocopy::FromBytes as _;

/// Reads records, and knows how far it has read.
pub(super) struct Ring {
    records: RingBuf<MapData>,
    positions: Positions,
    malformed: u64,
}

/// A place in the ring: every record that was reserved before it was taken
/// lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(usize);

impl Ring {
    pub(super) fn new(records: RingBuf<MapData>) -> io::Result<Self> {
        let positions = Positions::map(&records)?;
        Ok(Self {
            records,
            positions,
            malformed: 0,
        })
    }

    /// Where the next record will be reserved.
    ///
    /// A datagram that was received before this call has its record below the
    /// mark: the filter reserves and submits in `sk_filter`, and
    /// `unix_dgram_sendmsg` queues the datagram after that.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.positions.producer())
    }

    /// Whether all records below the mark have been read.
    ///
    /// It is false while a sender that was preempted in the program still
    /// holds its reservation: the ring hands out nothing beyond one.
    pub(super) fn is_read_up_to(&self, Mark(mark): Mark) -> bool {
        // Positions only grow, and wrap around at the word's end.
        self.positions.consumer().wrapping_sub(mark) <= usize::MAX / 2
    }

    /// Reads the records below the mark, as far as they are committed. What
    /// comes after it can wait: a flood of senders keeps nobody here.
    pub(super) fn read_up_to(&mut self, mark: Mark, mut take: impl FnMut(&Record)) {
        while !self.is_read_up_to(mark) {
            let Some(item) = self.records.next() else {
                return;
            };
            match Record::ref_from_bytes(&item) {
                Ok(record) => take(record),
                Err(_) => self.malformed = self.malformed.saturating_add(1),
            }
        }
    }

    /// Entries that were not as long as a record.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// A read-only view of the ring's two position pages.
///
/// Page 0 holds the consumer's position and page 1 the producer's
/// (`struct bpf_ringbuf`, `kernel/bpf/ringbuf.c`, read in 6.1, 6.12 and
/// 6.18); aya keeps its own view of them to itself.
struct Positions {
    pages: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process and not to a thread, and it is
// only ever read, through atomics.
unsafe impl Send for Positions {}

impl Positions {
    fn map(ring: impl AsFd) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choosing
        // disturbs no other memory.
        let pages = unsafe {
            mmap(
                std::ptr::null_mut(),
                Self::len(),
                ProtFlags::READ,
                MapFlags::SHARED,
                ring,
                0,
            )?
        };
        NonNull::new(pages.cast())
            .map(|pages| Self { pages })
            .ok_or_else(|| io::Error::other("mmap returned NULL"))
    }

    fn len() -> usize {
        page_size().saturating_mul(2)
    }

    fn consumer(&self) -> usize {
        self.position(0)
    }

    fn producer(&self) -> usize {
        self.position(page_size())
    }

    fn position(&self, offset: usize) -> usize {
        // SAFETY: `offset` is 0 or one page, and two pages are mapped.
        let word = unsafe { self.pages.add(offset) }.cast::<AtomicUsize>();
        // SAFETY: a page boundary is aligned for a word, the mapping lives as
        // long as `self`, and the word is only accessed atomically (the
        // kernel with smp_store_release, aya with an AtomicUsize).
        unsafe { word.as_ref() }.load(Ordering::Acquire)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this length, and no
        // reference into it outlives `position`.
        let result = unsafe { munmap(self.pages.as_ptr().cast(), Self::len()) };
        debug_assert!(result.is_ok(), "munmap: {result:?}");
    }
}
