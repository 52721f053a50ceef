//! The way of a report: from the observer to the trail, the log and stdout.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use anyhow::anyhow;
use futures_core::Stream as _;
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

    /// Waits for reports and passes on those that are there.
    pub(super) fn collect(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<Collected>> {
        let mut collected = Collected(0);
        while !collected.is_full() {
            match Pin::new(&mut self.observer).poll_next(cx) {
                Poll::Ready(Some(report)) => self.pass_on(&report),
                Poll::Ready(None) => return Poll::Ready(Err(anyhow!("the event stream ended"))),
                Poll::Pending if collected.0 == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
            collected.0 = collected.0.saturating_add(1);
        }
        if std::mem::take(&mut self.is_output_due) {
            self.output.flush();
        }
        Poll::Ready(Ok(collected))
    }

    /// Passes on what has been received already, until this moment at most.
    ///
    /// # Errors
    /// If the observer fails.
    pub(super) fn drain(&mut self, until: Instant) -> anyhow::Result<()> {
        while let Some(report) = self.observer.drain(until)? {
            self.pass_on(&report);
        }
        Ok(())
    }

    /// To the trail first: it is the one that has to prove something.
    fn pass_on(&mut self, report: &Report) {
        if let Some(incident) = self.recorder.record(report) {
            self.incidents.count(&incident, Timestamp::now());
        }
        if let Report::Notice(notice) = report {
            self.notices.log(notice);
        }
        if is_beat(report) && !self.has_beats {
            return;
        }
        self.formatter.report(report);
        self.output.push(self.formatter.buffer(), rank(report));
        self.formatter.buffer().clear();
        self.is_output_due = true;
    }
}

/// How many reports were collected.
pub(super) struct Collected(usize);

impl Collected {
    /// There may be more.
    pub(super) fn is_full(&self) -> bool {
        self.0 >= BATCH
    }
}

fn is_beat(report: &Report) -> bool {
    matches!(report, Report::Observation(observation)
        if matches!(observation.event, Event::Beat { .. }))
}
