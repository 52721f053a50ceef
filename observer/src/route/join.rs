//! Joins records with datagrams by content.
//!
//! Ring order is not queue order: two senders may write their records in one
//! order and queue their datagrams in the other. So a datagram is looked up
//! by its bytes, and each record serves one datagram.
//!
//! A record is an attempt. One without a datagram (the queue was full, or the
//! kernel ran the filter again after a blocking wait, as it does up to 6.13)
//! is kept for a while, then counted and forgotten; it never becomes a beat.

mod shares;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashTable;
use observer_common::frame::FRAME_LEN;
use observer_common::record::Record;

use crate::index_list::{Links, List};

/// How long a record waits for its datagram, in attended nanoseconds of which
/// all input has been read, from the last attempt to send the same bytes.
///
/// The datagram of a successful send waits in the queue, or in a sender that
/// is blocked on a full one; once the queue was empty that sender's turn comes
/// within a few receives. 2 s is far beyond that.
pub(crate) const RECORD_LIFETIME_NS: u64 = 2_000_000_000;

/// How many records wait at most, 2.5 MiB of them: more than the default ring
/// holds. Beyond that the senders with the most yield their oldest.
///
/// A send that waits for room in the queue may succeed long after its record
/// was read, so its age is no ground: what others send displaces it only where
/// its own process, or its user, has more waiting than they.
pub(super) const MAX_WAITING: usize = 16_384;

/// How many stay when there are too many.
const KEPT: usize = MAX_WAITING / 4 * 3;

/// How many tasks' records of the same bytes are told apart. Frames carry a
/// nanosecond timestamp and a nonce: equal bytes of two tasks are a replay or
/// a fault, and a sender must not make look-ups long by making many.
pub(super) const MAX_RIVALS: usize = 8;

/// Records that wait for their datagrams.
pub struct Join {
    waiting: Vec<Waiting>,
    vacant: Vec<u32>,
    /// Finds the oldest record of some bytes; the others of the same bytes
    /// hang on it. `SipHash` with a random key: senders choose the bytes, and
    /// must not be able to choose the bucket.
    index: HashTable<u32>,
    hasher: RandomState,
    /// Those of which it is not known yet whether their datagrams were sent, the
    /// oldest first.
    fresh: List,
    /// Those whose datagrams did not come though all that had been sent was
    /// read, the oldest first: older than the fresh ones.
    missed: List,
    links: Links,
    counts: JoinCounts,
}

/// What became of the records that no datagram took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinCounts {
    /// No datagram came within [`RECORD_LIFETIME_NS`]: attempts that failed.
    pub expired: u64,
    /// Forgotten early because [`MAX_WAITING`] or [`MAX_RIVALS`] was reached.
    pub displaced: u64,
}

/// What a datagram itself says of its sender: enough to choose among records
/// of the same bytes, never enough to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The pid in `SCM_CREDENTIALS`.
    Pid(u32),
    /// The source address, which translation (NAT) may have changed after the
    /// record was written, and the mark that the datagram came with.
    Source {
        /// Address and port.
        address: SocketAddr,
        /// 0: none.
        token: u32,
    },
}

/// What records may serve a datagram whose hint fits none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The oldest.
    Oldest,
    /// None at all. And of several whose hint fits the latest serves: one that
    /// was written before its port changed hands is of a datagram that never
    /// came.
    None,
}

impl Hint {
    fn fits(self, record: &Record) -> bool {
        match self {
            Self::Pid(pid) => record.pid == pid,
            Self::Source { address, token } => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                record.source_port == address.port()
                    && record.source_address == ip.octets()
                    && (record.token == 0 || record.token == token)
            }
        }
    }
}

/// Attempts of one task to send the same bytes.
struct Waiting {
    record: Record,
    /// Hash of the bytes, as the index has it.
    hash: u64,
    /// How many attempts: each serves one datagram.
    attempts: u32,
    /// When the last was read from the ring, in attended nanoseconds.
    since: u64,
    /// It is among the missed.
    is_missed: bool,
    /// The next task's record of the same bytes.
    rival: Option<u32>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("waiting", &self.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Default for Join {
    fn default() -> Self {
        Self::new()
    }
}

impl Join {
    /// An empty join.
    #[must_use]
    pub fn new() -> Self {
        Self {
            waiting: Vec::new(),
            vacant: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            fresh: List::default(),
            missed: List::default(),
            links: Links::default(),
            counts: JoinCounts::default(),
        }
    }

    /// How many records wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len().saturating_sub(self.vacant.len())
    }

    /// Whether no record waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of the records that no datagram took.
    #[must_use]
    pub fn counts(&self) -> JoinCounts {
        self.counts
    }

    /// Takes in a record. `now` is in attended nanoseconds and never falls.
    pub fn record(&mut self, record: &Record, now: u64) {
        let hash = self.hasher.hash_one(record.frame);
        let oldest = self.find(hash, &record.frame);
        if let Some(same) = oldest.and_then(|oldest| self.find_task(oldest, record)) {
            self.repeat(same, now);
            return;
        }
        self.make_room(oldest);
        self.insert(hash, record, now);
    }

    /// Finds who sent a datagram, and uses the attempt up.
    ///
    /// Of several tasks that sent the same bytes, the one that the hint fits
    /// is taken. Where none does the oldest may do: with equal bytes the
    /// outcome of both datagrams together is the same either way.
    pub fn claim(
        &mut self,
        frame: &[u8; FRAME_LEN],
        hint: Option<Hint>,
        otherwise: Otherwise,
    ) -> Option<Record> {
        let oldest = self.find(self.hasher.hash_one(frame), frame)?;
        let chosen = self.choose(oldest, hint, otherwise)?;
        let entry = self.waiting.get_mut(chosen as usize)?;
        let record = entry.record;
        entry.attempts = entry.attempts.saturating_sub(1);
        if entry.attempts == 0 {
            self.remove(chosen);
        }
        Some(record)
    }

    fn choose(&self, oldest: u32, hint: Option<Hint>, otherwise: Otherwise) -> Option<u32> {
        let mut fitting = self.chain(oldest).filter(|&index| {
            self.get(index)
                .zip(hint)
                .is_some_and(|(entry, hint)| hint.fits(&entry.record))
        });
        match otherwise {
            Otherwise::Oldest => Some(fitting.next().unwrap_or(oldest)),
            Otherwise::None => fitting.last(),
        }
    }

    /// Forgets the records that were read more than [`RECORD_LIFETIME_NS`]
    /// before a moment; all that was sent until then has been received.
    pub fn expire(&mut self, read_as_of: u64) {
        while let Some(oldest) = self.missed.front().or_else(|| self.fresh.front())
            && let Some(entry) = self.get(oldest)
            && read_as_of.saturating_sub(entry.since) > RECORD_LIFETIME_NS
        {
            self.counts.expired = self
                .counts
                .expired
                .saturating_add(u64::from(entry.attempts));
            self.remove(oldest);
        }
    }

    /// The next record whose datagram has not come, though all was received that
    /// had been sent at a moment after it was read: the send failed, or waits for
    /// room. Each attempt is given out once.
    pub(crate) fn next_missed(&mut self, read_as_of: u64) -> Option<Record> {
        let index = self.fresh.front()?;
        let entry = self.waiting.get_mut(index as usize)?;
        if entry.since >= read_as_of {
            return None;
        }
        entry.is_missed = true;
        let record = entry.record;
        self.fresh.remove(&mut self.links, index);
        self.missed.push_back(&mut self.links, index);
        Some(record)
    }

    /// When the oldest record was read of which it is not known whether its
    /// datagram was sent, attended nanoseconds.
    pub(crate) fn fresh_since(&self) -> Option<u64> {
        Some(self.get(self.fresh.front()?)?.since)
    }

    /// Whether the latest record was read at this moment.
    pub(crate) fn has_read_at(&self, now: u64) -> bool {
        let latest = self.fresh.backward(&self.links).next();
        let latest = latest.and_then(|index| self.get(index));
        latest.is_some_and(|entry| entry.since == now)
    }

    fn get(&self, index: u32) -> Option<&Waiting> {
        self.waiting.get(index as usize)
    }

    /// The oldest record of these bytes.
    fn find(&self, hash: u64, frame: &[u8; FRAME_LEN]) -> Option<u32> {
        self.index
            .find(hash, |&index| {
                self.get(index)
                    .is_some_and(|entry| entry.record.frame == *frame)
            })
            .copied()
    }

    /// The records of the same bytes, oldest first.
    fn chain(&self, oldest: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(oldest), |&index| self.get(index)?.rival)
    }

    /// The entry among the rivals that the same task wrote of the same socket.
    fn find_task(&self, oldest: u32, record: &Record) -> Option<u32> {
        self.chain(oldest).find(|&index| {
            self.get(index)
                .is_some_and(|entry| is_repeated(&entry.record, record))
        })
    }

    /// One more attempt, which is as young as any: the earlier ones must not
    /// take it with them when their time is up.
    fn repeat(&mut self, index: u32, now: u64) {
        if let Some(entry) = self.waiting.get_mut(index as usize) {
            entry.attempts = entry.attempts.saturating_add(1);
            entry.since = now;
            let was_missed = std::mem::take(&mut entry.is_missed);
            self.detach(index, was_missed);
            self.fresh.push_back(&mut self.links, index);
        }
    }

    /// Keeps both bounds: the oldest of too many rivals goes, or what is
    /// beyond its sender's share of too many records.
    fn make_room(&mut self, oldest_rival: Option<u32>) {
        let crowded = oldest_rival.filter(|&oldest| self.chain(oldest).count() >= MAX_RIVALS);
        if let Some(victim) = crowded {
            self.displace(victim);
        } else if self.len() >= MAX_WAITING {
            let missed = self.missed.forward(&self.links);
            let waiting = missed.chain(self.fresh.forward(&self.links));
            let waiting: Vec<_> = waiting
                .filter_map(|index| Some((index, &self.get(index)?.record)))
                .collect();
            for victim in shares::displaced(&waiting, KEPT) {
                self.displace(victim);
            }
        }
    }

    fn displace(&mut self, index: u32) {
        self.counts.displaced = self.counts.displaced.saturating_add(1);
        self.remove(index);
    }

    fn insert(&mut self, hash: u64, record: &Record, now: u64) {
        let rivals = self.find(hash, &record.frame);
        let stored = self.store(Waiting {
            record: *record,
            hash,
            attempts: 1,
            since: now,
            is_missed: false,
            rival: None,
        });
        let Some(index) = stored else {
            return;
        };
        self.fresh.push_back(&mut self.links, index);
        match rivals.and_then(|oldest| self.chain(oldest).last()) {
            Some(last) => self.set_rival(last, Some(index)),
            None => self.add_to_index(hash, index),
        }
    }

    fn store(&mut self, entry: Waiting) -> Option<u32> {
        if let Some(index) = self.vacant.pop() {
            *self.waiting.get_mut(index as usize)? = entry;
            return Some(index);
        }
        let index = u32::try_from(self.waiting.len()).ok()?;
        self.waiting.push(entry);
        Some(index)
    }

    fn remove(&mut self, index: u32) {
        let Some(&Waiting {
            ref record,
            hash,
            is_missed,
            rival,
            ..
        }) = self.get(index)
        else {
            return;
        };
        match self.find(hash, &record.frame) {
            Some(oldest) if oldest == index => self.replace_in_index(hash, index, rival),
            Some(oldest) => {
                let before = self.chain(oldest).find(|&link| {
                    self.get(link)
                        .is_some_and(|entry| entry.rival == Some(index))
                });
                if let Some(before) = before {
                    self.set_rival(before, rival);
                }
            }
            None => {}
        }
        self.detach(index, is_missed);
        self.vacant.push(index);
    }

    fn detach(&mut self, index: u32, is_missed: bool) {
        let list = if is_missed {
            &mut self.missed
        } else {
            &mut self.fresh
        };
        list.remove(&mut self.links, index);
    }

    fn set_rival(&mut self, index: u32, rival: Option<u32>) {
        if let Some(entry) = self.waiting.get_mut(index as usize) {
            entry.rival = rival;
        }
    }

    fn add_to_index(&mut self, hash: u64, index: u32) {
        let Self {
            waiting,
            index: table,
            ..
        } = self;
        table.insert_unique(hash, index, |&other| {
            waiting.get(other as usize).map_or(0, |entry| entry.hash)
        });
    }

    fn replace_in_index(&mut self, hash: u64, index: u32, successor: Option<u32>) {
        let Ok(mut found) = self.index.find_entry(hash, |&other| other == index) else {
            return;
        };
        match successor {
            Some(successor) => *found.get_mut() = successor,
            None => {
                found.remove();
            }
        }
    }
}

/// Whether two records of the same bytes are of one task that sent them in the
/// same way: one may stand for the other.
fn is_repeated(one: &Record, other: &Record) -> bool {
    let key = |record: &Record| {
        (
            (record.host_tid, record.start_ns),
            (record.source_address, record.source_port),
            (record.corked, record.token),
        )
    };
    key(one) == key(other)
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test works with small numbers"
)]
mod tests;
