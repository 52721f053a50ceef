//! What the ring of the Unix socket holds: records that datagrams are joined
//! with, datagrams that the program took off the socket, and whom it dropped
//! datagrams of.
//!
//! Where the ring delivers datagrams, and has some go by the socket when it
//! fills up, no sender's datagram may overtake its one before. So a [`Window`]
//! of the ring is read to its end before the next is looked at, and in it one
//! sort of record at a time: see [`Window::may_take`] for a datagram that was
//! taken after its sender's one before went to the socket. One that went to the
//! socket after others were taken is parked until those have been judged.

use std::collections::VecDeque;

use observer_common::record::{Fate, Record};

use super::base::Base;
use super::join::Join;
use super::window::Window;
use crate::ebpf::{LoadedProgram, Mark};
use crate::transport::Batch;

/// How many taken datagrams are handed on at a time: what was read last is
/// still in the cache when it is judged.
const MOST_TAKEN: usize = 256;

/// How far the ring has been read, and what was in it.
#[derive(Debug)]
pub(super) struct OwnRing {
    window: Option<Window>,
    read_as_of: u64,
    /// Datagrams that the program took off the socket.
    taken: VecDeque<Record>,
    /// Whether datagrams of one honest sender may come by the ring and by the
    /// socket.
    is_ordered: bool,
}

/// Where what is read goes.
pub(super) struct Readers<'a> {
    pub(super) join: &'a mut Join,
    pub(super) dropped: &'a mut VecDeque<Record>,
}

impl OwnRing {
    pub(super) fn new(is_ordered: bool) -> Self {
        Self {
            window: None,
            read_as_of: 0,
            taken: VecDeque::new(),
            is_ordered,
        }
    }

    /// Reads the records of all datagrams received so far; returns how many
    /// there were. With `is_fresh` all that is in the ring now is read, else
    /// what was in it when it was last looked at so.
    pub(super) fn read(
        &mut self,
        program: Option<&mut LoadedProgram>,
        readers: &mut Readers<'_>,
        now: u64,
        is_fresh: bool,
    ) -> u64 {
        let Some(program) = program else {
            // There is no ring, and so nothing in it.
            self.read_as_of = now;
            return 0;
        };
        #[cfg(feature = "ebpf-log")]
        program.debug_log.pass_on();
        let is_done = self.is_read_to_mark(Some(program));
        let is_renewed = is_fresh && (is_done || !self.is_ordered);
        let window = match self.window {
            Some(window) if !is_renewed => window,
            _ => Window::new(program.ring.mark(), now),
        };
        self.window = Some(window);
        let records = self.read_window(program, readers, window, now);
        if self.is_read_to_mark(Some(program)) {
            self.read_as_of = window.at;
        }
        records
    }

    fn read_window(
        &mut self,
        program: &mut LoadedProgram,
        readers: &mut Readers<'_>,
        window: Window,
        now: u64,
    ) -> u64 {
        let ring = &mut program.ring;
        ring.begin_look();
        let mut records = 0_u64;
        while let Some(record) = ring.peek(window.mark) {
            let fate = Fate::try_from(record.fate);
            if self.is_ordered && !self.may_read(fate.as_ref().ok(), window, readers.join) {
                break;
            }
            ring.advance();
            records = records.saturating_add(1);
            match fate {
                Ok(Fate::Passed) => readers.join.record(&record, now),
                Ok(Fate::Taken) => self.taken.push_back(record),
                _ if Base::take_dropped(readers.dropped, &record) => {}
                _ => ring.note_malformed(),
            }
        }
        ring.release();
        records
    }

    /// Whether a record's turn has come.
    fn may_read(&self, fate: Option<&Fate>, window: Window, join: &Join) -> bool {
        match fate {
            Some(Fate::Taken) => self.taken.len() < MOST_TAKEN && window.may_take(join),
            Some(Fate::Passed) => self.taken.is_empty(),
            _ => true,
        }
    }

    /// Notes a receive from the socket, in whose queue `limit` datagrams can
    /// wait.
    pub(super) fn note_received(&mut self, batch: Batch, limit: usize) {
        if let Some(window) = &mut self.window {
            window.note_received(batch, limit);
        }
    }

    /// Whether what the ring delivers is to be judged before anything else is
    /// received from the socket: it was sent before.
    pub(super) fn is_first(&self, program: Option<&LoadedProgram>, join: &Join) -> bool {
        self.is_ordered && !self.taken.is_empty() || self.may_deliver(program, join) == Some(true)
    }

    /// Whether the socket is to be received from before the ring is read.
    pub(super) fn is_second(&self, program: Option<&LoadedProgram>, join: &Join) -> bool {
        self.may_deliver(program, join) == Some(false)
    }

    /// Whether the next record, if it is a delivery, may be read; `None` if it
    /// is no delivery.
    fn may_deliver(&self, program: Option<&LoadedProgram>, join: &Join) -> Option<bool> {
        let (program, window) = (program?, self.window?);
        if !self.is_ordered {
            return None;
        }
        let record = program.ring.upcoming(window.mark)?;
        (record.fate == Fate::Taken as u8).then(|| window.may_take(join))
    }

    /// The place up to which the ring has to be read before it is certain that
    /// a datagram that was received now has no record.
    pub(super) fn mark(&self, program: Option<&LoadedProgram>) -> Option<Mark> {
        match program {
            // The window may be older than the datagram.
            Some(program) if self.is_ordered => Some(program.ring.mark()),
            _ => self.window.map(|window| window.mark),
        }
    }

    /// Whether all that the ring held when it was last looked at has been
    /// read.
    pub(super) fn is_read_to_mark(&self, program: Option<&LoadedProgram>) -> bool {
        match (program, self.window) {
            (Some(program), Some(window)) => program.ring.is_read_up_to(window.mark),
            _ => true,
        }
    }

    /// All that the ring held at this moment, in attended nanoseconds, has
    /// been read.
    pub(super) fn read_as_of(&self) -> u64 {
        self.read_as_of
    }

    /// How many datagrams wait here that the program took off the socket.
    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// The next datagram that the program took off the socket.
    pub(super) fn next_taken(&mut self) -> Option<Record> {
        self.taken.pop_front()
    }

    /// When the oldest datagram was sent that waits to be delivered, nanoseconds
    /// of `CLOCK_MONOTONIC`. One that was passed while it was being written does
    /// not count: it was its sender that was away.
    pub(super) fn oldest_taken_ns(&self, program: Option<&LoadedProgram>) -> Option<u64> {
        let program = program.filter(|_| self.is_ordered)?;
        let record = program.ring.oldest()?;
        (record.fate == Fate::Taken as u8).then_some(record.time_ns)
    }
}
