//! The ring buffer that the eBPF programs write to.
//!
//! Layout and protocol are those of `kernel/bpf/ringbuf.c` (read in 6.1, 6.12
//! and 6.18; the kernel's documentation calls them stable): a page with the
//! consumer's position, a page with the producer's, and the data, mapped twice
//! in a row so that no entry is in two pieces. An entry has a header of eight
//! bytes, the first four of which are its length and two flags.
//!
//! It is read here and not by a library for two reasons. The position that is
//! given back to the kernel lies in a cache line that every sender reads: it is
//! written once for many records, and not once for each. And an entry that is
//! still being written holds nobody up: [`busy`](super::busy).
//!
//! Reading past one is sound because `__bpf_ringbuf_reserve` writes its length,
//! with the busy flag, before it moves the producer's position (a store with
//! release semantics): the length is valid while the entry is busy, and so is
//! every position in between. What it does not give back is room: that ends at
//! the first busy entry, which the kernel must not write over.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use observer_common::record::Record;
use rustix::mm::ProtFlags;
use rustix::param::page_size;

use super::busy::BusyList;
use super::mapping::Mapping;

/// `BPF_RINGBUF_BUSY_BIT`: reserved, and not yet committed.
const BUSY: u32 = 1 << 31;

/// `BPF_RINGBUF_DISCARD_BIT`: to be skipped.
const DISCARDED: u32 = 1 << 30;

/// `BPF_RINGBUF_HDR_SZ`
const HEADER_LEN: usize = 8;

/// Reads records, and knows how far it has read.
pub(crate) struct Ring {
    /// Keeps the ring open, and is what waits for it.
    map: OwnedFd,
    consumer: Mapping,
    /// The producer's position, and behind its page the data, twice.
    producer: Mapping,
    /// Position to offset.
    mask: u64,
    /// Everything below has been looked at.
    scanned: u64,
    /// What of it was still being written then, and is to be read yet.
    busy: BusyList,
    /// The entry of the record that was peeked at.
    peeked: Option<(Place, Header)>,
    malformed: u64,
}

/// A moment: every record that was committed before it was taken lies below
/// the position, and is found by the end of that look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    position: u64,
    look: u64,
}

#[cfg(test)]
impl Mark {
    /// That of a ring in which nothing was ever written.
    pub(crate) const START: Self = Self {
        position: 0,
        look: 0,
    };
}

/// An entry's header as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
struct Header {
    /// Where it is in the producer's mapping.
    offset: usize,
    flags: u32,
}

impl Header {
    fn is_busy(self) -> bool {
        self.flags & BUSY != 0
    }

    fn is_discarded(self) -> bool {
        self.flags & DISCARDED != 0
    }

    /// The payload's, valid while the entry is busy, too.
    fn length(self) -> usize {
        (self.flags & !(BUSY | DISCARDED)) as usize
    }
}

/// Which of the two sorts of unread entries one is of.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The reader passed it while it was busy.
    Passed,
    /// The reader has come as far as this.
    Next,
}

impl Ring {
    /// `bytes` is the ring's size: a power of two, a page or more.
    pub(crate) fn new(map: OwnedFd, bytes: u32) -> io::Result<Self> {
        let page = page_size();
        let size = bytes as usize;
        let length = size.saturating_mul(2).saturating_add(page);
        let read_write = ProtFlags::READ | ProtFlags::WRITE;
        let consumer = Mapping::new(map.as_fd(), 0, page, read_write)?;
        let producer = Mapping::new(map.as_fd(), page, length, ProtFlags::READ)?;
        Ok(Self {
            scanned: consumer.first_word().load(Ordering::Acquire),
            busy: BusyList::default(),
            map,
            consumer,
            producer,
            mask: u64::from(bytes).saturating_sub(1),
            peeked: None,
            malformed: 0,
        })
    }

    /// This moment.
    ///
    /// A datagram that was received before this call has its record, committed,
    /// below the mark: `bpf_ringbuf_output` commits before the program ends,
    /// and the datagram is queued after that, by `unix_dgram_sendmsg` as by
    /// `ip_finish_output`. So no such datagram waits for a busy entry.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            position: self.producer.first_word().load(Ordering::Acquire),
            look: self.busy.look_to_come(),
        }
    }

    /// Looks again at the entries that were busy. To be called after the mark
    /// was taken that is going to be read up to: then no sender's entry that
    /// was passed while it was busy is read after a later one of that sender.
    pub(crate) fn begin_look(&mut self) {
        self.busy.begin_look();
    }

    /// Whether all records have been read that were committed before the mark
    /// was taken.
    pub(crate) fn is_read_up_to(&self, mark: Mark) -> bool {
        self.busy.has_completed(mark.look) && !self.is_below(mark)
    }

    /// Whether nothing can be read now: what is unread is still being written.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_busy = |position| self.header(position).is_some_and(Header::is_busy);
        self.scanned == self.mark().position && self.busy.positions().all(is_busy)
    }

    /// Whether the reader has passed something that was still being written,
    /// for which the kernel calls the ring readable (`ringbuf_map_poll`).
    pub(crate) fn has_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// The next record below the mark, if it is committed; [`Ring::advance`]
    /// steps over it. What comes after the mark can wait: a flood of senders
    /// keeps nobody here. Those that were passed while they were busy come
    /// first.
    ///
    /// Its place is given back to the kernel by [`Ring::release`].
    pub(crate) fn peek(&mut self, mark: Mark) -> Option<Record> {
        loop {
            let (place, header) = self.next_committed(mark)?;
            if let Some(record) = self.record(header) {
                self.peeked = Some((place, header));
                return Some(record);
            }
            if !header.is_discarded() {
                self.note_malformed();
            }
            self.step_over(place, header);
        }
    }

    /// Steps over the record that was peeked at.
    pub(crate) fn advance(&mut self) {
        if let Some((place, header)) = self.peeked.take() {
            self.step_over(place, header);
        }
    }

    /// What [`Ring::peek`] would find, without moving anything.
    pub(crate) fn upcoming(&self, mark: Mark) -> Option<Record> {
        let committed = |position| {
            let header = self.header(position)?;
            (!header.is_busy()).then(|| self.record(header)).flatten()
        };
        let passed = self.busy.unchecked_positions().find_map(committed);
        passed.or_else(|| self.positions_below(mark.position).find_map(committed))
    }

    /// The record that the reader comes to next, if it is committed.
    pub(crate) fn oldest(&self) -> Option<Record> {
        let mut headers = self
            .positions_below(self.mark().position)
            .filter_map(|position| self.header(position))
            .filter(|header| !header.is_discarded());
        let header = headers.next().filter(|header| !header.is_busy())?;
        self.record(header)
    }

    /// Whether one of the records that the reader has still to come to was written
    /// in this time of `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) fn has_written_within(&self, moments: &RangeInclusive<u64>) -> bool {
        self.positions_below(self.mark().position)
            .filter_map(|position| self.header(position))
            .filter(|header| !header.is_discarded() && !header.is_busy())
            .filter_map(|header| self.record(header))
            .any(|record| moments.contains(&record.time_ns))
    }

    /// Where the entries begin that the reader has still to come to.
    fn positions_below(&self, end: u64) -> impl Iterator<Item = u64> + '_ {
        let is_below = move |position: &u64| is_before(*position, end);
        let next = |&position: &u64| {
            let header = self.header(position)?;
            Some(position.wrapping_add(entry_len(header.length())))
        };
        std::iter::successors(Some(self.scanned), next).take_while(is_below)
    }

    /// Gives the room of all that was read back to the kernel, up to the first
    /// entry that is still being written.
    pub(crate) fn release(&self) {
        let end = self.busy.first().unwrap_or(self.scanned);
        let position = self.consumer.first_word();
        // The kernel pairs this with the acquire in `__bpf_ringbuf_reserve`.
        if position.load(Ordering::Relaxed) != end {
            position.store(end, Ordering::Release);
        }
    }

    /// The first unread entry that has been committed.
    fn next_committed(&mut self, mark: Mark) -> Option<(Place, Header)> {
        while let Some(position) = self.busy.unchecked() {
            let header = self.header(position)?;
            if !header.is_busy() {
                return Some((Place::Passed, header));
            }
            self.busy.keep();
        }
        while self.is_below(mark) {
            let header = self.header(self.scanned)?;
            if !header.is_busy() {
                return Some((Place::Next, header));
            }
            self.busy.push(self.scanned);
            self.step_over(Place::Next, header);
        }
        None
    }

    fn header(&self, position: u64) -> Option<Header> {
        let offset = usize::try_from(position & self.mask).ok()?;
        let offset = page_size().saturating_add(offset);
        let flags = self.producer.half_word(offset)?.load(Ordering::Acquire);
        Some(Header { offset, flags })
    }

    /// What the entry holds, if that is a record.
    fn record(&self, header: Header) -> Option<Record> {
        let is_record = !header.is_discarded() && header.length() == size_of::<Record>();
        let payload = header.offset.saturating_add(HEADER_LEN);
        is_record.then(|| self.producer.copy(payload)).flatten()
    }

    fn step_over(&mut self, place: Place, header: Header) {
        match place {
            Place::Passed => self.busy.remove(),
            Place::Next => self.scanned = self.scanned.wrapping_add(entry_len(header.length())),
        }
    }

    /// Whether the reader has not come as far as the mark.
    fn is_below(&self, mark: Mark) -> bool {
        is_before(self.scanned, mark.position)
    }

    /// Counts a record that stands for nothing.
    pub(crate) fn note_malformed(&mut self) {
        self.malformed = self.malformed.saturating_add(1);
    }

    /// Entries that were no records.
    pub(crate) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// Readable while the kernel has not got all room back, and woken by the
/// program.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Positions only grow, and wrap around at the word's end.
fn is_before(position: u64, end: u64) -> bool {
    position.wrapping_sub(end) > u64::MAX / 2
}

/// What an entry takes up: header and payload, rounded up to a word
/// (`__bpf_ringbuf_reserve`).
fn entry_len(payload: usize) -> u64 {
    let length = payload.saturating_add(HEADER_LEN).next_multiple_of(8);
    u64::try_from(length).unwrap_or(u64::MAX)
}

const _: () = assert!(size_of::<AtomicU32>() == 4 && size_of::<AtomicU64>() == 8);

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test works with small numbers"
)]
mod tests;
