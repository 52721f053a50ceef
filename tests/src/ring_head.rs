//! The front of an observer's ring, as anybody sees it who maps the ring.

use std::ffi::c_void;
use std::fs;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use rustix::param::page_size;

/// `BPF_RINGBUF_BUSY_BIT` (`include/uapi/linux/bpf.h`)
const BUSY: u32 = 1 << 31;

/// A ring's positions and data, read only. It stays mapped to the end of the
/// process.
pub struct RingHead {
    consumer: NonNull<c_void>,
    producer: NonNull<c_void>,
    size: u64,
}

impl RingHead {
    /// That of a ring.
    ///
    /// # Panics
    /// If it is none, or cannot be mapped.
    #[must_use]
    pub fn of(ring: &OwnedFd) -> Self {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", ring.as_raw_fd()));
        let info = info.expect("it is open");
        let size = info
            .lines()
            .find_map(|line| line.strip_prefix("max_entries:"));
        let size: usize = size.expect("a map").trim().parse().expect("a number");
        Self {
            consumer: map(ring, 0, page_size()),
            producer: map(ring, page_size(), page_size() + size),
            size: size as u64,
        }
    }

    /// Where the first unread entry is, if there is one that is still being
    /// written: the observer gives nothing back from there on.
    #[must_use]
    pub fn busy(&self) -> Option<u64> {
        // SAFETY: either page begins with a position, which the kernel and the
        // observer access atomically.
        let [consumer, producer] = [self.consumer, self.producer]
            .map(|page| unsafe { page.cast::<AtomicU64>().as_ref() }.load(Ordering::Acquire));
        if consumer >= producer {
            return None;
        }
        let offset = page_size() + usize::try_from(consumer % self.size).expect("small");
        let header = self.producer.as_ptr().wrapping_byte_add(offset);
        // SAFETY: an entry is aligned to eight bytes, lies within the data
        // behind the page, and begins with this word.
        let header = unsafe { &*header.cast::<AtomicU32>() };
        (header.load(Ordering::Acquire) & BUSY != 0).then_some(consumer)
    }
}

fn map(ring: &OwnedFd, offset: usize, length: usize) -> NonNull<c_void> {
    let length = NonZeroUsize::new(length).expect("it is not empty");
    let offset = offset.try_into().expect("small");
    // SAFETY: a new mapping, of nothing that the process has.
    unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED,
            ring,
            offset,
        )
    }
    .expect("root may")
}
