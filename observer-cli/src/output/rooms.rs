//! How much of a queue each kind of text may fill, and whose it is.
//!
//! What senders can cause much of must not crowd out what somebody else has to
//! see. So beats and accusations have rooms of their own; silences may use the
//! room of beats and have a reserve besides. In what is left of its room, a
//! sender may add no more than it leaves to others: half of the room to one
//! user, a third to one process, and however many there are, there is always
//! some left for one more.

use std::collections::HashMap;

use observer_events::agents::Owner;
use observer_events::event::Attestation;

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Something that anyone can send much of.
    Common,
    /// A claim that did not hold.
    Accusation(Culprit),
    /// An agent of this owner fell silent. An owner can cause many of these
    /// too: each process beats once.
    Silence(Owner),
    /// The observer's own word.
    Own,
}

/// Who is accused, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Culprit {
    process: Option<(u32, Option<u64>)>,
    uid: Option<u32>,
}

impl Culprit {
    pub(crate) fn of(sender: Option<&Attestation>) -> Self {
        let pid = sender.and_then(|sender| sender.host_pid.or(sender.pid));
        let start_ns = sender.and_then(|sender| sender.start_ns);
        Self {
            process: pid.map(|pid| (pid, start_ns)),
            uid: sender.and_then(|sender| sender.uid),
        }
    }
}

/// The rooms of a queue, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// For what is common; silences may fill it too.
    pub(crate) common: usize,
    /// For accusations alone.
    pub(crate) accusations: usize,
    /// For silences and the observer's own word alone.
    pub(crate) reserve: usize,
}

/// What is in the queue.
#[derive(Debug)]
pub(super) struct Rooms {
    plan: Plan,
    usage: Usage,
    accounts: HashMap<Account, usize>,
}

/// Bytes by room.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    common: usize,
    accusations: usize,
    /// Silences, and the observer's own word.
    vital: usize,
}

/// Whose bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Account {
    AccusedProcess(Option<(u32, Option<u64>)>),
    AccusedUser(Option<u32>),
    Silent(Owner),
}

/// The bytes of some texts, to be taken off again when they are written.
#[derive(Debug, Default)]
pub(super) struct Charges {
    usage: Usage,
    accounts: Vec<(Account, usize)>,
}

impl Rooms {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            usage: Usage::default(),
            accounts: HashMap::new(),
        }
    }

    /// Takes so many bytes in; whether there is room was asked before.
    pub(super) fn charge(&mut self, bytes: usize, rank: Rank, charges: &mut Charges) {
        self.usage.add(bytes, rank);
        charges.usage.add(bytes, rank);
        for account in accounts(rank).into_iter().flatten() {
            let used = self.accounts.entry(account).or_default();
            *used = used.saturating_add(bytes);
            charges.accounts.push((account, bytes));
        }
    }

    /// Takes bytes off that were written.
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
        let beside_accusations = usage.common.saturating_add(usage.vital);
        let left = |room: usize, used: usize| room.checked_sub(used.saturating_add(bytes));
        let left_in_common = left(plan.common, beside_accusations);
        let left_in_reserve = left(plan.common.saturating_add(plan.reserve), beside_accusations);
        match rank {
            Rank::Common => left_in_common.is_some(),
            Rank::Own => left_in_reserve.is_some(),
            Rank::Silence(owner) => {
                let used = self.used(Account::Silent(owner));
                left_in_common.is_some() || left_in_reserve.is_some_and(|left| used <= left)
            }
            Rank::Accusation(Culprit { process, uid }) => {
                let of_process = self.used(Account::AccusedProcess(process));
                let of_user = self.used(Account::AccusedUser(uid));
                left(plan.accusations, usage.accusations)
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
        let room = match rank {
            Rank::Common => &mut self.common,
            Rank::Accusation(_) => &mut self.accusations,
            Rank::Silence(_) | Rank::Own => &mut self.vital,
        };
        *room = room.saturating_add(bytes);
    }

    fn subtract(&mut self, other: Self) {
        let Self {
            common,
            accusations,
            vital,
        } = self;
        *common = common.saturating_sub(other.common);
        *accusations = accusations.saturating_sub(other.accusations);
        *vital = vital.saturating_sub(other.vital);
    }
}

fn accounts(rank: Rank) -> [Option<Account>; 2] {
    match rank {
        Rank::Common | Rank::Own => [None, None],
        Rank::Silence(owner) => [Some(Account::Silent(owner)), None],
        Rank::Accusation(Culprit { process, uid }) => [
            Some(Account::AccusedProcess(process)),
            Some(Account::AccusedUser(uid)),
        ],
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
        accusations: 1200,
        reserve: 800,
    };

    fn silence(uid: u32) -> Rank {
        Rank::Silence(Owner {
            origin: BeatOrigin::KernelAttested,
            uid: Some(uid),
        })
    }

    fn accusation(pid: u32, uid: u32) -> Rank {
        Rank::Accusation(Culprit {
            process: Some((pid, Some(1))),
            uid: Some(uid),
        })
    }

    struct Filled {
        rooms: Rooms,
        charges: Charges,
    }

    impl Filled {
        fn new() -> Self {
            Self {
                rooms: Rooms::new(PLAN),
                charges: Charges::default(),
            }
        }

        /// Fills the room that there is for texts of a rank; returns the
        /// bytes.
        fn fill(&mut self, rank: Rank) -> usize {
            let mut texts = 0_usize;
            while self.rooms.has_room(TEXT, rank) {
                self.rooms.charge(TEXT, rank, &mut self.charges);
                texts = texts.saturating_add(1);
            }
            texts.saturating_mul(TEXT)
        }
    }

    #[test]
    fn each_has_a_room_that_the_others_cannot_fill() {
        let mut queue = Filled::new();
        assert_eq!(queue.fill(Rank::Common), 1000);
        assert_eq!(queue.fill(accusation(1, 1)), 400);
        assert_eq!(queue.fill(silence(1)), 400);
        assert_eq!(queue.fill(Rank::Own), 400);
        assert_eq!(queue.fill(Rank::Common), 0);
        assert_eq!(queue.fill(silence(2)), 0);
        assert!(queue.fill(accusation(2, 2)) > 0);
    }

    #[test]
    fn silences_use_the_room_that_beats_leave() {
        let mut queue = Filled::new();
        assert_eq!(queue.fill(silence(1)), 1000);
        assert_eq!(queue.fill(Rank::Common), 0);
        assert_eq!(queue.fill(silence(2)), 400);
    }

    #[test]
    fn one_more_user_always_finds_some_room() {
        let mut queue = Filled::new();
        queue.fill(Rank::Common);
        for uid in 1..=5 {
            assert!(queue.fill(silence(uid)) >= TEXT, "{uid}");
            assert_eq!(queue.fill(silence(uid)), 0);
            assert!(queue.fill(accusation(uid, uid)) >= TEXT, "{uid}");
            assert_eq!(queue.fill(accusation(uid, uid)), 0);
        }
    }

    /// Who forks has more processes, and is one user all the same.
    #[test]
    fn many_processes_of_one_user_leave_room_to_others() {
        let mut queue = Filled::new();
        let by_user: usize = (0..50).map(|pid| queue.fill(accusation(pid, 1))).sum();
        assert!((400..=600).contains(&by_user), "{by_user}");
        assert!(queue.fill(accusation(100, 2)) >= 200);
    }

    #[test]
    fn what_is_written_makes_room() {
        let mut queue = Filled::new();
        for rank in [Rank::Common, silence(1), accusation(1, 1), Rank::Own] {
            assert!(queue.fill(rank) > 0);
        }
        queue.rooms.release(&mut queue.charges);
        assert!(queue.rooms.accounts.is_empty());
        assert_eq!(queue.fill(Rank::Common), 1000);
        assert_eq!(queue.fill(accusation(1, 1)), 400);
    }
}
