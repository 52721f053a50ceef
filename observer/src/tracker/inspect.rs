//! What others can read of a tracker.

use std::hash::BuildHasher as _;

use observer_events::agents::{Agent, Census, Division};
use observer_events::event::Attestation;
use observer_events::histogram::Histogram;

use super::{Tracker, TrackerCounts};

impl Tracker {
    /// How many agents are known, silent ones included.
    #[must_use]
    pub fn known(&self) -> usize {
        self.index.len()
    }

    /// How many can be known.
    #[must_use]
    pub fn max_agents(&self) -> usize {
        self.max_agents
    }

    /// How long an agent may be silent, nanoseconds.
    #[must_use]
    pub fn threshold_ns(&self) -> u64 {
        self.threshold_ns
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> TrackerCounts {
        self.counts
    }

    /// How many agents there are in each state.
    #[must_use]
    pub fn census(&self) -> Census {
        self.census
    }

    /// How the places are divided among those who hold them.
    #[must_use]
    pub fn division(&self) -> Division {
        self.shares.division()
    }

    /// How old the last sign of life of an agent was when its next beat came.
    #[must_use]
    pub fn beat_gaps(&self) -> &Histogram {
        &self.beat_gaps
    }

    /// How long after the threshold stalls were found.
    #[must_use]
    pub fn stall_lateness(&self) -> &Histogram {
        &self.stall_lateness
    }

    /// The live agent whose last sign of life is the longest ago, a beat or an
    /// attempt to send one: when that was, in attended nanoseconds.
    #[must_use]
    pub fn oldest_sign(&self) -> Option<u64> {
        let slot = self.slot(self.live.front()?)?;
        Some(slot.last.attended_ns)
    }

    /// Who that agent is, as far as the kernel said so, and when its last beat was
    /// received, observer time.
    pub(crate) fn longest_silent(&self) -> Option<(Attestation, u64)> {
        let index = self.live.front()?;
        let sender = self.senders.get(index as usize).copied().flatten()?;
        Some((sender, self.slot(index)?.last.observer_ns))
    }

    /// Who sent when the present session of the youngest process of a pid began.
    pub(crate) fn sender_of(&self, pid: u32) -> Option<Attestation> {
        let (index, _) = self.youngest(self.hasher.hash_one(pid), pid)?;
        self.senders.get(index as usize).copied().flatten()
    }

    /// The agents, those first that an operator has to look at: the silent,
    /// the last to fall silent first, then the others by the age of their
    /// last sign of life, the oldest first.
    pub fn agents(&self) -> impl Iterator<Item = Agent> + '_ {
        let silent = self.silent.backward(&self.links);
        let live = self.live.forward(&self.links);
        silent.chain(live).filter_map(|index| self.agent(index))
    }

    fn agent(&self, index: u32) -> Option<Agent> {
        let slot = self.slot(index)?;
        Some(Agent {
            pid: slot.pid,
            state: slot.state(),
            origin: slot.origin,
            pid_ns_inode: slot.pid_ns_inode.map(u64::from),
            last_nonce: slot.last_nonce,
            last_ns: slot.last.observer_ns,
            sender: self.senders.get(index as usize).copied().flatten(),
        })
    }
}
