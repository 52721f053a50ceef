//! The way of a report: from the observer to the trail, the log and stdout.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use observer::Observer;
use observer_audit::Trail;
use observer_events::format::Formatter;
use observer_events::{Event, Report};

use super::notice_log::NoticeLog;
use super::rank::rank;
use super::recorder::Recorder;
use crate::flags;
use crate::incidents::RecentIncidents;
use crate::output::Output;

/// Reports that are collected before they are written.
const BATCH: usize = 256;

/// The parts that a report passes, in this order.
pub(super) struct Pipeline {
    /// Finds events. Its socket is removed when it is dropped.
    pub(super) observer: Observer,
    /// Records incidents in the trail, if one is kept.
    pub(super) recorder: Recorder,
    notices: NoticeLog,
    /// The last incidents, for the status.
    pub(super) incidents: RecentIncidents,
    /// Formats reports, one at a time.
    formatter: Formatter,
    /// Writes them to stdout, and makes nobody wait.
    pub(super) output: Output,
    /// Whether beats are written.
    has_beats: bool,
    /// Something was queued since the output was last flushed.
    is_output_due: bool,
}

impl Pipeline {
    pub(super) fn new(
        observer: Observer,
        trail: Option<Trail>,
        output: Output,
        flags: &flags::Output,
    ) -> Self {
        Self {
            recorder: Recorder::new(trail, &observer),
            observer,
            notices: NoticeLog::new(),
            incidents: RecentIncidents::default(),
            formatter: Formatter::new(flags.format()),
            output,
            has_beats: flags.has_beats(),
            is_output_due: false,
        }
    }

    /// Passes on the reports that are there, so many at a time that the caller
    /// has its turn; returns whether there may be more.
    pub(super) fn collect(&mut self) -> bool {
        let mut collected = 0_usize;
        while collected < BATCH {
            let Some(report) = self.observer.observe() else {
                break;
            };
            self.pass_on(&report);
            collected = collected.saturating_add(1);
        }
        if mem::take(&mut self.is_output_due) {
            self.output.flush();
        }
        collected == BATCH
    }

    /// Waits until there may be reports, something else for this thread to do,
    /// or the time is up.
    ///
    /// # Errors
    /// If that cannot be waited for.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> anyhow::Result<()> {
        match self.observer.wait(timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                Err(error).context("cannot wait for beats")
            }
            _ => Ok(()),
        }
    }

    /// Passes on what has been received already, until this moment at most.
    ///
    /// # Errors
    /// If the observer fails.
    pub(super) fn drain(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            match self.observer.drain(until) {
                Ok(Some(report)) => self.pass_on(&report),
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot wait for beats"),
            }
        }
    }

    /// To the trail first: it is the one that has to prove something.
    fn pass_on(&mut self, report: &Report) {
        if is_beat(report) && !self.has_beats {
            return;
        }
        if let Some(incident) = self.recorder.record(report) {
            self.incidents.count(&incident, Timestamp::now());
        }
        if let Report::Notice(notice) = report {
            self.notices.log(notice);
        }
        self.formatter.report(report);
        self.output.push(self.formatter.buffer(), rank(report));
        self.formatter.buffer().clear();
        self.is_output_due = true;
    }
}

fn is_beat(report: &Report) -> bool {
    matches!(report, Report::Observation(observation)
        if matches!(observation.event, Event::Beat { .. }))
}
