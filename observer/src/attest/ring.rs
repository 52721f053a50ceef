//! The ring buffer that the eBPF programs write to.
//!
//! Layout and protocol are those of `kernel/bpf/ringbuf.c` (read in 6.1, 6.12
//! and 6.18; the kernel's documentation calls them stable): a page with the
//! consumer's position, a page with the producer's, and the data, mapped twice
//! in a row so that no entry is in two pieces. An entry has a header of eight
//! bytes, the first four of which are its length and two flags.
//!
//! It is read here and not by a library because the position that is given
//! back to the kernel lies in a cache line that every sender reads: it is
//! written once for many records, and not once for each.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::MapData;
use observer_common::record::Record;
use rustix::{mm::ProtFlags, param::page_size};

use super::mapping::Mapping;

/// `BPF_RINGBUF_BUSY_BIT`: reserved, and not yet committed.
const BUSY: u32 = 1 << 31;

/// `BPF_RINGBUF_DISCARD_BIT`: to be skipped.
const DISCARDED: u32 = 1 << 30;

/// `BPF_RINGBUF_HDR_SZ`
const HEADER_LEN: usize = 8;

/// Reads records, and knows how far it has read.
pub(super) struct Ring {
    /// Keeps the ring open, and is what waits for it.
    map: MapData,
    consumer: Mapping,
    /// The producer's position, and behind its page the data, twice.
    producer: Mapping,
    /// Position to offset.
    mask: u64,
    /// Everything below has been read.
    read: u64,
    malformed: u64,
}

/// A place in the ring: every record that was reserved before it was taken
/// lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u64);

#[cfg(test)]
impl Mark {
    /// That of a ring in which nothing was ever written.
    pub(super) const START: Self = Self(0);
}

impl Ring {
    /// `bytes` is the ring's size: a power of two, a page or more.
    pub(super) fn new(map: MapData, bytes: u32) -> io::Result<Self> {
        let page = page_size();
        let size = bytes as usize;
        let length = size.saturating_mul(2).saturating_add(page);
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        let consumer = Mapping::new(map.fd().as_fd(), 0, page, read_write)?;
        let producer = Mapping::new(map.fd().as_fd(), page, length, ProtFlags::READ)?;
        Ok(Self {
            read: consumer.first_word().load(Ordering::Acquire),
            map,
            consumer,
            producer,
            mask: u64::from(bytes).saturating_sub(1),
            malformed: 0,
        })
    }

    /// Where the next record will be reserved.
    ///
    /// A datagram that was received before this call has its record below the
    /// mark: the filter reserves and submits in `sk_filter`, and
    /// `unix_dgram_sendmsg` queues the datagram after that.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.producer.first_word().load(Ordering::Acquire))
    }

    /// Whether all records below the mark have been read.
    ///
    /// It is false while a sender that was preempted in the program still
    /// holds its reservation: the ring hands out nothing beyond one.
    pub(super) fn is_read_up_to(&self, Mark(mark): Mark) -> bool {
        // Positions only grow, and wrap around at the word's end.
        self.read.wrapping_sub(mark) <= u64::MAX / 2
    }

    /// The next record below the mark, if it is committed and `wanted`. What
    /// comes after the mark can wait: a flood of senders keeps nobody here.
    ///
    /// Its place is given back to the kernel by [`Ring::release`].
    pub(super) fn next(
        &mut self,
        mark: Mark,
        wanted: impl FnOnce(&Record) -> bool,
    ) -> Option<Record> {
        while !self.is_read_up_to(mark) {
            let offset = usize::try_from(self.read & self.mask).ok()?;
            let header = page_size().saturating_add(offset);
            let flags = self.producer.half_word(header)?.load(Ordering::Acquire);
            if flags & BUSY != 0 {
                return None;
            }
            let length = (flags & !DISCARDED) as usize;
            let end = self.read.wrapping_add(entry_len(length));
            if flags & DISCARDED != 0 {
                self.read = end;
            } else if length == size_of::<Record>() {
                let payload = header.saturating_add(HEADER_LEN);
                let record = self.producer.copy(payload)?;
                if !wanted(&record) {
                    return None;
                }
                self.read = end;
                return Some(record);
            } else {
                self.malformed = self.malformed.saturating_add(1);
                self.read = end;
            }
        }
        None
    }

    /// Gives the room of all that was read back to the kernel.
    pub(super) fn release(&self) {
        let position = self.consumer.first_word();
        // The kernel pairs this with the acquire in `__bpf_ringbuf_reserve`.
        if position.load(Ordering::Relaxed) != self.read {
            position.store(self.read, Ordering::Release);
        }
    }

    /// Counts a record that stands for nothing.
    pub(super) fn note_malformed(&mut self) {
        self.malformed = self.malformed.saturating_add(1);
    }

    /// Entries that were no records.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// Readable while there is something unread, and woken by the program.
impl AsFd for Ring {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

/// What an entry takes up: header and payload, rounded up to a word
/// (`__bpf_ringbuf_reserve`).
fn entry_len(payload: usize) -> u64 {
    let length = payload.saturating_add(HEADER_LEN).next_multiple_of(8);
    u64::try_from(length).unwrap_or(u64::MAX)
}

const _: () = assert!(size_of::<AtomicU32>() == 4 && size_of::<AtomicU64>() == 8);
