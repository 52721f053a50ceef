//! What others may ask of a running observer.

use std::net::SocketAddr;

use observer_common::loss::Loss;
use observer_events::{
    agents::Agent,
    counters::Counters,
    event::Via,
    snapshot::{RouteName, RouteSnapshot, Snapshot},
};

use super::{Inlet, Observer};
use crate::attest::{Attestor, Attestors};

impl Observer {
    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let Attestors { unix, udp } = &self.attestors;
        let tracked = self.tracker.counts();
        let both = |count: fn(&Attestor) -> u64| count(unix).saturating_add(count(udp));
        let dropped: u64 = self.inlets.iter().map(Inlet::dropped).sum();
        Counters {
            wrong_length: self
                .counters
                .wrong_length
                .saturating_add(both(|attestor| attestor.loss(Loss::WrongLength))),
            new_agents: tracked.new_agents,
            new_sessions: tracked.new_sessions,
            stale_nonces: tracked.stale_nonces,
            refused_full: tracked.refused_full,
            evicted_silent: tracked.evicted_silent,
            evicted_live: tracked.evicted_live,
            displaced: tracked.displaced,
            udp_dropped: dropped
                .saturating_sub(udp.loss(Loss::WrongLength))
                .saturating_sub(udp.loss(Loss::OtherSocket)),
            udp_unrecorded: udp.loss(Loss::DroppedUnrecorded),
            udp_hidden: udp.loss(Loss::DroppedHidden),
            others_over_budget: udp.loss(Loss::PassedOverBudget),
            ring_full: both(|attestor| attestor.loss(Loss::RingFull)),
            throttled: both(|attestor| attestor.loss(Loss::Throttled)),
            descriptors_refused: both(|attestor| attestor.loss(Loss::Descriptors)),
            passed_on: both(|attestor| attestor.loss(Loss::PassedOn)),
            refused_unseen: both(|attestor| attestor.loss(Loss::RefusedUnseen)),
            unreadable: both(|attestor| attestor.loss(Loss::Unreadable)),
            records_malformed: both(Attestor::malformed),
            records_expired: both(|attestor| attestor.join_counts().expired),
            records_displaced: both(|attestor| attestor.join_counts().displaced),
            away_ns: self.attention.away_ns(),
            ..self.counters
        }
    }

    /// The state at this moment. It takes some system calls, to read what the
    /// kernel counts, and the same time however many agents there are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.attention.now();
        let Attestors { unix, udp } = &self.attestors;
        let mut routes = vec![route(RouteName::Unix, unix)];
        if self.udp_listeners().next().is_some() {
            routes.push(route(RouteName::Udp, udp));
        }
        Snapshot {
            observer_ns: now.observer_ns,
            threshold_ns: self.tracker.threshold_ns(),
            max_agents: self.tracker.max_agents() as u64,
            agents: self.tracker.census(),
            division: self.tracker.division(),
            oldest_beat_age_ns: self
                .tracker
                .oldest_beat()
                .map(|last| now.attended_ns.saturating_sub(last)),
            beat_gaps: *self.tracker.beat_gaps(),
            stall_lateness: *self.tracker.stall_lateness(),
            counters: self.counters(),
            routes,
            frames_parked: self.parked.len() as u64,
        }
    }

    /// The agents, those first that an operator has to look at: the silent,
    /// the last to fall silent first, then the others by the age of their
    /// last beat, the oldest first.
    pub fn agents(&self) -> impl Iterator<Item = Agent> + '_ {
        self.tracker.agents()
    }

    /// By which means senders on the Unix socket are known.
    #[must_use]
    pub fn via(&self) -> Via {
        self.attestors.unix.via()
    }

    /// Why a weaker means than the strongest is in use there.
    #[must_use]
    pub fn degraded(&self) -> Option<&str> {
        self.attestors.unix.fallback()
    }

    /// By which means local senders to UDP listeners are known;
    /// [`Via::Scm`]: not at all.
    #[must_use]
    pub fn udp_via(&self) -> Via {
        self.attestors.udp.via()
    }

    /// Why a weaker means than the strongest is in use there.
    #[must_use]
    pub fn udp_degraded(&self) -> Option<&str> {
        self.attestors.udp.fallback()
    }

    /// What the UDP listeners are bound to, in the order in which they were
    /// asked for, trusted ones first.
    pub fn udp_listeners(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let mut last = None;
        self.inlets
            .iter()
            .filter_map(Inlet::udp_address)
            // A listener's sockets follow one another.
            .filter(move |&address| last.replace(address) != Some(address))
    }

    /// Inode of the observer's own pid namespace.
    #[must_use]
    pub fn pid_ns_inode(&self) -> Option<u64> {
        self.policy.observer_ns_inode
    }
}

fn route(route: RouteName, attestor: &Attestor) -> RouteSnapshot {
    RouteSnapshot {
        route,
        tier: attestor.via(),
        weaker: attestor.fallback().map(ToOwned::to_owned),
        records_waiting: attestor.records_waiting() as u64,
        program: attestor.program_runs(),
    }
}
