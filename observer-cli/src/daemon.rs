//! From the sockets to everyone who is told, until told to stop.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use futures_core::Stream as _;
use jiff::Timestamp;
use observer::Observer;
use observer::probe;
use observer_audit::{Counts, Trail};
use observer_events::agents::Owner;
use observer_events::format::Formatter;
use observer_events::{Counters, Event, Notice, Observation, Report};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::daemon_status::{AgentStatus, AuditStatus, DaemonStatus, OutputStatus};
use super::incidents::RecentIncidents;
use super::log::Log;
use super::losses::{Losses, Lost};
use super::notice_log::NoticeLog;
use super::output::{Culprit, Failure, Output, Plan, Rank};
use super::recorder::Recorder;
use super::run::flags::Run;
use super::run::{DRAIN_TIME, close_trail};
use super::serve::{Request, Serving};
use super::signals::Shutdown;
use super::stream::Stream;

/// Events that are collected before they are written.
const BATCH: usize = 256;
/// Bytes of events that wait for stdout's reader at most. What one process may
/// be accused of at once, twice the default of `--max-beat-rate`, fits.
const EVENTS_WAITING: Plan = Plan {
    common: 4 << 20,
    accusations: 3 << 20,
    reserve: 1 << 20,
};
/// How often losses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The observer with its outputs and those who ask about it.
pub(super) struct Daemon {
    pipeline: Pipeline,
    /// Says that stdout cannot be written.
    failure: Failure,
    log: Log,
    serving: Serving,
    losses: Losses,
    tick: Interval,
    /// Something happened since the losses were last looked at. What can be
    /// lost is lost of what comes in or goes out: when nothing does, nothing
    /// ticks.
    is_active: bool,
    identity: Identity,
}

/// The parts that an event passes, in this order.
struct Pipeline {
    /// Finds events. Its socket is removed when it is dropped.
    observer: Observer,
    /// Keeps the incidents, if they are to be kept.
    recorder: Recorder,
    notices: NoticeLog,
    /// The last incidents, for the status.
    incidents: RecentIncidents,
    /// Formats reports, one at a time.
    formatter: Formatter,
    /// Takes them away; makes nobody wait.
    output: Output,
    /// Whether beats are among them.
    beats: bool,
    /// Something was put in line for it since it was last told.
    is_output_due: bool,
}

/// What does not change while the observer runs.
struct Identity {
    started: Timestamp,
    kernel: String,
    lockdown: String,
    socket: String,
    udp: Vec<SocketAddr>,
}

/// Everything that was counted.
#[derive(Serialize)]
struct Totals {
    #[serde(flatten)]
    observer: Counters,
    /// Events that stdout's reader was too slow for.
    stdout_lost: u64,
    /// Lines of the log that stderr's reader was too slow for.
    log_lost: u64,
    #[serde(flatten)]
    audit: Counts,
}

impl Daemon {
    /// Brings the parts together.
    ///
    /// # Errors
    /// If there can be no thread that writes to stdout.
    pub(super) fn new(
        args: &Run,
        log: &Log,
        observer: Observer,
        trail: Option<Trail>,
        serving: Serving,
    ) -> anyhow::Result<Self> {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (output, failure) = Output::start(Stream::Stdout, EVENTS_WAITING)?;
        Ok(Self {
            losses: Losses::new(),
            identity: Identity::new(args, &observer),
            pipeline: Pipeline {
                recorder: Recorder::new(trail, &observer),
                observer,
                notices: NoticeLog::new(),
                incidents: RecentIncidents::default(),
                formatter: Formatter::new(args.output.format()),
                output,
                beats: args.output.has_beats(),
                is_output_due: false,
            },
            failure,
            log: log.clone(),
            serving,
            tick,
            is_active: true,
        })
    }

    /// Passes events on until asked to stop, then empties what is waiting.
    ///
    /// # Errors
    /// If stdout fails, or is not read at the end.
    pub(super) async fn serve(&mut self, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                signal = shutdown.requested() => {
                    tracing::info!("{signal}: stopping");
                    return self.drain();
                }
                error = self.failure.happened() => return Err(stdout_failed(error)),
                _ = self.tick.tick(), if self.is_active => self.look(),
                request = self.serving.next() => self.respond(request),
                result = poll_fn(|cx| self.pipeline.collect(cx)) => {
                    self.is_active = true;
                    // Signals are noticed only when the runtime has its turn,
                    // which a socket that is never empty would deny it.
                    if result?.is_full() {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        let Pipeline {
            recorder, output, ..
        } = &mut self.pipeline;
        let audit = recorder.counts();
        let is_logged = self.losses.log(Lost {
            stdout: output.lost(),
            log: self.log.lost(),
            audit: audit.map_or(0, |counts| counts.audit_lost),
        });
        self.is_active = !(recorder.settle() & is_logged);
    }

    /// Takes what has been received already, for [`DRAIN_TIME`] at most.
    fn drain(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let until = now.checked_add(DRAIN_TIME).unwrap_or(now);
        while let Some(report) = self.pipeline.observer.drain(until)? {
            self.pipeline.pass_on(&report);
        }
        let left = self.pipeline.output.drain(DRAIN_TIME);
        match self.failure.reason() {
            Some(error) => Err(stdout_failed(error)),
            None if left > 0 => {
                bail!("stdout is not being read: {left} bytes of events are lost")
            }
            None => Ok(()),
        }
    }

    /// Closes the trail and says what was counted.
    ///
    /// # Errors
    /// `result`, or that the trail could not be closed.
    pub(super) fn end(mut self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        self.look();
        let Pipeline {
            observer,
            recorder,
            output,
            ..
        } = self.pipeline;
        let kept = recorder.counts().unwrap_or_default();
        let closed = close_trail(recorder.into_trail(), &result);
        let totals = Totals {
            observer: observer.counters(),
            stdout_lost: output.lost(),
            log_lost: self.log.lost(),
            audit: *closed.as_ref().unwrap_or(&kept),
        };
        match serde_json::to_string(&totals) {
            Ok(totals) => self.log.say(format_args!("counters {totals}")),
            Err(error) => tracing::warn!("no counters: {error}"),
        }
        result.and(closed.map(drop))
    }

    /// Sends the status. The client may be gone.
    fn respond(&self, Request { rows, response }: Request) {
        drop(response.send(self.status(rows)));
    }

    fn status(&self, rows: usize) -> DaemonStatus {
        let Pipeline {
            observer,
            recorder,
            incidents,
            output,
            ..
        } = &self.pipeline;
        let Identity {
            started,
            kernel,
            lockdown,
            socket,
            udp,
        } = &self.identity;
        let snapshot = observer.snapshot();
        let agents = observer.agents().take(rows);
        let audit = recorder.trail().map(AuditStatus::new);
        let mut outputs = vec![
            OutputStatus::new("stdout", output.lost()),
            OutputStatus::new("log", self.log.lost()),
        ];
        let audit_lost = audit.as_ref().map(|audit| audit.counts.audit_lost);
        outputs.extend(audit_lost.map(|lost| OutputStatus::new("audit", lost)));
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: *started,
            time: Timestamp::now(),
            kernel: kernel.clone(),
            lockdown: lockdown.clone(),
            socket: socket.clone(),
            udp: udp.clone(),
            agents: agents
                .map(|agent| AgentStatus::new(&agent, snapshot.observer_ns))
                .collect(),
            observer: snapshot,
            outputs,
            audit,
            incidents: incidents.list().collect(),
        }
    }
}

/// How many events were collected.
struct Collected(usize);

impl Collected {
    /// There may be more.
    fn is_full(&self) -> bool {
        self.0 >= BATCH
    }
}

impl Identity {
    fn new(args: &Run, observer: &Observer) -> Self {
        Self {
            started: Timestamp::now(),
            kernel: probe::kernel_release(),
            lockdown: probe::lockdown().to_string(),
            socket: args.socket().display().to_string(),
            udp: observer.udp_listeners().collect(),
        }
    }
}

impl Pipeline {
    /// Waits for reports and passes on those that are there.
    fn collect(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<Collected>> {
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

    /// To the trail first: it is the one that has to prove something.
    fn pass_on(&mut self, report: &Report) {
        if let Some(incident) = self.recorder.record(report) {
            self.incidents.count(&incident, Timestamp::now());
        }
        if let Report::Notice(notice) = report {
            self.notices.log(notice);
        }
        if is_beat(report) && !self.beats {
            return;
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

/// No flood may crowd out a stall, or who is accused of a lie; of neither may
/// one sender cause so much that no room is left for others'.
fn rank(report: &Report) -> Rank {
    let Observation { event, evidence } = match report {
        Report::Observation(observation) => observation,
        Report::Notice(notice) => return rank_of_notice(notice),
    };
    let sender = evidence.sender.as_ref();
    match event {
        Event::Stall { origin, .. } => Rank::Silence(Owner {
            origin: *origin,
            uid: sender.and_then(|sender| sender.uid),
        }),
        Event::AuthFailure { .. }
        | Event::NamespaceConflict { .. }
        | Event::OriginConflict { .. } => Rank::Accusation(Culprit::of(sender)),
        _ => Rank::Common,
    }
}

fn rank_of_notice(notice: &Notice) -> Rank {
    match notice.evidence() {
        Some(evidence) => Rank::Accusation(Culprit::of(evidence.sender.as_ref())),
        None => Rank::Common,
    }
}

fn stdout_failed(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => anyhow!("stdout was closed by its reader"),
        _ => anyhow!(error).context("cannot write events to stdout"),
    }
}
