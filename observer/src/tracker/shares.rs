//! Who holds how many slots of the table, and who is evicted when it is full.
//!
//! Slots are counted by owner: a user, apart by the origin of the beats. As
//! long as there is room, a share binds nobody, and a fleet of one user may
//! fill the table. When it is full, a newcomer gets a slot of the owner that
//! is furthest above its share: first one of an agent that has stalled, then,
//! if the newcomer's owner is within its own share, the one whose last beat is
//! the longest ago. No agent of an owner within its share is evicted for
//! another owner.
//!
//! All owners' shares are equal, so the one that is furthest above its share
//! is the one with the most agents. A share is never less than a
//! [`MOST_SHARES`]th of the table: whoever can take on many user ids, as the
//! owner of a range of subordinate ones can, must not make everybody's share
//! as small as they like and so drive their agents out. The price is that more
//! owners than that can fill the table with nobody above the share; then
//! stalled agents are evicted as if there were no shares.
//!
//! Each operation takes constant time, or grows with the logarithm of the
//! number of owners where an agent comes, goes, or falls silent.

use std::collections::{BTreeSet, HashMap};

use observer_events::agents::{Division, LargestOwner, Owner};

use crate::index_list::{Links, List};

/// Into how many shares the table is divided at most.
pub(super) const MOST_SHARES: usize = 16;

/// The links of agents: one lane for the lists of all of them, and one for
/// those of each owner.
pub(super) type AgentLinks = Links<2>;

/// Which of them is the owners'.
const LANE: usize = 1;

/// The owners of the agents in a table.
#[derive(Debug)]
pub(super) struct Shares {
    /// Slots of the table.
    places: usize,
    /// The owner of each agent, as an index of `holdings`.
    owner_of: Vec<u32>,
    holdings: Vec<Holding>,
    /// Places in `holdings` to be used again.
    free: Vec<u32>,
    index: HashMap<Owner, u32>,
    /// The owners that hold a slot, by how many.
    by_size: BTreeSet<Rank>,
    /// Those of them with an agent that has stalled.
    with_silent: BTreeSet<Rank>,
}

/// What an owner holds.
#[derive(Debug)]
struct Holding {
    owner: Owner,
    agents: u32,
    /// By last sign of life, the longest ago first.
    live: List,
    /// By when the stall was reported, the longest ago first.
    silent: List,
}

/// An owner's place in an order by size: how many agents, who, and where its
/// holding is.
type Rank = (u32, Owner, u32);

/// Its places in the two orders.
struct Ranks {
    by_size: Option<Rank>,
    with_silent: Option<Rank>,
}

impl Shares {
    pub(super) fn new(places: usize) -> Self {
        Self {
            places,
            owner_of: Vec::new(),
            holdings: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            by_size: BTreeSet::new(),
            with_silent: BTreeSet::new(),
        }
    }

    /// How the slots are divided now.
    pub(super) fn division(&self) -> Division {
        let owners = self.by_size.len();
        let largest = self.by_size.last();
        Division {
            owners: owners as u64,
            share: u64::from(self.share(owners)),
            largest: largest.map(|&(agents, owner, _)| LargestOwner {
                owner,
                agents: u64::from(agents),
            }),
        }
    }

    /// The agent that is evicted for a new one of this owner in a full table;
    /// `None`: no agent is.
    pub(super) fn who_yields_to(&self, newcomer: Owner) -> Option<u32> {
        let own = self.index.get(&newcomer).and_then(|&at| self.holding(at));
        let owners = self.by_size.len().saturating_add(own.is_none().into());
        let share = self.share(owners);
        let is_within = own.is_none_or(|own| own.agents < share);
        let above = |&(agents, ..): &Rank| agents > share;
        let silent = |rank: &Rank| self.of_rank(rank)?.silent.front();
        let live = |rank: &Rank| self.of_rank(rank)?.live.front();
        let (largest, largest_silent) = (self.by_size.last(), self.with_silent.last());
        largest_silent
            .filter(|rank| above(rank))
            .and_then(silent)
            .or_else(|| own?.silent.front())
            .or_else(|| {
                largest
                    .filter(|rank| is_within && above(rank))
                    .and_then(live)
            })
            // Only where there are more owners than shares.
            .or_else(|| largest_silent.filter(|_| is_within).and_then(silent))
    }

    /// An agent gets a slot.
    pub(super) fn enter(&mut self, links: &mut AgentLinks, agent: u32, owner: Owner) {
        let Some(at) = self.holding_of(owner) else {
            return;
        };
        let place = agent as usize;
        if self.owner_of.len() <= place {
            self.owner_of.resize(place.saturating_add(1), at);
        }
        if let Some(place) = self.owner_of.get_mut(place) {
            *place = at;
        }
        self.change(links, agent, |holding, links| {
            holding.agents = holding.agents.saturating_add(1);
            holding.live.push_back(links, agent);
        });
    }

    /// A live agent beats.
    pub(super) fn beat(&mut self, links: &mut AgentLinks, agent: u32) {
        let Self {
            owner_of, holdings, ..
        } = self;
        let at = owner_of.get(agent as usize);
        if let Some(holding) = at.and_then(|&at| holdings.get_mut(at as usize)) {
            holding.live.move_to_back(links, agent);
        }
    }

    /// A live agent falls silent.
    pub(super) fn fall_silent(&mut self, links: &mut AgentLinks, agent: u32) {
        self.change(links, agent, |holding, links| {
            holding.live.remove(links, agent);
            holding.silent.push_back(links, agent);
        });
    }

    /// A silent agent beats.
    pub(super) fn revive(&mut self, links: &mut AgentLinks, agent: u32) {
        self.change(links, agent, |holding, links| {
            holding.silent.remove(links, agent);
            holding.live.push_back(links, agent);
        });
    }

    /// An agent gives its slot back.
    pub(super) fn leave(&mut self, links: &mut AgentLinks, agent: u32, is_silent: bool) {
        self.change(links, agent, |holding, links| {
            holding.agents = holding.agents.saturating_sub(1);
            let list = if is_silent {
                &mut holding.silent
            } else {
                &mut holding.live
            };
            list.remove(links, agent);
        });
    }

    /// Changes what an agent's owner holds, and where that puts the owner.
    fn change(
        &mut self,
        links: &mut AgentLinks,
        agent: u32,
        change: impl FnOnce(&mut Holding, &mut AgentLinks),
    ) {
        let Some(&at) = self.owner_of.get(agent as usize) else {
            return;
        };
        let Some(holding) = self.holdings.get_mut(at as usize) else {
            return;
        };
        let before = holding.ranks(at);
        change(holding, links);
        let (owner, after) = (holding.owner, holding.ranks(at));
        move_in(&mut self.by_size, before.by_size, after.by_size);
        move_in(&mut self.with_silent, before.with_silent, after.with_silent);
        if after.by_size.is_none() {
            self.index.remove(&owner);
            self.free.push(at);
        }
    }

    /// Where an owner's holding is, or is to be. It gets an agent next.
    fn holding_of(&mut self, owner: Owner) -> Option<u32> {
        if let Some(&at) = self.index.get(&owner) {
            return Some(at);
        }
        let holding = Holding {
            owner,
            agents: 0,
            live: List::in_lane(LANE),
            silent: List::in_lane(LANE),
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => u32::try_from(self.holdings.len()).ok()?,
        };
        match self.holdings.get_mut(at as usize) {
            Some(free) => *free = holding,
            None => self.holdings.push(holding),
        }
        self.index.insert(owner, at);
        Some(at)
    }

    fn holding(&self, at: u32) -> Option<&Holding> {
        self.holdings.get(at as usize)
    }

    fn of_rank(&self, &(_, _, at): &Rank) -> Option<&Holding> {
        self.holding(at)
    }

    /// The share of each of so many owners.
    fn share(&self, owners: usize) -> u32 {
        let shares = owners.clamp(1, MOST_SHARES);
        let share = self.places.checked_div(shares).unwrap_or_default();
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }
}

impl Holding {
    fn ranks(&self, at: u32) -> Ranks {
        let rank = (self.agents, self.owner, at);
        Ranks {
            by_size: (self.agents > 0).then_some(rank),
            with_silent: self.silent.front().map(|_| rank),
        }
    }
}

fn move_in(order: &mut BTreeSet<Rank>, before: Option<Rank>, after: Option<Rank>) {
    if before == after {
        return;
    }
    if let Some(before) = before {
        order.remove(&before);
    }
    order.extend(after);
}
