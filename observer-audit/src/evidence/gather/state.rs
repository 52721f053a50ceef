//! Who is waited for, and who is next: the part that waits for nobody.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observer_events::event::Attestation;

use super::super::cgroup::Container;
use super::super::process::Process;
use super::Evidence;

/// Processes that are looked up at the same time at most, those included that
/// hold the helper up; and as many whose command lines are read.
pub(super) const MAX_HELD_UP: usize = 16;
/// Of these, those of one user.
pub(super) const MAX_OF_USER: usize = 4;

#[derive(Debug, Default)]
pub(super) struct State {
    /// In the order in which they were asked for, so of their deadlines.
    pub(super) requests: VecDeque<Request>,
    /// Cgroups to be looked up for their own sake.
    pub(super) cgroups: VecDeque<u64>,
    /// Who is being looked up, those included whom nobody waits for any more.
    pub(super) looking: Crowd,
    /// Whose command lines are being read, likewise.
    pub(super) reading: Crowd,
    pub(super) next_id: u64,
    pub(super) helpers: usize,
    pub(super) idle: usize,
    pub(super) is_over: bool,
    /// Whether it was logged that there can be no helper.
    pub(super) is_warned: bool,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) line: u64,
    pub(super) sender: Attestation,
    pub(super) time: Timestamp,
    pub(super) deadline: Instant,
    pub(super) stage: Stage,
    pub(super) found: Found,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits to be looked up.
    New,
    Looking,
    /// Waits for its command line to be read.
    Looked,
    Reading,
    Done,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) container: Option<Container>,
    pub(super) process: Option<Process>,
    pub(super) at: Option<Timestamp>,
}

/// Processes that may hold a helper up: each one of them, and those of a user no
/// more than [`MAX_OF_USER`].
#[derive(Debug, Default)]
pub(super) struct Crowd(Vec<Held>);

#[derive(Debug)]
struct Held {
    /// The request's.
    id: u64,
    /// Pid and start time.
    process: (Option<u32>, Option<u64>),
    uid: Option<u32>,
}

impl Crowd {
    pub(super) fn has_room(&self, sender: &Attestation) -> bool {
        let Self(held) = self;
        let process = (sender.pid, sender.start_ns);
        let of_user = held.iter().filter(|other| other.uid == sender.uid);
        held.len() < MAX_HELD_UP
            && of_user.count() < MAX_OF_USER
            && held.iter().all(|other| other.process != process)
    }

    fn enter(&mut self, id: u64, sender: &Attestation) {
        self.0.push(Held {
            id,
            process: (sender.pid, sender.start_ns),
            uid: sender.uid,
        });
    }

    pub(super) fn leave(&mut self, id: u64) {
        self.0.retain(|held| held.id != id);
    }
}

/// What a helper is to do.
#[derive(Debug)]
pub(super) enum Task {
    Look(u64, Attestation),
    FindCgroup(u64),
    ReadCommand(u64, Attestation, Box<Found>),
}

impl State {
    /// What to do next, and marks it as being done: command lines come last.
    pub(super) fn next_task(&mut self) -> Option<Task> {
        if let Some(at) = self.first(Stage::New, &self.looking) {
            let request = self.requests.get_mut(at)?;
            request.stage = Stage::Looking;
            self.looking.enter(request.id, &request.sender);
            return Some(Task::Look(request.id, request.sender));
        }
        if let Some(id) = self.cgroups.pop_front() {
            return Some(Task::FindCgroup(id));
        }
        let at = self.first(Stage::Looked, &self.reading)?;
        let request = self.requests.get_mut(at)?;
        request.stage = Stage::Reading;
        self.reading.enter(request.id, &request.sender);
        let found = Box::new(request.found.clone());
        Some(Task::ReadCommand(request.id, request.sender, found))
    }

    pub(super) fn has_task(&self) -> bool {
        !self.cgroups.is_empty()
            || self.first(Stage::New, &self.looking).is_some()
            || self.first(Stage::Looked, &self.reading).is_some()
    }

    /// The first request at this stage that there is room for at the next.
    fn first(&self, stage: Stage, next: &Crowd) -> Option<usize> {
        let mut requests = self.requests.iter();
        requests.position(|request| request.stage == stage && next.has_room(&request.sender))
    }

    /// How long there is something to wait for, until `end` at most.
    pub(super) fn time_left(&self, end: Instant) -> Option<Duration> {
        let open = |request: &&Request| request.stage != Stage::Done;
        let last = self.requests.iter().rfind(open)?.deadline.min(end);
        last.checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Takes out what is done, and of the others what is `overdue`.
    pub(super) fn take(&mut self, overdue: impl Fn(&Request) -> bool) -> Vec<Evidence> {
        let is_ripe = |request: &Request| request.stage == Stage::Done || overdue(request);
        if !self.requests.iter().any(is_ripe) {
            return Vec::new();
        }
        let (ripe, rest) = mem::take(&mut self.requests).into_iter().partition(is_ripe);
        self.requests = rest;
        let ripe: VecDeque<Request> = ripe;
        ripe.into_iter().map(Request::conclude).collect()
    }
}

impl Request {
    pub(super) fn conclude(self) -> Evidence {
        let Found {
            container,
            mut process,
            at,
        } = self.found;
        let missing = match self.stage {
            Stage::Done => None,
            Stage::New | Stage::Looking => Some("not looked up in time"),
            Stage::Looked => {
                Some("cmdline: not read, for too many other reads wait for their processes")
            }
            Stage::Reading => Some("cmdline: not read in time, its process holds the reader up"),
        };
        if let (Some(missing), Some(process)) = (missing, &mut process) {
            process.fail(missing);
        }
        let at = at.unwrap_or_else(Timestamp::now);
        Evidence {
            line: self.line,
            sender: self.sender,
            container,
            process,
            // A clock that was set back makes it no time at all.
            late: at.duration_since(self.time).try_into().unwrap_or_default(),
            is_overdue: missing.is_some(),
        }
    }
}
