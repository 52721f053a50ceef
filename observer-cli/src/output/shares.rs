//! The shares of an output's queue: how much of it each kind of text, and each
//! sender, may fill.
//!
//! What senders can cause much of must not crowd out what the operator has to
//! see. So beats and incidents have a part of the queue each; stalls may use
//! the part of the beats, and have a reserve besides. In what is left of its
//! part, a sender may add no more than it leaves to others: one user gets half
//! of the part at most, one process a third, and there is always some left for
//! one more.

use std::collections::HashMap;

use observer_events::agents::Owner;
use observer_events::event::Attestation;

/// What a text is about, and so which part of the queue it may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Something that anyone can cause much of.
    Common,
    /// A forgery, refusal or conflict that this sender caused.
    Incident(Sender),
    /// A stall of this owner's agent. An owner can cause many of these, too,
    /// by processes that beat once.
    Stall(Owner),
    /// A line about the observer itself.
    Own,
}

/// Who caused an incident, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    process: Option<(u32, Option<u64>)>,
    uid: Option<u32>,
}

impl Sender {
    pub(crate) fn of(sender: Option<&Attestation>) -> Self {
        let pid = sender.and_then(|sender| sender.host_pid.or(sender.pid));
        let start_ns = sender.and_then(|sender| sender.start_ns);
        Self {
            process: pid.map(|pid| (pid, start_ns)),
            uid: sender.and_then(|sender| sender.uid),
        }
    }
}

/// The parts of a queue, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// For what is common; stalls may fill it too.
    pub(crate) common: usize,
    /// For incidents alone.
    pub(crate) incidents: usize,
    /// For stalls and lines about the observer itself alone.
    pub(crate) reserve: usize,
}

/// How much of the queue is in use, and by whom.
#[derive(Debug)]
pub(super) struct Shares {
    plan: Plan,
    usage: Usage,
    accounts: HashMap<Account, usize>,
}

/// Bytes in each part.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    common: usize,
    incidents: usize,
    /// Stalls, and lines about the observer itself.
    vital: usize,
}

/// Whose bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    Process(Option<(u32, Option<u64>)>),
    User(Option<u32>),
    Owner(Owner),
}

/// The bytes of some texts, to be subtracted again once they are written.
#[derive(Debug, Default)]
pub(super) struct Charges {
    usage: Usage,
    accounts: Vec<(Account, usize)>,
}

impl Shares {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            usage: Usage::default(),
            accounts: HashMap::new(),
        }
    }

    /// Adds so many bytes, for which there is room.
    pub(super) fn charge(&mut self, bytes: usize, rank: Rank, charges: &mut Charges) {
        self.usage.add(bytes, rank);
        charges.usage.add(bytes, rank);
        for account in accounts(rank).into_iter().flatten() {
            let used = self.accounts.entry(account).or_default();
            *used = used.saturating_add(bytes);
            charges.accounts.push((account, bytes));
        }
    }

    /// Subtracts bytes that were written.
    pub(super) fn release(&mut self, charges: &mut Charges) {
        self.usage.subtract(charges.usage);
        charges.usage = Usage::default();
        for (account, bytes) in charges.accounts.drain(..) {
            let used = self.accounts.entry(account).or_default();
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    /// Whether there is room for so many bytes more.
    pub(super) fn has_room(&self, bytes: usize, rank: Rank) -> bool {
        let Self { plan, usage, .. } = self;
        let beside_incidents = usage.common.saturating_add(usage.vital);
        let left = |part: usize, used: usize| part.checked_sub(used.saturating_add(bytes));
        let left_in_common = left(plan.common, beside_incidents);
        let left_in_reserve = left(plan.common.saturating_add(plan.reserve), beside_incidents);
        match rank {
            Rank::Common => left_in_common.is_some(),
            Rank::Own => left_in_reserve.is_some(),
            Rank::Stall(owner) => {
                let used = self.used(Account::Owner(owner));
                left_in_common.is_some() || left_in_reserve.is_some_and(|left| used <= left)
            }
            Rank::Incident(Sender { process, uid }) => {
                let of_process = self.used(Account::Process(process));
                let of_user = self.used(Account::User(uid));
                left(plan.incidents, usage.incidents)
                    .is_some_and(|left| of_user <= left && of_process <= left / 2)
            }
        }
    }

    fn used(&self, account: Account) -> usize {
        self.accounts.get(&account).copied().unwrap_or_default()
    }
}

impl Usage {
    fn add(&mut self, bytes: usize, rank: Rank) {
        let part = match rank {
            Rank::Common => &mut self.common,
            Rank::Incident(_) => &mut self.incidents,
            Rank::Stall(_) | Rank::Own => &mut self.vital,
        };
        *part = part.saturating_add(bytes);
    }

    fn subtract(&mut self, other: Self) {
        let Self {
            common,
            incidents,
            vital,
        } = self;
        *common = common.saturating_sub(other.common);
        *incidents = incidents.saturating_sub(other.incidents);
        *vital = vital.saturating_sub(other.vital);
    }
}

fn accounts(rank: Rank) -> [Option<Account>; 2] {
    match rank {
        Rank::Common | Rank::Own => [None, None],
        Rank::Stall(owner) => [Some(Account::Owner(owner)), None],
        Rank::Incident(Sender { process, uid }) => {
            [Some(Account::Process(process)), Some(Account::User(uid))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use observer_events::event::BeatOrigin;

    /// Bytes of a text.
    const TEXT: usize = 10;

    const PLAN: Plan = Plan {
        common: 1000,
        incidents: 1200,
        reserve: 800,
    };

    fn stall(uid: u32) -> Rank {
        Rank::Stall(Owner {
            origin: BeatOrigin::KernelAttested,
            uid: Some(uid),
        })
    }

    fn incident(pid: u32, uid: u32) -> Rank {
        Rank::Incident(Sender {
            process: Some((pid, Some(1))),
            uid: Some(uid),
        })
    }

    struct Filled {
        shares: Shares,
        charges: Charges,
    }

    impl Filled {
        fn new() -> Self {
            Self {
                shares: Shares::new(PLAN),
                charges: Charges::default(),
            }
        }

        /// Fills the room that there is for texts of a rank; returns the
        /// bytes.
        fn fill(&mut self, rank: Rank) -> usize {
            let mut texts = 0_usize;
            while self.shares.has_room(TEXT, rank) {
                self.shares.charge(TEXT, rank, &mut self.charges);
                texts = texts.saturating_add(1);
            }
            texts.saturating_mul(TEXT)
        }
    }

    #[test]
    fn each_has_a_part_that_the_others_cannot_fill() {
        let mut queue = Filled::new();
        assert_eq!(queue.fill(Rank::Common), 1000);
        assert_eq!(queue.fill(incident(1, 1)), 400);
        assert_eq!(queue.fill(stall(1)), 400);
        assert_eq!(queue.fill(Rank::Own), 400);
        assert_eq!(queue.fill(Rank::Common), 0);
        assert_eq!(queue.fill(stall(2)), 0);
        assert!(queue.fill(incident(2, 2)) > 0);
    }

    #[test]
    fn stalls_use_the_room_that_beats_leave() {
        let mut queue = Filled::new();
        assert_eq!(queue.fill(stall(1)), 1000);
        assert_eq!(queue.fill(Rank::Common), 0);
        assert_eq!(queue.fill(stall(2)), 400);
    }

    #[test]
    fn one_more_user_always_finds_some_room() {
        let mut queue = Filled::new();
        queue.fill(Rank::Common);
        for uid in 1..=5 {
            assert!(queue.fill(stall(uid)) >= TEXT, "{uid}");
            assert_eq!(queue.fill(stall(uid)), 0);
            assert!(queue.fill(incident(uid, uid)) >= TEXT, "{uid}");
            assert_eq!(queue.fill(incident(uid, uid)), 0);
        }
    }

    /// A user who forks has more processes, and one share all the same.
    #[test]
    fn many_processes_of_one_user_leave_room_to_others() {
        let mut queue = Filled::new();
        let by_user: usize = (0..50).map(|pid| queue.fill(incident(pid, 1))).sum();
        assert!((400..=600).contains(&by_user), "{by_user}");
        assert!(queue.fill(incident(100, 2)) >= 200);
    }

    #[test]
    fn what_is_written_makes_room() {
        let mut queue = Filled::new();
        for rank in [Rank::Common, stall(1), incident(1, 1), Rank::Own] {
            assert!(queue.fill(rank) > 0);
        }
        queue.shares.release(&mut queue.charges);
        assert!(queue.shares.accounts.is_empty());
        assert_eq!(queue.fill(Rank::Common), 1000);
        assert_eq!(queue.fill(incident(1, 1)), 400);
    }
}
