//! The thread that writes the trail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::chain::{LineKey, forget};
use super::counts::Counters;
use super::evidence::{Evidence, Gathering};
use super::files::FileError;
use super::fold::{Fold, Folded, Repeat, SHORTEST};
use super::key::{KeyFile, KeyState, Prepared};
use super::kinds::{EvidenceLine, IncidentLine, RepeatLine, TrailLine};
use super::line::{self, Position};
use super::options::Options;
use super::queue::{Content, Message, Waker};
use super::recover::{Recovered, TrailEnd};
use super::trail_file::TrailFile;
use crate::incident::Incident;

/// How many messages are taken before the time is looked at again.
const BATCH: usize = 256;
/// How long until a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often such failures are logged.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often losses are written down.
const LOST_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for evidence: no sender is to hold it up.
const LAST_EVIDENCE: Duration = Duration::from_millis(500);
/// Lines that wait for a full disk, in bytes; beyond it the queue is left to
/// fill up.
const MAX_PENDING: usize = 1 << 20;

/// Writes lines, syncs, seals and rotates.
pub(super) struct Writer {
    options: Options,
    counters: Arc<Counters>,
    file: TrailFile,
    key_file: KeyFile,
    state: KeyState,
    /// The line key of the present epoch.
    lines: LineKey,
    /// Where the next line goes.
    position: Position,
    /// Lines that are part of the chain and not yet in the file.
    pending: Vec<u8>,
    /// A seal that is part of the chain; nothing else may become part of it
    /// until the key file has followed.
    sealing: Option<Prepared>,
    /// A line about the file that has to wait for that, too.
    altered: Option<TrailLine>,
    repair: Option<TrailLine>,
    is_clean: bool,
    fold: Fold,
    fold_due: Option<Instant>,
    gathering: Gathering,
    lost_told: u64,
    lost_told_at: Option<Instant>,
    /// Lines of this epoch.
    unsealed: u64,
    /// When the oldest line that is not on the disk was written.
    unsynced: Option<Instant>,
    /// When this epoch has to be sealed.
    seal_due: Instant,
    /// An incident of this epoch has brought the seal forward.
    hurried: bool,
    /// When to try again what failed.
    retry: Option<Instant>,
    logged: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        recovered: Recovered,
        options: &Options,
        counters: Arc<Counters>,
        waker: Waker,
    ) -> Self {
        let Recovered {
            end,
            is_clean,
            repair,
        } = recovered;
        let TrailEnd {
            file,
            key_file,
            state,
            position,
            unsealed,
        } = end;
        let now = Instant::now();
        Self {
            options: options.clone(),
            counters,
            file,
            key_file,
            lines: state.key.lines(),
            state,
            position,
            pending: Vec::new(),
            sealing: None,
            altered: None,
            repair,
            is_clean,
            fold: Fold::new(now),
            fold_due: None,
            gathering: Gathering::new(waker, options.cgroup_mount.clone()),
            lost_told: 0,
            lost_told_at: None,
            unsealed,
            unsynced: None,
            seal_due: after(now, options.heartbeat),
            hurried: false,
            retry: None,
            logged: None,
        }
    }

    /// The trail's public name.
    pub(super) fn trail(&self) -> &str {
        &self.state.trail
    }

    /// Writes the first lines of this run, to the disk.
    pub(super) fn start(&mut self) -> Result<(), FileError> {
        let now = Timestamp::now();
        if let Some(repair) = self.repair.take() {
            self.line(now, &repair);
        }
        let start = TrailLine::Start {
            trail: self.state.trail.clone(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            kernel: self.options.kernel.clone(),
            boot_id: boot_id(),
            clean: self.is_clean,
        };
        self.line(now, &start);
        self.write_out()?;
        self.sync()
    }

    /// Works until told to stop, or until nobody can tell it any more.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let stop = self.take_waiting(receiver);
            let epoch = self.position.epoch;
            self.keep_up(Instant::now());
            if self.position.epoch != epoch {
                forget();
            }
            match stop {
                Some(Ended::Ordered(message)) => return self.finish(message.as_ref()),
                Some(Ended::Abandoned) => return,
                None => {}
            }
        }
    }

    /// Takes what is in the queue; waits for the first as long as there is
    /// nothing else to do.
    fn take_waiting(&mut self, receiver: &Receiver<Message>) -> Option<Ended> {
        let until = self.next_due().saturating_duration_since(Instant::now());
        if self.is_blocked() {
            std::thread::sleep(until);
            return None;
        }
        let mut message = match receiver.recv_timeout(until) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(Ended::Abandoned),
        };
        let now = Instant::now();
        for _ in 0..BATCH {
            if let Some(ended) = self.take(message, now) {
                return Some(ended);
            }
            message = match receiver.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            };
        }
        self.take(message, now)
    }

    fn take(&mut self, message: Message, now: Instant) -> Option<Ended> {
        match message.content {
            Content::Incident(incident) => self.incident(&incident, message.time, now),
            Content::Line(line) if matches!(*line, TrailLine::Stop { .. }) => {
                return Some(Ended::Ordered(line));
            }
            Content::Line(line) => {
                self.line(message.time, &*line);
                self.hurry(now);
            }
            // Taken in with what is due.
            Content::Evidence => {}
        }
        None
    }

    fn incident(&mut self, incident: &Incident, time: Timestamp, now: Instant) {
        self.counters
            .incidents
            .fetch_add(incident.number(), Ordering::Relaxed);
        self.hurry(now);
        match self.fold.add(incident, time, self.position.seq, now) {
            Folded::InFull => self.full_line(incident, time, now),
            Folded::First => {
                if let Some(id) = cgroup_of(incident) {
                    self.gathering.learn_cgroup(id);
                }
            }
            Folded::Counted => {}
        }
        let due = after(now, SHORTEST);
        self.fold_due = Some(self.fold_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Writes what is known, and asks for more: that comes on a line of its
    /// own, for its sender may hold up whoever looks.
    fn full_line(&mut self, incident: &Incident, time: Timestamp, now: Instant) {
        let line = self.position.seq;
        let container = cgroup_of(incident).and_then(|id| self.gathering.known_cgroup(id));
        self.line(time, &IncidentLine::new(incident, container.as_ref()));
        if let Some(sender) = &incident.sender
            && !self.gathering.ask(line, time, sender, now)
        {
            self.counters.unread.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn repeat(&mut self, repeat: &Repeat, time: Timestamp) {
        let container = cgroup_of(&repeat.sample).and_then(|id| self.gathering.known_cgroup(id));
        let line = RepeatLine {
            kind: "repeat",
            of: repeat.sample.what.name(),
            first_line: repeat.line,
            alike: repeat.alike,
            count: repeat.count,
            first: repeat.first,
            last: repeat.last,
            sample: IncidentLine::new(&repeat.sample, container.as_ref()),
        };
        self.line(time, &line);
    }

    fn evidence(&mut self, found: &[Evidence]) {
        for evidence in found {
            let unread = u64::from(evidence.is_overdue);
            self.counters.unread.fetch_add(unread, Ordering::Relaxed);
            self.line(Timestamp::now(), &EvidenceLine::new(evidence));
        }
    }

    /// Makes a line part of the chain.
    fn line(&mut self, time: Timestamp, entry: &impl Serialize) {
        let Self {
            pending,
            position,
            lines,
            unsealed,
            unsynced,
            counters,
            ..
        } = self;
        let link = line::write(pending, *position, time, entry, lines);
        *position = position.after(link);
        *unsealed = unsealed.saturating_add(1);
        unsynced.get_or_insert_with(Instant::now);
        counters.lines.fetch_add(1, Ordering::Relaxed);
    }

    /// Sees to it that the epoch is sealed soon.
    fn hurry(&mut self, now: Instant) {
        if !self.hurried {
            self.hurried = true;
            self.seal_due = self.seal_due.min(after(now, self.options.seal_after));
        }
    }

    /// Whether nothing may be added now: a seal waits for the key file, or too
    /// much waits for the disk.
    fn is_blocked(&self) -> bool {
        self.sealing.is_some() || self.pending.len() > MAX_PENDING
    }

    /// When there is something to do even if nothing comes.
    fn next_due(&self) -> Instant {
        if let Some(retry) = self.retry {
            return retry;
        }
        let sync = self.sync_due();
        [self.fold_due, sync, self.gathering.next_due()]
            .into_iter()
            .flatten()
            .fold(self.seal_due, Instant::min)
    }

    /// Half of the time that a line may take to be on the disk is the disk's.
    fn sync_due(&self) -> Option<Instant> {
        let wait = self.options.sync_after?.checked_div(2)?;
        Some(after(self.unsynced?, wait))
    }

    /// Does what is due. What fails is tried again after a while; meanwhile
    /// the chain goes on in memory, and then the queue fills up.
    fn keep_up(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.retry = None;
        if !self.is_blocked() {
            self.take_evidence(now);
            self.tell_counts(now);
        }
        let result = self
            .write_out()
            .and_then(|()| self.sync_if_due(now))
            .and_then(|()| self.seal_if_due(now));
        if let Err(error) = result {
            self.failed(&error, now);
        }
    }

    fn take_evidence(&mut self, now: Instant) {
        let found = self.gathering.collect(now);
        if !found.is_empty() {
            self.evidence(&found);
            self.hurry(now);
        }
    }

    fn tell_counts(&mut self, now: Instant) {
        let time = Timestamp::now();
        if self.fold_due.is_some_and(|due| due <= now) {
            for repeat in self.fold.take_due(now) {
                self.repeat(&repeat, time);
            }
            self.fold_due = self.fold.next_due();
        }
        let lost = self.counters.lost.load(Ordering::Relaxed);
        let count = lost.saturating_sub(self.lost_told);
        if count == 0 {
            return;
        }
        self.hurry(now);
        if self
            .lost_told_at
            .is_none_or(|told| now >= after(told, LOST_EVERY))
        {
            self.lost_told = lost;
            self.lost_told_at = Some(now);
            self.line(time, &TrailLine::Lost { count });
        }
    }

    /// Appends what is part of the chain to the file.
    fn write_out(&mut self) -> Result<(), FileError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if !self.file.is_in_place() {
            self.begin_again()?;
        } else if let Some(altered) = self.file.take_alteration() {
            self.tell_altered("its length changed", altered.expected, altered.found);
            // What was cut off in the middle of a line must not swallow the
            // next.
            self.pending.insert(0, b'\n');
        }
        self.file.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Somebody took the file away. What is to be written goes into a new one,
    /// with a seal at once, so that the key file leads there.
    fn begin_again(&mut self) -> Result<(), FileError> {
        let length = self.file.length();
        let first = line::first_seq(&self.pending).unwrap_or(self.position.seq);
        self.file.rotate(first)?;
        self.tell_altered("it was removed or replaced", length, 0);
        self.seal_due = Instant::now();
        Ok(())
    }

    /// An alarm, not a defence: `verify` finds what was changed. Nothing may
    /// follow a seal under the same key, so the line waits for the next one.
    fn tell_altered(&mut self, how: &'static str, expected_bytes: u64, found_bytes: u64) {
        tracing::error!(
            "{}: {how}, and not by this observer",
            self.file.path().display()
        );
        let altered = TrailLine::Altered {
            how,
            expected_bytes,
            found_bytes,
        };
        if self.sealing.is_some() {
            self.altered = Some(altered);
        } else {
            self.line(Timestamp::now(), &altered);
        }
    }

    fn sync_if_due(&mut self, now: Instant) -> Result<(), FileError> {
        match self.sync_due() {
            Some(due) if due <= now => self.sync(),
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), FileError> {
        if self.unsynced.is_none() {
            return Ok(());
        }
        self.file.sync()?;
        self.unsynced = None;
        let last = self.position.seq.saturating_sub(1);
        self.counters.on_disk.store(last, Ordering::Release);
        tracing::debug!("on disk through line {last}");
        Ok(())
    }

    fn seal_if_due(&mut self, now: Instant) -> Result<(), FileError> {
        if self.sealing.is_some() || now >= self.seal_due {
            self.seal()?;
            self.rotate_if_full()?;
        }
        Ok(())
    }

    /// Ends the epoch, in the order that the module's documentation gives. May
    /// be called again where it failed.
    fn seal(&mut self) -> Result<(), FileError> {
        self.write_out()?;
        if self.sealing.is_none() {
            self.begin_seal()?;
            self.write_out()?;
        }
        self.sync()?;
        if let Some(next) = &self.sealing {
            self.key_file.commit(next)?;
        }
        if let Some(Prepared { state, .. }) = self.sealing.take() {
            self.lines = state.key.lines();
            self.position = state.position;
            self.state = state;
        }
        self.unsealed = 0;
        self.hurried = false;
        let now = Instant::now();
        self.seal_due = after(now, self.options.heartbeat);
        if let Some(altered) = self.altered.take() {
            self.line(Timestamp::now(), &altered);
            self.hurry(now);
            self.write_out()?;
        }
        Ok(())
    }

    /// The key file's next state first: if there is no room for it, there is
    /// no seal, and the epoch goes on.
    fn begin_seal(&mut self) -> Result<(), FileError> {
        let seal = TrailLine::Seal {
            lines: self.unsealed.saturating_add(1),
        };
        let mut text = Vec::new();
        let link = line::write(
            &mut text,
            self.position,
            Timestamp::now(),
            &seal,
            &self.lines,
        );
        let next = self.state.after_seal(link, self.position.seq);
        self.sealing = Some(self.key_file.prepare(next)?);
        self.pending.extend_from_slice(&text);
        self.position = self.position.after(link);
        self.unsynced.get_or_insert_with(Instant::now);
        self.counters.lines.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn rotate_if_full(&mut self) -> Result<(), FileError> {
        if self.file.length() < self.options.rotate_bytes {
            return Ok(());
        }
        let previous = self.file.rotate(self.position.seq)?;
        let time = Timestamp::now();
        self.line(time, &TrailLine::Rotation { previous });
        while let Some(removed) = self.file.remove_oldest(self.options.keep)? {
            let (removed, through_seq) = (removed.name, removed.through_seq);
            self.line(
                time,
                &TrailLine::Retention {
                    removed,
                    through_seq,
                },
            );
        }
        self.hurry(Instant::now());
        self.write_out()
    }

    fn failed(&mut self, error: &FileError, now: Instant) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.retry = Some(after(now, RETRY));
        if self
            .logged
            .is_none_or(|logged| now >= after(logged, LOG_EVERY))
        {
            self.logged = Some(now);
            tracing::error!("the audit trail is not being written: {error}");
        }
    }

    /// Writes all that is left, and the last seal; tries until it succeeds or
    /// the process ends.
    fn finish(mut self, stop: &TrailLine) {
        let mut told = false;
        loop {
            let now = Instant::now();
            if !told && self.sealing.is_none() {
                told = true;
                let found = self.gathering.finish(LAST_EVIDENCE);
                self.evidence(&found);
                for repeat in self.fold.take_all() {
                    self.repeat(&repeat, Timestamp::now());
                }
                self.tell_counts(after(now, LOG_EVERY));
                self.line(Timestamp::now(), stop);
            }
            match self.seal() {
                Ok(()) if told && self.unsealed == 0 => return,
                // The file was altered meanwhile: the last lines are to be
                // `stop` and its seal.
                Ok(()) => told = false,
                Err(error) => {
                    self.failed(&error, now);
                    std::thread::sleep(RETRY);
                }
            }
        }
    }
}

/// Why there is nothing more to take.
enum Ended {
    /// The observer stops.
    Ordered(Box<TrailLine>),
    /// The other end is gone.
    Abandoned,
}

fn cgroup_of(incident: &Incident) -> Option<u64> {
    incident.sender.as_ref()?.cgroup_id
}

/// Names this boot (`/proc/sys/kernel/random/boot_id`).
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}

fn after(time: Instant, duration: Duration) -> Instant {
    time.checked_add(duration).unwrap_or(time)
}
