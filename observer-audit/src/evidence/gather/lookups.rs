//! Which senders are looked up, and which is next. Nothing here waits.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use observer_events::event::Attestation;

use crate::evidence::cgroup::Container;
use crate::evidence::process::Process;

/// Processes that are looked up at the same time at most, those included that
/// hold their helper up; and as many whose command lines are read.
pub(super) const MAX_HELD_UP: usize = 16;
/// Of these, those of one user.
pub(super) const MAX_OF_USER: usize = 4;

/// All lookups, and the helpers that work on them.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    /// In the order in which they came, which is that of their deadlines.
    pub(super) open: VecDeque<Lookup>,
    /// Ids of cgroups to find.
    pub(super) cgroups: VecDeque<u64>,
    /// Processes that are being looked up, those included whose lookup is no
    /// longer open.
    pub(super) looking: InProgress,
    /// Processes whose command lines are being read, likewise.
    pub(super) reading: InProgress,
    pub(super) next_id: u64,
    pub(super) helpers: usize,
    pub(super) idle_helpers: usize,
    /// Helpers are to end.
    pub(super) has_ended: bool,
    /// It was logged that no helper can be started.
    pub(super) has_warned: bool,
}

/// A sender of whom more is to be found out.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) id: u64,
    /// The line that names the sender.
    pub(super) line: u64,
    pub(super) sender: Attestation,
    /// When the incident was.
    pub(super) time: Timestamp,
    /// When its evidence is written without what is missing.
    pub(super) deadline: Instant,
    pub(super) stage: Stage,
    pub(super) found: Found,
}

/// How far a lookup is.
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

/// What a lookup found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) container: Option<Container>,
    pub(super) process: Option<Process>,
    /// When that was.
    pub(super) time: Option<Timestamp>,
}

/// What was found out about a sender.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The line that names the sender.
    pub(crate) line: u64,
    /// The kernel's record of it.
    pub(crate) sender: Attestation,
    /// Found by the kernel's own cgroup id.
    pub(crate) container: Option<Container>,
    /// Read from /proc.
    pub(crate) process: Option<Process>,
    /// How long after the incident that was.
    pub(crate) late: Duration,
    /// Whether the deadline passed before all was found.
    pub(crate) is_overdue: bool,
}

/// Processes that may be holding a helper up: each holds up one at most, and
/// those of one user [`MAX_OF_USER`].
#[derive(Debug, Default)]
pub(super) struct InProgress(Vec<Read>);

/// A process that a helper reads about.
#[derive(Debug)]
struct Read {
    /// The lookup's.
    id: u64,
    /// Pid and start time.
    process: (Option<u32>, Option<u64>),
    uid: Option<u32>,
}

impl InProgress {
    pub(super) fn has_room(&self, sender: &Attestation) -> bool {
        let Self(reads) = self;
        let process = (sender.pid, sender.start_ns);
        let of_user = reads.iter().filter(|read| read.uid == sender.uid);
        reads.len() < MAX_HELD_UP
            && of_user.count() < MAX_OF_USER
            && reads.iter().all(|read| read.process != process)
    }

    fn begin(&mut self, id: u64, sender: &Attestation) {
        let Self(reads) = self;
        reads.push(Read {
            id,
            process: (sender.pid, sender.start_ns),
            uid: sender.uid,
        });
    }

    pub(super) fn end(&mut self, id: u64) {
        let Self(reads) = self;
        reads.retain(|read| read.id != id);
    }
}

/// What a helper is to do.
#[derive(Debug)]
pub(super) enum Task {
    LookUp(u64, Attestation),
    FindCgroup(u64),
    ReadCommand(u64, Attestation, Box<Found>),
}

impl Lookups {
    /// Takes the next task, and marks it as being done. Command lines come last.
    pub(super) fn take_task(&mut self) -> Option<Task> {
        if let Some(at) = self.first(Stage::New, &self.looking) {
            let lookup = self.open.get_mut(at)?;
            lookup.stage = Stage::Looking;
            self.looking.begin(lookup.id, &lookup.sender);
            return Some(Task::LookUp(lookup.id, lookup.sender));
        }
        if let Some(id) = self.cgroups.pop_front() {
            return Some(Task::FindCgroup(id));
        }
        let at = self.first(Stage::Looked, &self.reading)?;
        let lookup = self.open.get_mut(at)?;
        lookup.stage = Stage::Reading;
        self.reading.begin(lookup.id, &lookup.sender);
        let found = Box::new(lookup.found.clone());
        Some(Task::ReadCommand(lookup.id, lookup.sender, found))
    }

    pub(super) fn has_task(&self) -> bool {
        !self.cgroups.is_empty()
            || self.first(Stage::New, &self.looking).is_some()
            || self.first(Stage::Looked, &self.reading).is_some()
    }

    /// The first lookup at this stage that there is room for at the next.
    fn first(&self, stage: Stage, next: &InProgress) -> Option<usize> {
        let mut open = self.open.iter();
        open.position(|lookup| lookup.stage == stage && next.has_room(&lookup.sender))
    }

    /// How long a lookup may still go on, until `end` at most.
    pub(super) fn time_left(&self, end: Instant) -> Option<Duration> {
        let is_pending = |lookup: &&Lookup| lookup.stage != Stage::Done;
        let last = self.open.iter().rfind(is_pending)?.deadline.min(end);
        last.checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Takes the evidence of lookups that are done, and of those that are
    /// overdue.
    pub(super) fn take_evidence(&mut self, is_overdue: impl Fn(&Lookup) -> bool) -> Vec<Evidence> {
        let is_closed = |lookup: &Lookup| lookup.stage == Stage::Done || is_overdue(lookup);
        if !self.open.iter().any(is_closed) {
            return Vec::new();
        }
        let (closed, open) = mem::take(&mut self.open).into_iter().partition(is_closed);
        self.open = open;
        let closed: VecDeque<Lookup> = closed;
        closed.into_iter().map(Lookup::into_evidence).collect()
    }
}

impl Lookup {
    fn into_evidence(self) -> Evidence {
        let Found {
            container,
            mut process,
            time,
        } = self.found;
        let missing = match self.stage {
            Stage::Done => None,
            Stage::New | Stage::Looking => Some("not looked up in time"),
            Stage::Looked => {
                Some("cmdline: not read, for too many other reads wait for their processes")
            }
            Stage::Reading => Some("cmdline: not read in time, its process holds the reader up"),
        };
        if let (Some(missing), Some(_)) = (missing, self.sender.pid) {
            process
                .get_or_insert_with(|| Process::unread(missing))
                .note_failure(missing);
        }
        let time = time.unwrap_or_else(Timestamp::now);
        Evidence {
            line: self.line,
            sender: self.sender,
            container,
            process,
            // Zero if the clock was set back.
            late: time
                .duration_since(self.time)
                .try_into()
                .unwrap_or_default(),
            is_overdue: missing.is_some(),
        }
    }
}
