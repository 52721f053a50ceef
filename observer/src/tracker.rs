//! Which agents are known, and which of them have stalled.
//!
//! A beat and a stall each take constant time, however many agents there are:
//! the live ones stand in the order of their last signs of life, so that only
//! the first can be due. Memory is bounded by the number of agents that the
//! operator allows, grows as they appear, and is not allocated for a beat of
//! an agent that is known.
//!
//! An agent is a process: a pid and the time at which the process started, so
//! that a recycled pid is a new agent. Where the start time is not attested,
//! the pid alone has to do, and stands for the youngest process of that pid.

mod attempts;
mod change;
mod given_back;
mod inspect;
#[cfg(test)]
mod model;
mod shares;
mod sighting;
mod slot;
#[cfg(test)]
mod tests;
mod unheard;

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use observer_events::agents::{Census, Owner};
use observer_events::counters::count;
use observer_events::event::{Attestation, BeatOrigin};
use observer_events::histogram::Histogram;

use crate::clock::Now;
use crate::index_list::{List, MAX_ELEMENTS};
use crate::policy::OriginPolicy;
use given_back::GivenBack;
use shares::{AgentLinks, Shares};
use slot::{Advance, Slot, known};
use unheard::Unheard;

pub(crate) use given_back::Absent;
pub use sighting::{Outcome, Sighting, Stall, TrackerCounts};
pub(crate) use sighting::{Sign, Unarrived};

/// A bounded table of agents.
pub struct Tracker {
    max_agents: usize,
    threshold_ns: u64,
    /// When the threshold last shrank, in attended time: no silence counts from
    /// before that.
    silent_from_ns: u64,
    /// Finds slots by pid. `SipHash` with a random key, since pids can be
    /// chosen: by whoever sends UDP frames, and by forking until one comes
    /// up. With a hash known beforehand, many could be made to collide.
    index: HashTable<u32>,
    hasher: RandomState,
    slots: Vec<Slot>,
    /// Who sent when the present session of a slot began. Apart from the
    /// slots, since a beat that continues a session does not need it.
    senders: Vec<Option<Attestation>>,
    links: AgentLinks,
    /// By last sign of life, the longest ago first.
    live: List,
    /// By when the stall was reported, the longest ago first.
    silent: List,
    free: List,
    /// Who holds the slots, and who is evicted.
    shares: Shares,
    /// What silences are given back.
    given_back: GivenBack,
    /// Agents that try to send, and of which nothing arrives.
    unheard: Unheard,
    /// The table was full since that was last asked, and an operator should
    /// hear of it.
    overflow: bool,
    /// That the table has filled up was reported, and is so still.
    was_full: bool,
    origin_policy: OriginPolicy,
    /// The latest attended time that was seen; a step back counts as none.
    latest_ns: u64,
    counts: TrackerCounts,
    census: Census,
    beat_gaps: Histogram,
    stall_lateness: Histogram,
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("agents", &self.known())
            .field("max_agents", &self.max_agents)
            .finish_non_exhaustive()
    }
}

impl Tracker {
    /// A tracker for so many agents at most, each of which is silent once its
    /// last sign of life is `threshold_ns` or more ago.
    #[must_use]
    pub fn new(max_agents: usize, threshold_ns: u64, origin_policy: OriginPolicy) -> Self {
        let max_agents = max_agents.min(MAX_ELEMENTS as usize);
        Self {
            max_agents,
            threshold_ns,
            silent_from_ns: 0,
            shares: Shares::new(max_agents),
            given_back: GivenBack::default(),
            unheard: Unheard::default(),
            overflow: false,
            was_full: false,
            origin_policy,
            index: HashTable::new(),
            hasher: RandomState::new(),
            slots: Vec::new(),
            senders: Vec::new(),
            links: AgentLinks::default(),
            live: List::default(),
            silent: List::default(),
            free: List::default(),
            latest_ns: 0,
            counts: TrackerCounts::default(),
            census: Census::default(),
            beat_gaps: Histogram::default(),
            stall_lateness: Histogram::default(),
        }
    }

    /// Takes a beat in. Pinned origin, pinned namespace and nonce are checked
    /// in this order.
    pub fn sight(&mut self, sighting: &Sighting, now: Now) -> Outcome {
        let now = self.advance_to(now);
        let hash = self.hasher.hash_one(sighting.pid);
        match self.slot_of(hash, sighting) {
            Some(index) => self.beat(index, sighting, now),
            None => self.enter(hash, sighting, now),
        }
    }

    /// Whether, since this was last asked, the table filled up, a newcomer
    /// found no slot, or a live agent was evicted.
    pub fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflow)
    }

    /// When the next agent will have been silent for too long if it stays so,
    /// in attended time; `None` if no agent is live. With each absence of the
    /// observer's it may come nearer.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let last = self.silent_from()?;
        Some(self.given_back.deadline(last, self.threshold_ns))
    }

    /// The observer was away until now: attended time stood still, and is not
    /// to stand still for ever.
    pub(crate) fn note_absence(&mut self, absence: &Absent, now: Now) {
        let now = self.advance_to(now);
        let oldest = self.silent_from();
        self.given_back
            .note(absence, now.attended_ns, oldest, self.threshold_ns);
    }

    /// From when on the agent's silence counts that is silent for longest, in
    /// attended time.
    fn silent_from(&self) -> Option<u64> {
        Some(self.oldest_sign()?.max(self.silent_from_ns))
    }

    /// The next agent whose deadline has come: the one silent for longest. Each
    /// stall is reported once; the next beat ends it.
    pub fn next_stall(&mut self, now: Now) -> Option<Stall> {
        let now = self.advance_to(now);
        let late = now.attended_ns.checked_sub(self.next_deadline()?)?;
        let index = self.live.front()?;
        let slot = self.slots.get_mut(index as usize)?;
        let before = slot.state();
        slot.silent = true;
        self.unheard.end(index, &mut slot.is_unheard);
        let slot = *slot;
        sighting::change(&mut self.census, Some(before), Some(slot.state()));
        self.stall_lateness.note(late);
        let sender = self.senders.get(index as usize).copied().flatten();
        self.live.remove(&mut self.links, index);
        self.silent.push_back(&mut self.links, index);
        self.shares.fall_silent(&mut self.links, index);
        if self.is_superseded(index, &slot) {
            self.forget(index);
            count(&mut self.counts.superseded);
        }
        Some(Stall {
            pid: slot.pid,
            last_nonce: slot.last_nonce,
            last_ns: slot.last.observer_ns,
            origin: slot.origin,
            pid_ns_inode: slot.pid_ns_inode.map(u64::from),
            sender,
        })
    }

    /// The moment, not before any that was seen: the order of the live slots
    /// rests on it.
    fn advance_to(&mut self, now: Now) -> Now {
        self.latest_ns = self.latest_ns.max(now.attended_ns);
        Now {
            attended_ns: self.latest_ns,
            ..now
        }
    }

    /// The slot of the sighting's agent: that very process, or the youngest
    /// of its pid where either start time is unknown. Thus a slot without a
    /// start time is the only one of its pid.
    fn slot_of(&self, hash: u64, sighting: &Sighting) -> Option<u32> {
        let start_ns = known(sighting.start_ns);
        let is_agent = |slot: &Slot| slot.pid == sighting.pid && slot.start_ns == start_ns;
        let exact = self
            .index
            .find(hash, |&index| self.slot(index).is_some_and(is_agent));
        exact.copied().or_else(|| {
            let (index, slot) = self.youngest(hash, sighting.pid)?;
            (start_ns.is_none() || slot.start_ns.is_none()).then_some(index)
        })
    }

    /// The slot of the youngest process that is known of a pid.
    fn youngest(&self, hash: u64, pid: u32) -> Option<(u32, &Slot)> {
        self.index
            .iter_hash(hash)
            .filter_map(|&index| Some((index, self.slot(index)?)))
            .filter(|(_, slot)| slot.pid == pid)
            .max_by_key(|(_, slot)| slot.start_ns)
    }

    /// A beat of an agent that has a slot.
    fn beat(&mut self, index: u32, sighting: &Sighting, now: Now) -> Outcome {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Outcome::TableFull;
        };
        if self.origin_policy == OriginPolicy::Strongest
            && sighting.origin == BeatOrigin::KernelAttested
            && slot.is_unverified()
        {
            return self.displace(index, sighting, now);
        }
        if let Some(conflict) = slot.conflict(sighting) {
            return conflict;
        }
        let Some(advance) = slot.advance(sighting) else {
            count(&mut self.counts.stale_nonces);
            return Outcome::StaleNonce;
        };
        let (was_silent, is_adopted) = (slot.silent, slot.is_adopted_by(sighting));
        let (Advance::Begins(sessions) | Advance::Continues(sessions)) = advance;
        self.unheard.end(index, &mut slot.is_unheard);
        let before = slot.state();
        let age = now.attended_ns.saturating_sub(slot.last.attended_ns);
        slot.beat(sighting, sessions, now);
        sighting::change(&mut self.census, Some(before), Some(slot.state()));
        self.beat_gaps.note(age);
        self.note_session(index, sighting, advance, is_adopted);
        if was_silent {
            self.silent.remove(&mut self.links, index);
            self.live.push_back(&mut self.links, index);
            self.shares.revive(&mut self.links, index);
        } else {
            self.live.move_to_back(&mut self.links, index);
            self.shares.beat(&mut self.links, index);
        }
        Outcome::Accepted
    }

    /// An attested agent takes its slot from a claim without proof.
    fn displace(&mut self, index: u32, sighting: &Sighting, now: Now) -> Outcome {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Outcome::TableFull;
        };
        self.unheard.end(index, &mut slot.is_unheard);
        let before = std::mem::replace(slot, Slot::new(sighting, now));
        sighting::change(&mut self.census, Some(before.state()), Some(slot.state()));
        if let Some(sender) = self.senders.get_mut(index as usize) {
            *sender = sighting.sender;
        }
        if before.silent {
            self.silent.remove(&mut self.links, index);
            self.live.push_back(&mut self.links, index);
        } else {
            self.live.move_to_back(&mut self.links, index);
        }
        self.shares.leave(&mut self.links, index, before.silent);
        self.shares.enter(&mut self.links, index, sighting.owner());
        count(&mut self.counts.displaced);
        Outcome::Displaced {
            displaced_origin: before.origin,
        }
    }

    fn note_session(&mut self, index: u32, sighting: &Sighting, advance: Advance, adopted: bool) {
        let begins = matches!(advance, Advance::Begins(_));
        if begins {
            count(&mut self.counts.new_sessions);
        }
        if (begins || adopted)
            && let Some(sender) = self.senders.get_mut(index as usize)
        {
            *sender = sighting.sender;
        }
    }

    /// The first beat of an agent.
    fn enter(&mut self, hash: u64, sighting: &Sighting, now: Now) -> Outcome {
        self.forget_predecessor(hash, sighting);
        let owner = sighting.owner();
        let Some(index) = self.make_room(owner) else {
            count(&mut self.counts.refused_full);
            self.overflow = true;
            return Outcome::TableFull;
        };
        count(&mut self.counts.new_agents);
        let slot = Slot::new(sighting, now);
        sighting::change(&mut self.census, None, Some(slot.state()));
        self.store(index, slot, sighting.sender);
        self.live.push_back(&mut self.links, index);
        self.shares.enter(&mut self.links, index, owner);
        let Self {
            slots,
            hasher,
            index: table,
            ..
        } = self;
        table.insert_unique(hash, index, |&other| {
            hasher.hash_one(slots.get(other as usize).map_or(0, |slot| slot.pid))
        });
        self.note_fullness();
        Outcome::Accepted
    }

    /// A table that fills up is reported once, until a part of it has been
    /// empty again: one of the dead that comes and goes at the brim is no news.
    fn note_fullness(&mut self) {
        let is_full = self.known() >= self.max_agents;
        let empty = self.max_agents.saturating_sub(self.known());
        if is_full && !self.was_full {
            self.overflow = true;
        }
        self.was_full = is_full || (self.was_full && empty <= self.max_agents / 8);
    }

    /// Once a younger process has the pid, the process before it is dead. Its
    /// slot stays until its stall has been reported, and no longer.
    fn forget_predecessor(&mut self, hash: u64, sighting: &Sighting) {
        let dead = self
            .youngest(hash, sighting.pid)
            .filter(|(_, slot)| slot.silent && slot.start_ns < known(sighting.start_ns))
            .map(|(index, _)| index);
        if let Some(index) = dead {
            self.forget(index);
            count(&mut self.counts.superseded);
        }
    }

    /// Whether a younger process is known by the slot's pid.
    fn is_superseded(&self, index: u32, slot: &Slot) -> bool {
        let hash = self.hasher.hash_one(slot.pid);
        self.youngest(hash, slot.pid)
            .is_some_and(|(youngest, _)| youngest != index)
    }

    /// A slot for a new agent: a free one, or else that of an agent that is
    /// evicted.
    fn make_room(&mut self, newcomer: Owner) -> Option<u32> {
        if let Some(index) = self.free.front() {
            self.free.remove(&mut self.links, index);
            return Some(index);
        }
        if self.slots.len() < self.max_agents {
            return u32::try_from(self.slots.len()).ok();
        }
        let index = self.shares.who_yields_to(newcomer)?;
        if self.slot(index)?.silent {
            count(&mut self.counts.evicted_silent);
        } else {
            count(&mut self.counts.evicted_live);
            self.overflow = true;
        }
        self.forget(index);
        self.free.remove(&mut self.links, index);
        Some(index)
    }

    /// Puts a slot where [`Self::make_room`] said: over one that is free, or
    /// behind the last.
    fn store(&mut self, index: u32, slot: Slot, sender: Option<Attestation>) {
        if let Some(free) = self.slots.get_mut(index as usize) {
            *free = slot;
        } else {
            self.slots.push(slot);
        }
        if let Some(free) = self.senders.get_mut(index as usize) {
            *free = sender;
        } else {
            self.senders.push(sender);
        }
    }

    /// Gives the place of an agent back.
    fn forget(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        self.unheard.end(index, &mut slot.is_unheard);
        let slot = *slot;
        sighting::change(&mut self.census, Some(slot.state()), None);
        let hash = self.hasher.hash_one(slot.pid);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        let list = if slot.silent {
            &mut self.silent
        } else {
            &mut self.live
        };
        list.remove(&mut self.links, index);
        self.shares.leave(&mut self.links, index, slot.silent);
        self.free.push_back(&mut self.links, index);
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }
}
