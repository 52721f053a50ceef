//! The tracker against a naive one: a vector of agents, scanned for
//! everything.

#![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;

use observer_events::agents::{AgentState, Census, Owner};
use observer_events::event::{BeatOrigin, Status};

use super::given_back::Absent;
use super::shares::MOST_SHARES;
use super::sighting::{Sign, Unarrived};
use super::tests::sender_of;
use super::{Now, OriginPolicy, Outcome, Sighting, Stall, Tracker, TrackerCounts};

const THRESHOLD: u64 = 10;

#[derive(Clone, Debug)]
enum Op {
    Sight(Sighting),
    /// Time passes, for the observer and for what it attended to.
    Pass(u64, u64),
    /// The observer was away for so long; somebody sent meanwhile or not.
    Absence(u64, bool),
    /// A beat that did not arrive.
    Attempt(Sighting),
    /// A clock that steps back.
    StepBack(u64),
    /// One look for a stall.
    Look,
}

fn sighting() -> impl Strategy<Value = Sighting> {
    let origin = prop_oneof![
        6 => Just(BeatOrigin::KernelAttested),
        2 => Just(BeatOrigin::NetworkUnverified),
        1 => Just(BeatOrigin::SocketModeOnly),
    ];
    let start = prop_oneof![1 => Just(None), 3 => (1..4_u64).prop_map(Some)];
    let namespace = prop_oneof![
        2 => Just(None),
        6 => Just(Some(7)),
        1 => Just(Some(8)),
    ];
    let nonce = prop_oneof![
        12 => 0..8_u64,
        1 => Just(u64::MAX),
        1 => Just(u64::MAX - 1),
    ];
    let status = prop_oneof![
        Just(Status::Ok),
        Just(Status::Degraded),
        Just(Status::Critical)
    ];
    let uid = prop_oneof![1 => Just(None), 3 => (0..3_u32).prop_map(Some)];
    (2..9_u32, start, namespace, origin, status, nonce, uid).prop_map(
        |(pid, start_ns, pid_ns_inode, origin, status, nonce, uid)| Sighting {
            pid,
            start_ns,
            pid_ns_inode,
            origin,
            status,
            nonce,
            sender: uid.map(|uid| sender_of(pid, start_ns, uid)),
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => sighting().prop_map(Op::Sight),
        3 => (0..8_u64, 0..4_u64).prop_map(|(attended, away)| Op::Pass(attended, away)),
        2 => ((1..30_u64), any::<bool>()).prop_map(|(away, witnessed)| Op::Absence(away, witnessed)),
        3 => sighting().prop_map(Op::Attempt),
        1 => (0..8_u64).prop_map(Op::StepBack),
        3 => Just(Op::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn behaves_as_the_naive_one(max in 0..7_usize, strongest: bool, ops in prop::collection::vec(op(), 0..120)) {
        let policy = if strongest { OriginPolicy::Strongest } else { OriginPolicy::First };
        let mut tracker = Tracker::new(max, THRESHOLD, policy);
        let mut naive = Naive { max, strongest, ..Naive::default() };
        let mut now = Now { observer_ns: 100, attended_ns: 100 };
        for op in ops {
            match op {
                Op::Sight(sighting) => {
                    prop_assert_eq!(tracker.sight(&sighting, now), naive.sight(&sighting, now));
                }
                Op::Pass(attended, away) => {
                    now.attended_ns += attended;
                    now.observer_ns += attended + away;
                }
                Op::Absence(away_ns, is_witnessed) => {
                    now.attended_ns += 1;
                    now.observer_ns += away_ns + 1;
                    tracker.note_absence(&Absent { away_ns, is_witnessed }, now);
                    naive.note_absence(away_ns, is_witnessed, now);
                }
                Op::Attempt(sighting) => {
                    prop_assert_eq!(tracker.attempt(&sighting, now), naive.attempt(&sighting, now));
                }
                Op::StepBack(by) => now.attended_ns -= by.min(now.attended_ns),
                Op::Look => {
                    let stall = tracker.next_stall(now);
                    let stall = stall.map(|stall| Stall { sender: None, ..stall });
                    prop_assert_eq!(stall, naive.next_stall(now));
                }
            }
            prop_assert_eq!(tracker.next_deadline(), naive.next_deadline());
            prop_assert_eq!(tracker.known(), naive.agents.len());
            prop_assert_eq!(tracker.counts(), naive.counts);
            prop_assert_eq!(tracker.census(), naive.census());
            let known = tracker.agents().map(|agent| observer_events::agents::Agent { sender: None, ..agent });
            prop_assert_eq!(known.collect::<Vec<_>>(), naive.known());
            let division = tracker.division();
            prop_assert_eq!(division.largest.map(|holder| holder.agents), naive.most());
            prop_assert!(tracker.known() <= max);
            prop_assert!(tracker.slots.len() <= max);
        }
    }
}

#[derive(Default)]
struct Naive {
    max: usize,
    strongest: bool,
    agents: Vec<Agent>,
    latest_ns: u64,
    /// Numbers the beats and the stalls, for those of one instant.
    turn: u64,
    /// End, length and whether somebody sent, of each absence so far.
    absences: Vec<(u64, u64, bool)>,
    counts: TrackerCounts,
}

#[derive(Clone)]
struct Agent {
    pid: u32,
    start_ns: Option<u64>,
    namespace: Option<u64>,
    origin: BeatOrigin,
    owner: Owner,
    last: Now,
    /// The first attempt since its last beat, and whether that was reported.
    unheard: Option<(u64, bool)>,
    last_nonce: u64,
    status: Status,
    /// When it beat or was found silent.
    turn: u64,
    silent: bool,
    /// The last nonce of each session (`None`: of any) and when it was used,
    /// two at most.
    sessions: Vec<(Option<u64>, u64)>,
}

impl Agent {
    fn new(sighting: &Sighting, now: Now, turn: u64) -> Self {
        Self {
            pid: sighting.pid,
            start_ns: sighting.start_ns,
            namespace: sighting.pid_ns_inode,
            origin: sighting.origin,
            owner: sighting.owner(),
            last: now,
            unheard: None,
            last_nonce: sighting.nonce,
            status: sighting.status,
            turn,
            silent: false,
            sessions: vec![(
                Some(sighting.nonce).filter(|&nonce| nonce != u64::MAX),
                turn,
            )],
        }
    }

    fn state(&self) -> AgentState {
        match self.status {
            _ if self.silent => AgentState::Silent,
            Status::Ok => AgentState::Ok,
            Status::Degraded => AgentState::Degraded,
            Status::Critical => AgentState::Critical,
        }
    }
}

impl Naive {
    fn census(&self) -> Census {
        let count = |state| {
            let agents = self.agents.iter();
            agents.filter(|agent| agent.state() == state).count() as u64
        };
        Census {
            ok: count(AgentState::Ok),
            degraded: count(AgentState::Degraded),
            critical: count(AgentState::Critical),
            silent: count(AgentState::Silent),
        }
    }

    /// The agents in the order in which an operator is to see them.
    fn known(&self) -> Vec<observer_events::agents::Agent> {
        let mut agents: Vec<&Agent> = self.agents.iter().collect();
        agents.sort_by_key(|agent| {
            if agent.silent {
                (0, u64::MAX - agent.turn, 0)
            } else {
                (1, agent.last.attended_ns, agent.turn)
            }
        });
        let known = |agent: &Agent| observer_events::agents::Agent {
            pid: agent.pid,
            state: agent.state(),
            origin: agent.origin,
            pid_ns_inode: agent.namespace,
            last_nonce: agent.last_nonce,
            last_ns: agent.last.observer_ns,
            sender: None,
        };
        agents.into_iter().map(known).collect()
    }

    fn tick(&mut self, now: Now) -> Now {
        self.turn += 1;
        self.latest_ns = self.latest_ns.max(now.attended_ns);
        Now {
            attended_ns: self.latest_ns,
            ..now
        }
    }

    fn sight(&mut self, sighting: &Sighting, now: Now) -> Outcome {
        let now = self.tick(now);
        let turn = self.turn;
        let Some(at) = self.position(sighting) else {
            return self.enter(sighting, now);
        };
        let agent = &mut self.agents[at];
        let unverified = [BeatOrigin::NetworkUnverified, BeatOrigin::SocketModeOnly];
        if self.strongest
            && sighting.origin == BeatOrigin::KernelAttested
            && unverified.contains(&agent.origin)
        {
            let displaced_origin = agent.origin;
            *agent = Agent::new(sighting, now, turn);
            self.counts.displaced += 1;
            return Outcome::Displaced { displaced_origin };
        }
        if agent.origin != sighting.origin {
            return Outcome::OriginConflict {
                slot_origin: agent.origin,
            };
        }
        if agent.namespace.is_some()
            && sighting.pid_ns_inode.is_some()
            && agent.namespace != sighting.pid_ns_inode
        {
            return Outcome::NamespaceConflict {
                slot_ns_inode: agent.namespace,
            };
        }
        if sighting.nonce != u64::MAX {
            let fitting = (agent.sessions.iter_mut())
                .filter(|(last, _)| last.is_none_or(|last| last < sighting.nonce))
                .max();
            let verified = agent.origin == BeatOrigin::KernelAttested;
            let restarts = match sighting.nonce {
                0 | 1 => verified || agent.silent,
                nonce => verified && agent.silent && nonce != agent.last_nonce,
            };
            let adopts = agent.start_ns.is_none() && sighting.start_ns.is_some();
            if let Some(session) = fitting {
                *session = (Some(sighting.nonce), turn);
            } else if restarts || adopts {
                if agent.sessions.len() == 2 {
                    agent.sessions.sort_by_key(|&(_, used)| used);
                    agent.sessions.remove(0);
                }
                agent.sessions.push((Some(sighting.nonce), turn));
                self.counts.new_sessions += 1;
            } else {
                self.counts.stale_nonces += 1;
                return Outcome::StaleNonce;
            }
        }
        agent.start_ns = agent.start_ns.or(sighting.start_ns);
        agent.namespace = agent.namespace.or(sighting.pid_ns_inode);
        agent.last = now;
        agent.unheard = None;
        agent.last_nonce = sighting.nonce;
        agent.status = sighting.status;
        agent.silent = false;
        agent.turn = turn;
        Outcome::Accepted
    }

    fn position(&self, sighting: &Sighting) -> Option<usize> {
        let same = |agent: &Agent| (agent.pid, agent.start_ns) == (sighting.pid, sighting.start_ns);
        self.agents.iter().position(same).or_else(|| {
            let youngest = self.youngest(sighting.pid)?;
            let unknown = sighting.start_ns.is_none() || self.agents[youngest].start_ns.is_none();
            unknown.then_some(youngest)
        })
    }

    fn youngest(&self, pid: u32) -> Option<usize> {
        (0..self.agents.len())
            .filter(|&at| self.agents[at].pid == pid)
            .max_by_key(|&at| self.agents[at].start_ns)
    }

    fn enter(&mut self, sighting: &Sighting, now: Now) -> Outcome {
        let before = self.agents.len();
        self.agents.retain(|agent| {
            agent.pid != sighting.pid || !agent.silent || agent.start_ns > sighting.start_ns
        });
        self.counts.superseded += (before - self.agents.len()) as u64;
        if self.agents.len() >= self.max {
            let Some(at) = self.who_yields_to(sighting.owner()) else {
                self.counts.refused_full += 1;
                return Outcome::TableFull;
            };
            if self.agents.remove(at).silent {
                self.counts.evicted_silent += 1;
            } else {
                self.counts.evicted_live += 1;
            }
        }
        self.counts.new_agents += 1;
        self.agents.push(Agent::new(sighting, now, self.turn));
        Outcome::Accepted
    }

    fn held(&self, owner: Owner) -> usize {
        let agents = self.agents.iter();
        agents.filter(|agent| agent.owner == owner).count()
    }

    /// What the largest owner holds.
    fn most(&self) -> Option<u64> {
        let agents = self.agents.iter();
        agents.map(|agent| self.held(agent.owner) as u64).max()
    }

    /// The agent of an owner that was heard of, or found silent, first.
    fn first(&self, owner: Owner, silent: bool) -> Option<usize> {
        let agents = 0..self.agents.len();
        agents
            .filter(|&at| self.agents[at].owner == owner && self.agents[at].silent == silent)
            .min_by_key(|&at| self.agents[at].turn)
    }

    fn who_yields_to(&self, newcomer: Owner) -> Option<usize> {
        let mut owners: Vec<Owner> = self.agents.iter().map(|agent| agent.owner).collect();
        owners.push(newcomer);
        owners.sort_unstable_by_key(|&owner| (self.held(owner), owner));
        owners.dedup();
        // The furthest above first.
        owners.reverse();
        let share = (self.max / owners.len().min(MOST_SHARES)).max(1);
        let is_within = self.held(newcomer) < share;
        let silent = |owner: &&Owner| self.first(**owner, true).is_some();
        let mut above = owners.iter().filter(|&&owner| self.held(owner) > share);
        if let Some(&owner) = above.clone().find(silent) {
            return self.first(owner, true);
        }
        if let Some(own) = self.first(newcomer, true) {
            return Some(own);
        }
        if !is_within {
            return None;
        }
        if let Some(&owner) = above.next() {
            return self.first(owner, false);
        }
        self.first(*owners.iter().find(silent)?, true)
    }

    fn next(&self) -> Option<usize> {
        (0..self.agents.len())
            .filter(|&at| !self.agents[at].silent)
            .min_by_key(|&at| (self.agents[at].last.attended_ns, self.agents[at].turn))
    }

    fn next_deadline(&self) -> Option<u64> {
        let last = self.agents[self.next()?].last.attended_ns;
        let in_silence = self.absences.iter().filter(|(ended, _, _)| *ended > last);
        let sum = |witnessed_only: bool| -> u64 {
            in_silence
                .clone()
                .filter(|(_, _, witnessed)| *witnessed || !witnessed_only)
                .map(|(_, away, _)| away.min(&THRESHOLD))
                .sum()
        };
        let witnessed = sum(true).saturating_sub(THRESHOLD);
        let excess = witnessed.max(sum(false).saturating_sub(3 * THRESHOLD));
        let due = last + THRESHOLD;
        let last_ended = in_silence.clone().map(|(ended, _, _)| *ended).max();
        let earliest = last_ended.map_or(0, |ended| ended.min(due));
        Some(due.saturating_sub(excess).max(earliest))
    }

    fn note_absence(&mut self, away_ns: u64, is_witnessed: bool, now: Now) {
        let now = self.tick(now);
        self.absences.push((now.attended_ns, away_ns, is_witnessed));
    }

    fn attempt(&mut self, sighting: &Sighting, now: Now) -> Sign {
        let now = self.tick(now);
        let turn = self.turn;
        let Some(at) = self.position(sighting) else {
            return Sign::None;
        };
        let agent = &mut self.agents[at];
        let is_it = sighting.start_ns.is_none() || sighting.start_ns == agent.start_ns;
        let mut copy = Naive {
            agents: vec![agent.clone()],
            max: 1,
            ..Self::default()
        };
        if agent.silent || !is_it || copy.sight(sighting, now) != Outcome::Accepted {
            return Sign::None;
        }
        agent.last.attended_ns = now.attended_ns;
        agent.turn = turn;
        let (first, is_reported) = agent.unheard.unwrap_or((now.observer_ns, false));
        let is_long = now.observer_ns - first >= THRESHOLD;
        agent.unheard = Some((first, is_reported || is_long));
        if !is_long || is_reported {
            return Sign::Alive;
        }
        Sign::Unheard(Unarrived {
            pid: agent.pid,
            last_nonce: agent.last_nonce,
            last_ns: agent.last.observer_ns,
        })
    }

    fn next_stall(&mut self, now: Now) -> Option<Stall> {
        let now = self.tick(now);
        let at = self
            .next()
            .filter(|_| self.next_deadline() <= Some(now.attended_ns))?;
        let agent = &mut self.agents[at];
        agent.silent = true;
        agent.unheard = None;
        agent.turn = self.turn;
        let stall = Stall {
            pid: agent.pid,
            last_nonce: agent.last_nonce,
            last_ns: agent.last.observer_ns,
            origin: agent.origin,
            pid_ns_inode: agent.namespace,
            sender: None,
        };
        if self.youngest(stall.pid) != Some(at) {
            self.agents.remove(at);
            self.counts.superseded += 1;
        }
        Some(stall)
    }
}
