//! The thread that writes the trail.

mod seal_timer;

use std::fs;
use std::process;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::chain::forget;
use crate::cooldown::Cooldown;
use crate::counts::{Counters, add};
use crate::evidence::{Evidence, Gathering};
use crate::files::FileError;
use crate::fold::{Fold, Folded, Repeat, SHORTEST};
use crate::incident::Incident;
use crate::incident_line::{EvidenceLine, IncidentLine, RepeatLine};
use crate::options::Options;
use crate::queue::{Content, Message, Waker};
use crate::recover::Recovered;
use crate::sealed_file::SealedFile;
use crate::trail_line::TrailLine;

use self::seal_timer::{SealTimer, after};

/// How many messages are processed before what is due is looked at again.
const BATCH: usize = 256;
/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often a failure is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often losses are recorded at most.
const LOST_EVERY: Duration = Duration::from_secs(1);
/// How long the end waits for evidence: no sender is to hold it up.
const LAST_EVIDENCE: Duration = Duration::from_millis(500);

/// Takes messages from the queue, and decides what is written and when.
pub(crate) struct Writer {
    options: Options,
    counters: Arc<Counters>,
    file: SealedFile,
    /// What recovery did, until there are lines about it.
    recovery: Vec<TrailLine>,
    /// Whether the run before ended in order.
    is_clean: bool,
    fold: Fold,
    /// When the next `repeat` line is due.
    repeat_due: Option<Instant>,
    gathering: Gathering,
    /// Losses that lines report.
    lost_recorded: u64,
    lost_cooldown: Cooldown,
    seal_timer: SealTimer,
    /// When to try again what failed.
    retry: Option<Instant>,
    log_cooldown: Cooldown,
}

/// Why there are no more messages.
enum End {
    /// The observer stops: with this line.
    Ordered(Box<TrailLine>),
    /// The other end is gone.
    Abandoned,
}

impl Writer {
    pub(crate) fn new(
        recovered: Recovered,
        options: &Options,
        counters: Arc<Counters>,
        waker: Waker,
    ) -> Self {
        let Recovered {
            end,
            is_clean,
            lines: recovery,
        } = recovered;
        let now = Instant::now();
        Self {
            options: options.clone(),
            file: SealedFile::new(end, Arc::clone(&counters)),
            counters,
            recovery,
            is_clean,
            fold: Fold::new(now),
            repeat_due: None,
            gathering: Gathering::new(waker, options.cgroup_mount.clone()),
            lost_recorded: 0,
            lost_cooldown: Cooldown::new(LOST_EVERY),
            seal_timer: SealTimer::new(options.heartbeat, options.seal_after, now),
            retry: None,
            log_cooldown: Cooldown::new(LOG_EVERY),
        }
    }

    /// The trail's public name.
    pub(crate) fn trail(&self) -> &str {
        self.file.trail()
    }

    /// Writes the first lines of this run, to the disk.
    pub(crate) fn start(&mut self) -> Result<(), FileError> {
        let now = Timestamp::now();
        for line in self.recovery.drain(..) {
            self.file.add(now, &line);
        }
        let start = TrailLine::Start {
            trail: self.file.trail().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            pid: process::id(),
            kernel: self.options.kernel.clone(),
            boot_id: boot_id(),
            clean: self.is_clean,
        };
        self.file.add(now, &start);
        self.file.write_out()?;
        self.file.sync()
    }

    /// Works until there is a `stop` line to write, or the other end of the
    /// queue is gone.
    pub(crate) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let end = self.receive(receiver);
            let epoch = self.file.epoch();
            self.do_what_is_due(Instant::now());
            if self.file.epoch() != epoch {
                forget();
            }
            match end {
                Some(End::Ordered(stop)) => return self.finish(&stop),
                Some(End::Abandoned) => return,
                None => {}
            }
        }
    }

    /// Processes what is in the queue, and waits for the first message as long
    /// as nothing is due.
    fn receive(&mut self, receiver: &Receiver<Message>) -> Option<End> {
        let wait = self.next_due().saturating_duration_since(Instant::now());
        if self.file.is_blocked() {
            thread::sleep(wait);
            return None;
        }
        let first = match receiver.recv_timeout(wait) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(End::Abandoned),
        };
        let now = Instant::now();
        let mut messages = std::iter::once(first).chain(receiver.try_iter());
        messages
            .by_ref()
            .take(BATCH)
            .find_map(|message| self.process(message, now))
    }

    fn process(&mut self, Message { time, content }: Message, now: Instant) -> Option<End> {
        match content {
            Content::Incident(incident) => self.incident(&incident, time, now),
            Content::Line(line) if matches!(*line, TrailLine::Stop { .. }) => {
                return Some(End::Ordered(line));
            }
            Content::Line(line) => {
                self.file.add(time, &*line);
                self.seal_timer.seal_soon(now);
            }
            // Collected with what is due.
            Content::Evidence => {}
        }
        None
    }

    fn incident(&mut self, incident: &Incident, time: Timestamp, now: Instant) {
        add(&self.counters.incidents, incident.number());
        self.seal_timer.seal_soon(now);
        match self.fold.add(incident, time, self.file.next_seq(), now) {
            Folded::InFull => self.incident_line(incident, time, now),
            Folded::First => {
                if let Some(id) = cgroup_of(incident) {
                    self.gathering.find_cgroup(id);
                }
            }
            Folded::Counted => {}
        }
        let due = after(now, SHORTEST);
        self.repeat_due = Some(self.repeat_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Writes what is known, and has the rest looked up: that comes on a line
    /// of its own, for the sender may hold up whoever looks.
    fn incident_line(&mut self, incident: &Incident, time: Timestamp, now: Instant) {
        let seq = self.file.next_seq();
        let container = cgroup_of(incident).and_then(|id| self.gathering.known_cgroup(id));
        self.file
            .add(time, &IncidentLine::new(incident, container.as_ref()));
        if let Some(sender) = &incident.sender
            && !self.gathering.look_up(seq, time, sender, now)
        {
            add(&self.counters.unread, 1);
        }
    }

    fn repeat_line(&mut self, repeat: &Repeat, time: Timestamp) {
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
        self.file.add(time, &line);
    }

    fn evidence_lines(&mut self, found: &[Evidence]) {
        for evidence in found {
            add(&self.counters.unread, u64::from(evidence.is_overdue));
            self.file
                .add(Timestamp::now(), &EvidenceLine::new(evidence));
        }
    }

    /// When there is something to do even if no message comes.
    fn next_due(&self) -> Instant {
        if let Some(retry) = self.retry {
            return retry;
        }
        let others = [self.repeat_due, self.sync_due(), self.gathering.next_due()];
        others
            .into_iter()
            .flatten()
            .fold(self.seal_timer.due(), Instant::min)
    }

    /// Of the time that a line may take to be on the disk, half is left to the
    /// disk.
    fn sync_due(&self) -> Option<Instant> {
        let wait = self.options.sync_after?.checked_div(2)?;
        Some(after(self.file.unsynced_since()?, wait))
    }

    /// What fails is tried again after a while. Meanwhile lines are added in
    /// memory, and then the queue fills up.
    fn do_what_is_due(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        self.retry = None;
        if !self.file.is_blocked() {
            self.collect_evidence(now);
            self.record_repeats(now);
            self.record_losses(now);
        }
        let result = self
            .file
            .write_out()
            .and_then(|()| self.sync_if_due(now))
            .and_then(|()| self.seal_if_due(now));
        if let Err(error) = result {
            self.failed(&error, now);
        }
    }

    fn collect_evidence(&mut self, now: Instant) {
        let found = self.gathering.collect(now);
        if !found.is_empty() {
            self.evidence_lines(&found);
            self.seal_timer.seal_soon(now);
        }
    }

    fn record_repeats(&mut self, now: Instant) {
        if self.repeat_due.is_some_and(|due| due <= now) {
            let time = Timestamp::now();
            for repeat in self.fold.take_due(now) {
                self.repeat_line(&repeat, time);
            }
            self.repeat_due = self.fold.next_due();
        }
    }

    fn record_losses(&mut self, now: Instant) {
        if self.new_losses() > 0 {
            self.seal_timer.seal_soon(now);
            if self.lost_cooldown.try_begin(now) {
                self.lost_line();
            }
        }
    }

    fn lost_line(&mut self) {
        let count = self.new_losses();
        if count > 0 {
            self.lost_recorded = self.lost_recorded.saturating_add(count);
            self.file.add(Timestamp::now(), &TrailLine::Lost { count });
        }
    }

    /// Incidents that were lost and that no line reports yet.
    fn new_losses(&self) -> u64 {
        let lost = self.counters.lost.load(Ordering::Relaxed);
        lost.saturating_sub(self.lost_recorded)
    }

    fn sync_if_due(&mut self, now: Instant) -> Result<(), FileError> {
        match self.sync_due() {
            Some(due) if due <= now => self.file.sync(),
            _ => Ok(()),
        }
    }

    fn seal_if_due(&mut self, now: Instant) -> Result<(), FileError> {
        if now < self.seal_timer.due() && !self.file.needs_seal() {
            return Ok(());
        }
        self.seal()?;
        let Options {
            rotate_bytes, keep, ..
        } = self.options;
        let result = self.file.rotate_if_full(rotate_bytes, keep);
        if self.file.has_unsealed() {
            self.seal_timer.seal_soon(Instant::now());
        }
        result
    }

    /// Ends the epoch, and begins the next.
    fn seal(&mut self) -> Result<(), FileError> {
        self.file.seal()?;
        self.seal_timer.restart(Instant::now());
        Ok(())
    }

    fn failed(&mut self, error: &FileError, now: Instant) {
        add(&self.counters.failures, 1);
        self.retry = Some(after(now, RETRY));
        if self.log_cooldown.try_begin(now) {
            tracing::error!("the audit trail is not being written: {error}");
        }
    }

    /// Writes all that is left, and the last seal; tries until it succeeds or
    /// the process ends.
    fn finish(mut self, stop: &TrailLine) {
        let mut is_stop_added = false;
        loop {
            if !is_stop_added && !self.file.is_sealing() {
                is_stop_added = true;
                self.last_lines(stop);
            }
            match self.seal() {
                Ok(()) if is_stop_added && !self.file.has_unsealed() => return,
                // A seal that had failed before is complete only now, or the
                // file was altered meanwhile: the last lines are to be `stop`
                // and its seal.
                Ok(()) => is_stop_added = false,
                Err(error) => {
                    self.failed(&error, Instant::now());
                    thread::sleep(RETRY);
                }
            }
        }
    }

    fn last_lines(&mut self, stop: &TrailLine) {
        let found = self.gathering.finish(LAST_EVIDENCE);
        self.evidence_lines(&found);
        for repeat in self.fold.take_all() {
            self.repeat_line(&repeat, Timestamp::now());
        }
        self.lost_line();
        self.file.add(Timestamp::now(), stop);
    }
}

fn cgroup_of(incident: &Incident) -> Option<u64> {
    incident.sender.as_ref()?.cgroup_id
}

/// Names this boot (`/proc/sys/kernel/random/boot_id`).
fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}
