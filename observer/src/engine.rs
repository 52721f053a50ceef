//! The observer's loop: fill the routes, judge and track what they give.

mod attempts;
mod attestation;
mod change;
mod conclude;
mod deafness;
mod inspect;
mod refused;

use std::collections::VecDeque;
use std::io;

use observer_events::counters::{Counters, count};
use observer_events::event::Event;
use observer_events::{Evidence, Notice, Observation, Report};

use self::attestation::AttestationWatch;
use self::refused::Refusals;
use crate::clock::{Absence, AtMostEvery, Clock, Now};
use crate::judge::Policy;
use crate::route::{Delivery, PARK_NS, Route, Routes};
use crate::tracker::{Absent, Stall, Tracker};

/// An absence that an operator should hear of, nanoseconds. Shorter ones are
/// counted.
const NOTABLE_ABSENCE_NS: u64 = 500_000_000;

/// How many stalls are reported between two looks at the input: no beat waits
/// for the end of a wave of stalls.
const MOST_STALLS: usize = 64;

/// How often an operator hears of a full table, nanoseconds.
const TABLE_FULL_EVERY_NS: u64 = 1_000_000_000;

/// Everything of an observer but what wakes it.
pub(crate) struct Engine {
    pub(crate) routes: Routes,
    policy: Policy,
    tracker: Tracker,
    clock: Clock,
    /// The moment of the last pass.
    now: Now,
    /// Beats that the policy keeps out.
    refusals: Refusals,
    attestation: AttestationWatch,
    /// A socket could not be received from in the last pass.
    is_deaf: bool,
    table_full: AtMostEvery,
    /// Stalls reported since the last pass.
    stalls: usize,
    /// What is to be reported next, in order.
    ready: VecDeque<Report>,
    counters: Counters,
}

impl Engine {
    pub(crate) fn new(routes: Routes, policy: Policy, tracker: Tracker) -> Self {
        Self {
            ready: VecDeque::new(),
            attestation: AttestationWatch::default(),
            is_deaf: false,
            routes,
            policy,
            tracker,
            clock: Clock::start(),
            now: Now::default(),
            refusals: Refusals::default(),
            table_full: AtMostEvery::new(TABLE_FULL_EVERY_NS),
            stalls: 0,
            counters: Counters::default(),
        }
    }

    /// The next report that needs no further input.
    pub(crate) fn next_at_hand(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.ready.pop_front() {
                return Some(report);
            }
            let Some(next) = self.next_of_routes() else {
                self.note_attempts();
                let notice = self.ready.pop_front();
                let next = notice.or_else(|| self.next_stall());
                return next.or_else(|| self.ready.pop_front());
            };
            let report = self.report_of(next);
            // What was put in line meanwhile comes before it.
            match report {
                Some(report) if self.ready.is_empty() => return Some(report),
                report => self.ready.extend(report),
            }
        }
    }

    fn report_of(&mut self, next: io::Result<Delivery>) -> Option<Report> {
        match next {
            Ok(delivery) => self.conclude(&delivery).map(|event| delivery.report(event)),
            Err(error) => Some(self.io_error(error)),
        }
    }

    fn next_of_routes(&mut self) -> Option<io::Result<Delivery>> {
        let mut routes = self.routes.each_mut();
        routes.find_map(Route::next)
    }

    /// The present moment. A pass begins with it: the moment before anything is
    /// received.
    pub(crate) fn start_pass(&self) -> Now {
        self.clock.now()
    }

    /// Ends a pass, in which some sockets may have been received from: each has
    /// its turn in each pass, for one batch, and none waits for another that is
    /// never empty.
    ///
    /// No stall is judged by sockets that nobody looked at.
    pub(crate) fn finish_pass(&mut self, now: Now) {
        let deadline = self.tracker.next_deadline();
        let is_due = deadline.is_some_and(|due| due <= now.attended_ns);
        for route in self.routes.each_mut() {
            route.receive_rest(is_due);
        }
        self.stalls = 0;
        self.look(now, deadline);
        for route in self.routes.each_mut() {
            route.fill(self.now, is_due);
        }
        self.notify(false);
        if self.attestation.note_pass(self.now) {
            self.check_attestation();
        }
    }

    /// Moves the clock on to a pass, and gives agents back the time in which the
    /// observer was away.
    fn look(&mut self, now: Now, deadline: Option<u64>) {
        if self.note_deafness(now) {
            self.now = self.clock.stand_still(now);
            return;
        }
        let waited_ns = self
            .routes
            .each()
            .filter_map(|route| route.waited_ns(&self.clock, now))
            .max();
        let (now, absence) = self.clock.look(now, waited_ns, deadline);
        self.now = now;
        if let Some(absence) = absence {
            self.note_absence(&absence);
        }
    }

    fn note_absence(&mut self, absence: &Absence) {
        let Absence { away_ns, witnesses } = absence;
        let (clock, now) = (&self.clock, self.now);
        let mut routes = self.routes.each();
        let is_witnessed = routes.any(|route| route.was_sent_within(clock, now, witnesses));
        let absent = Absent {
            away_ns: *away_ns,
            is_witnessed,
        };
        self.tracker.note_absence(&absent, now);
        count(&mut self.counters.absences);
        if *away_ns > NOTABLE_ABSENCE_NS {
            self.ready.push_back(Report::Notice(Notice::Absence {
                away_ns: *away_ns,
                observer_ns: now.observer_ns,
            }));
        }
    }

    fn check_attestation(&mut self) {
        let notice = self.attestation.check(&self.routes, self.now);
        self.ready.extend(notice.map(Report::Notice));
    }

    /// Puts in line all that was settled and counted: nothing more is going to
    /// be received.
    pub(crate) fn finish(&mut self) {
        for at in 0..Routes::COUNT {
            while let Some(next) = self.next_settled(at) {
                let report = self.report_of(next);
                self.ready.extend(report);
            }
        }
        self.notify(true);
        // A moment without a loss is not yet attestation regained.
        if !self.attestation.is_lost() {
            self.check_attestation();
        }
    }

    fn next_settled(&mut self, route: usize) -> Option<io::Result<Delivery>> {
        self.routes.each_mut().nth(route)?.base_mut().next_settled()
    }

    /// Puts in line what is to be reported of refused and throttled senders now,
    /// or with `all` whatever was counted.
    fn notify(&mut self, all: bool) {
        while let Some(notice) = self.refusals.settle(self.now.observer_ns, all) {
            self.ready.push_back(Report::Notice(notice));
        }
        for route in self.routes.each_mut() {
            while let Some(notice) = route.next_throttled(self.now, all) {
                self.ready.push_back(Report::Notice(notice));
            }
        }
    }

    /// What is in line already.
    pub(crate) fn next_ready(&mut self) -> Option<Report> {
        self.ready.pop_front()
    }

    /// Has rings that are looked at by the clock looked at now.
    pub(crate) fn expedite(&mut self) {
        for route in self.routes.each_mut() {
            route.expedite();
        }
    }

    /// How many frames wait for their records.
    pub(crate) fn parked(&self) -> usize {
        let parked = self.routes.each().map(Route::parked);
        parked.fold(0, usize::saturating_add)
    }

    /// Whether there is more to be read without waiting.
    pub(crate) fn has_more(&self) -> bool {
        self.routes.each().any(Route::has_more)
    }

    /// Whether there is nothing to be read now, as far as rings say. If so, the
    /// programs have been asked to wake the observer.
    pub(crate) fn may_wait(&self) -> bool {
        self.routes.each().all(Route::may_wait)
    }

    /// When something is to be done without further input, in nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let stall = self.tracker.next_deadline().filter(|_| !self.is_deaf);
        let stall = stall.map(|deadline| self.clock.observed(deadline));
        let routes = self.routes.each().map(|route| route.next_due(self.now));
        let others = [self.refusals.next_due(), self.attestation.next_due(), stall];
        let due = routes.chain(others).flatten().min();
        let due = due.map(|due| self.clock.monotonic(due));
        let owed = self.routes.each().filter_map(Route::owed_ns);
        owed.chain(due).min()
    }

    /// Puts an error in line.
    pub(crate) fn note_io_error(&mut self, error: io::Error) {
        let report = self.io_error(error);
        self.ready.push_back(report);
    }

    pub(crate) fn io_error(&mut self, error: io::Error) -> Report {
        count(&mut self.counters.io_errors);
        Report::Observation(Observation {
            event: Event::Io(error, self.clock.now().observer_ns),
            evidence: Evidence::default(),
        })
    }

    /// The next agent that has been silent for too long, once all input that
    /// waited when it became so has been read.
    fn next_stall(&mut self) -> Option<Report> {
        while self.may_judge() {
            if !self.is_still_dropped() {
                let stall = self.tracker.next_stall(self.now)?;
                return Some(self.stall(&stall));
            }
        }
        None
    }

    /// Whether an agent's deadline has come, and all is known that it may be
    /// judged by.
    fn may_judge(&self) -> bool {
        let Some(due) = self.tracker.next_deadline() else {
            return false;
        };
        let mut routes = self.routes.each();
        due <= self.now.attended_ns
            && self.stalls < MOST_STALLS
            && routes.all(|route| route.read_as_of() >= due && route.settled_as_of() >= due)
            && !self.is_waiting_for_records(due)
    }

    fn stall(&mut self, stall: &Stall) -> Report {
        self.stalls = self.stalls.saturating_add(1);
        count(&mut self.counters.stalls);
        Report::Observation(Observation {
            event: Event::Stall {
                pid: stall.pid,
                last_nonce: stall.last_nonce,
                last_ns: stall.last_ns,
                origin: stall.origin,
                pid_ns_inode: stall.pid_ns_inode,
                observer_ns: self.now.observer_ns,
            },
            evidence: Evidence::new(stall.sender, None, None),
        })
    }

    /// Whether a stall may yet be averted by a frame that waits for its record.
    /// It postpones no stall for longer than a frame may wait.
    fn is_waiting_for_records(&self, due: u64) -> bool {
        let is_overdue = due.saturating_add(PARK_NS) <= self.now.attended_ns;
        self.parked() > 0 && !is_overdue
    }
}
