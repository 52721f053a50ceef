//! What the ring holds: records that datagrams are joined with, datagrams that
//! the program took off the socket, and whom it dropped datagrams of.

use std::os::fd::{AsFd as _, BorrowedFd};

use observer_common::{
    budget::{Budget, BudgetKey},
    frame::FRAME_LEN,
    record::{Fate, Limit, Record},
};
use observer_events::event::Attestation;

use super::{Attestor, window::Window};

/// A datagram that the program took off the socket, and who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) frame: [u8; FRAME_LEN],
    pub(crate) sender: Attestation,
}

/// Why the program does not let datagrams in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// Their sender sends more than it may.
    Flood,
    /// Descriptors are attached to them.
    Descriptors,
}

/// How many datagrams of a sender the program has not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) count: u64,
    /// Since when it says so, nanoseconds of `CLOCK_MONOTONIC`: records that it
    /// wrote until then tell of no more.
    pub(crate) told_ns: u64,
}

/// A sender whose datagrams the program does not let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throttled {
    /// Whose budget it is.
    pub(crate) payer: BudgetKey,
    /// Why.
    pub(crate) reason: Reason,
    /// What it was too much for, if it was a flood.
    pub(crate) limit: Limit,
    /// How many datagrams that were so far.
    pub(crate) dropped: Dropped,
    /// The last of them; zeros if it was no frame by its length.
    pub(crate) frame: [u8; FRAME_LEN],
    /// Who sent that.
    pub(crate) sender: Attestation,
}

/// How many taken datagrams are handed on at a time: what was read last is
/// still in the cache when it is judged.
const MOST_TAKEN: usize = 256;

impl Attestor {
    /// Reads the records of all datagrams received so far; returns how many
    /// there were. With `is_fresh` all that is in the ring now is read, else
    /// what was in it when it was last looked at so.
    ///
    /// Where the ring delivers datagrams, and has some go by the socket when
    /// it fills up, no sender's datagram may overtake its one before. So a
    /// [`Window`] of the ring is read to its end before the next is looked at,
    /// and in it one sort of record at a time: see [`Window::may_take`] for a
    /// datagram that was taken after its sender's one before went to the
    /// socket. One that went to the socket after others were taken waits for
    /// its record ([`Finding::Pending`]) until those have been judged.
    pub(crate) fn absorb(&mut self, now: u64, is_fresh: bool) -> u64 {
        let is_done = self.is_read_to_mark();
        let Self {
            kernel,
            join,
            window,
            taken,
            throttled,
            is_ordered,
            others,
            ..
        } = self;
        let Some(kernel) = kernel else {
            // There is no ring, and so nothing in it.
            self.read_as_of = now;
            return 0;
        };
        #[cfg(feature = "ebpf-log")]
        kernel.debug_log.pass_on();
        let is_renewed = is_fresh && (is_done || !*is_ordered);
        let mut view = window.filter(|_| !is_renewed);
        let view = view.get_or_insert_with(|| Window::new(kernel.ring.mark(), now));
        kernel.ring.begin_look();
        let mut records = 0_u64;
        loop {
            let is_full = *is_ordered && taken.len() >= MOST_TAKEN;
            let may_take = !*is_ordered || view.may_take(join);
            let may_pass = !*is_ordered || taken.is_empty();
            let wanted = |record: &Record| match Fate::try_from(record.fate) {
                Ok(Fate::Taken) => !is_full && may_take,
                Ok(Fate::Passed) => may_pass,
                Ok(Fate::Throttled | Fate::Descriptors | Fate::Away) | Err(_) => true,
            };
            let Some(record) = kernel.ring.next(view.mark, wanted) else {
                break;
            };
            records = records.saturating_add(1);
            match Fate::try_from(record.fate) {
                Ok(Fate::Passed) => join.record(&record, now),
                Ok(Fate::Taken) => taken.push_back(record),
                Ok(Fate::Throttled | Fate::Descriptors) => throttled.push_back(record),
                Ok(Fate::Away) | Err(_) => kernel.ring.note_malformed(),
            }
        }
        kernel.ring.release();
        records = records.saturating_add(others.absorb(&mut kernel.others, now));
        *window = Some(*view);
        if self.is_read_to_mark() {
            self.read_as_of = view.at;
        }
        records
    }

    /// Takes down a receive from the socket: how many datagrams it gave, of a
    /// queue that never holds more than `limit`.
    pub(crate) fn note_received(&mut self, received: usize, limit: usize) {
        if let Some(window) = &mut self.window {
            window.note_received(received, limit);
        }
    }

    /// Whether what the ring delivers is to be judged before anything else is
    /// received from the socket: it was sent before.
    pub(crate) fn is_ring_first(&mut self) -> bool {
        !self.taken.is_empty() && self.is_ordered || self.next_is_taken() == Some(true)
    }

    /// Whether the socket is to be received from before the ring is read.
    pub(crate) fn is_socket_first(&mut self) -> bool {
        self.next_is_taken() == Some(false)
    }

    /// Whether the next record, if it is a delivery, may be read; `None` if it
    /// is no delivery.
    fn next_is_taken(&mut self) -> Option<bool> {
        let (kernel, window) = (self.kernel.as_mut()?, self.window?);
        if !self.is_ordered {
            return None;
        }
        let mut is_delivery = false;
        kernel.ring.next(window.mark, |record| {
            is_delivery = record.fate == Fate::Taken as u8;
            false
        });
        is_delivery.then(|| window.may_take(&self.join))
    }

    /// Whether all that the ring held when it was last looked at has been
    /// read.
    pub(crate) fn is_read_to_mark(&self) -> bool {
        match (&self.kernel, &self.window) {
            (Some(kernel), Some(window)) => kernel.ring.is_read_up_to(window.mark),
            _ => true,
        }
    }

    /// All that the ring held at this moment, in attended nanoseconds, has
    /// been read.
    pub(crate) fn read_as_of(&self) -> u64 {
        self.read_as_of
    }

    /// How many datagrams wait here that the program took off the socket.
    pub(crate) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// The next datagram that the program took off the socket.
    pub(crate) fn next_taken(&mut self) -> Option<Taken> {
        let record = self.taken.pop_front()?;
        Some(Taken {
            frame: record.frame,
            sender: self.attestation(&record, None),
        })
    }

    /// When the oldest datagram was sent that waits in the ring, nanoseconds of
    /// `CLOCK_MONOTONIC`. One that was passed while it was being written does
    /// not count: it was its sender that was away.
    pub(crate) fn oldest_taken_ns(&self) -> Option<u64> {
        let record = self.kernel.as_ref()?.ring.peek()?;
        (record.fate == Fate::Taken as u8).then_some(record.time_ns)
    }

    /// The next sender whose datagrams the program did not let in.
    pub(crate) fn next_throttled(&mut self) -> Option<Throttled> {
        let record = self.throttled.pop_front()?;
        Some(Throttled {
            payer: BudgetKey {
                start_ns: record.start_ns,
                host_pid: record.host_pid,
                task_kind: record.task_kind.into(),
            },
            reason: if record.fate == Fate::Descriptors as u8 {
                Reason::Descriptors
            } else {
                Reason::Flood
            },
            limit: Limit::try_from(record.limit).unwrap_or(Limit::Process),
            dropped: Dropped {
                count: record.dropped,
                told_ns: record.time_ns,
            },
            frame: record.frame,
            sender: self.attestation(&record, None),
        })
    }

    /// Says to the program that a process is an agent.
    pub(super) fn vouch(&mut self, sender: &Attestation) {
        let Some((kernel, host_pid)) = self.kernel.as_mut().zip(sender.host_pid) else {
            return;
        };
        kernel.vouch(BudgetKey {
            start_ns: sender.start_ns.unwrap_or_default(),
            host_pid,
            task_kind: sender.task_kind as u32,
        });
    }

    /// How many datagrams of a sender the program has not let in by now; `None`
    /// if nobody knows any more.
    pub(crate) fn dropped(&self, payer: BudgetKey, reason: Reason) -> Option<Dropped> {
        let budget: Budget = self.kernel.as_ref()?.budget(payer)?;
        let (count, told_ns) = match reason {
            Reason::Flood => (budget.dropped, budget.reported_ns),
            Reason::Descriptors => (budget.with_descriptors, budget.descriptors_reported_ns),
        };
        Some(Dropped { count, told_ns })
    }

    /// What is readable once the program wakes the observer. Without a program
    /// there is nothing to wait for.
    pub(crate) fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        self.kernel.as_ref().map(|kernel| kernel.ring.as_fd())
    }

    /// Asks the program not to wake the observer: the ring will be looked at
    /// anyway.
    pub(crate) fn disarm_wakeup(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.wakeup.disarm();
        }
    }

    /// Whether a record is still being written that others were read past. The
    /// kernel calls the ring readable then, so that it cannot be waited for by
    /// `poll`. When the record is there it announces itself as every other
    /// does.
    pub(crate) fn has_busy(&self) -> bool {
        self.kernel
            .as_ref()
            .is_some_and(|kernel| kernel.ring.has_busy())
    }

    /// Asks the program to wake the observer for the next datagram that it takes;
    /// false if there is something to be read, and it is not asked.
    pub(crate) fn arm_wakeup(&self) -> bool {
        let Some(kernel) = &self.kernel else {
            return true;
        };
        kernel.wakeup.arm();
        let is_quiet = self.taken.is_empty() && kernel.ring.is_quiet();
        if !is_quiet {
            kernel.wakeup.disarm();
        }
        is_quiet
    }
}
