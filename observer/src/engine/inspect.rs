//! What others may ask of a running observer.

use observer_common::loss::Loss;
use observer_events::agents::Agent;
use observer_events::counters::Counters;
use observer_events::snapshot::{RouteName, RouteSnapshot, Snapshot};

use super::Engine;
use crate::route::{Base, Join, Route, RouteCounts, Routes};

impl Engine {
    pub(crate) fn counters(&self) -> Counters {
        let Routes { unix, udp } = &self.routes;
        let joins = [unix.join().counts(), udp.join().counts()];
        let records_expired = joins.iter().map(|join| join.expired);
        let records_displaced = joins.iter().map(|join| join.displaced);
        let tracked = self.tracker.counts();
        let udp_loss = |loss| udp.base().attestor.loss(loss);
        let mut counters = self.counters;
        counters.datagrams = self.counted(|counts| counts.datagrams);
        counters.wrong_length = self
            .counted(|counts| counts.wrong_length)
            .saturating_add(self.lost(Loss::WrongLength));
        counters.receive_failures = self.counted(|counts| counts.receive_failures);
        counters.new_agents = tracked.new_agents;
        counters.new_sessions = tracked.new_sessions;
        counters.stale_nonces = tracked.stale_nonces;
        counters.refused_full = tracked.refused_full;
        counters.evicted_silent = tracked.evicted_silent;
        counters.evicted_live = tracked.evicted_live;
        counters.displaced = tracked.displaced;
        counters.records = self.counted(|counts| counts.records);
        counters.taken = self.counted(|counts| counts.taken);
        counters.udp_dropped = udp
            .dropped()
            .saturating_sub(udp_loss(Loss::WrongLength))
            .saturating_sub(udp_loss(Loss::OtherSocket));
        counters.udp_unrecorded = udp_loss(Loss::DroppedUnrecorded);
        counters.udp_hidden = udp_loss(Loss::DroppedHidden);
        counters.others_over_budget = udp_loss(Loss::PassedOverBudget);
        counters.ring_full = self.lost(Loss::RingFull);
        counters.throttled = self.lost(Loss::Throttled);
        counters.descriptors_refused = self.lost(Loss::Descriptors);
        counters.passed_on = self.lost(Loss::PassedOn);
        counters.refused_unseen = self.lost(Loss::RefusedUnseen);
        counters.unreadable = self.lost(Loss::Unreadable);
        counters.records_malformed = self.sum(|base| base.attestor.malformed());
        counters.records_expired = records_expired.fold(0, u64::saturating_add);
        counters.records_displaced = records_displaced.fold(0, u64::saturating_add);
        counters.parked = self.counted(|counts| counts.parked);
        counters.away_ns = self.clock.away_ns();
        counters
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let Routes { unix, udp } = &self.routes;
        let mut routes = vec![route(RouteName::Unix, unix, unix.join())];
        if udp.listeners().next().is_some() {
            routes.push(route(RouteName::Udp, udp, udp.join()));
        }
        Snapshot {
            observer_ns: now.observer_ns,
            threshold_ns: self.tracker.threshold_ns(),
            max_agents: self.tracker.max_agents() as u64,
            agents: self.tracker.census(),
            division: self.tracker.division(),
            oldest_beat_age_ns: self
                .tracker
                .oldest_sign()
                .map(|last| now.attended_ns.saturating_sub(last)),
            beat_gaps: *self.tracker.beat_gaps(),
            stall_lateness: *self.tracker.stall_lateness(),
            counters: self.counters(),
            routes,
            frames_parked: self.parked() as u64,
        }
    }

    pub(crate) fn agents(&self) -> impl Iterator<Item = Agent> + '_ {
        self.tracker.agents()
    }

    /// Inode of the observer's own pid namespace.
    pub(crate) fn pid_ns_inode(&self) -> Option<u64> {
        self.policy.observer_ns_inode
    }

    /// What the routes counted.
    fn counted(&self, count: impl Fn(RouteCounts) -> u64) -> u64 {
        self.sum(|base| count(base.counts()))
    }

    /// What the programs of all routes let go.
    fn lost(&self, loss: Loss) -> u64 {
        self.sum(|base| base.attestor.loss(loss))
    }

    fn sum(&self, count: impl Fn(&Base) -> u64) -> u64 {
        let each = self.routes.each().map(|route| count(route.base()));
        each.fold(0, u64::saturating_add)
    }
}

fn route(name: RouteName, route: &impl Route, join: &Join) -> RouteSnapshot {
    let attestor = &route.base().attestor;
    RouteSnapshot {
        route: name,
        tier: attestor.via(),
        weaker: attestor.degraded().map(ToOwned::to_owned),
        deaf: route.why_deaf(),
        one_by_one: route.one_by_one(),
        records_waiting: join.len() as u64,
        program: attestor.program_runs(),
    }
}
