//! The running observer: from the sockets to the outputs, until it is stopped.

mod log_limit;
mod losses;
mod notice_log;
mod pipeline;
mod process;
mod rank;
mod recorder;
mod reload;

use std::io;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use jiff::Timestamp;
use observer::{Observer, Senders, Waker};
use observer_audit::{Counts, Trail};
use observer_events::Counters;
use serde::Serialize;

use self::losses::{Losses, Lost};
use self::pipeline::Pipeline;
use self::process::Process;
pub(crate) use self::reload::Reload;
use crate::config::Effective;
use crate::daemon_status::{AgentStatus, AuditStatus, DaemonStatus, OutputStatus};
use crate::flags::Run;
use crate::log::Log;
use crate::output::{Failure, Output, Plan};
use crate::serve::{Request, Serving};
use crate::stream::Stream;
use crate::trail;

/// How long each part may take to end: reading what waits in the sockets,
/// writing it to stdout, closing the trail, writing the log.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Bytes of events that wait for stdout's reader at most. What one process may
/// send at once, twice the default of `--max-beat-rate`, fits as incidents.
const EVENTS_WAITING: Plan = Plan {
    common: 4 << 20,
    incidents: 3 << 20,
    reserve: 1 << 20,
};
/// How often losses are looked at that are not logged yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The observer with its outputs and its listeners for requests.
pub(crate) struct Daemon {
    pipeline: Pipeline,
    /// Whether stdout can no longer be written.
    failure: Failure,
    log: Log,
    serving: Serving,
    losses: Losses,
    /// Used by whoever has something for this thread beside beats.
    waker: Waker,
    process: Process,
    /// The settings in force.
    effective: Effective,
    /// Who may be an agent by them: names may stand for other numbers one day.
    senders: Senders,
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
    /// Puts the parts together.
    ///
    /// # Errors
    /// If there can be no thread that writes to stdout.
    pub(crate) fn new(
        args: &Run,
        effective: Effective,
        log: &Log,
        observer: Observer,
        trail: Option<Trail>,
        serving: Serving,
        waker: Waker,
    ) -> anyhow::Result<Self> {
        let (output, failure) = Output::start(Stream::Stdout, EVENTS_WAITING, Some(waker.clone()))?;
        Ok(Self {
            losses: Losses::new(),
            process: Process::new(args, &observer),
            effective,
            senders: args.senders(),
            pipeline: Pipeline::new(observer, trail, output, &args.output),
            failure,
            log: log.clone(),
            serving,
            waker,
        })
    }

    /// Reports events until it is stopped, then empties what is waiting.
    ///
    /// # Errors
    /// If stdout fails, or is not read at the end.
    pub(crate) fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            if self.waker.was_used() {
                if let Some(signal) = self.serving.signal() {
                    tracing::info!("{signal}: stopping");
                    return self.drain();
                }
                if let Some(error) = self.failure.reason() {
                    return Err(stdout_failed(error));
                }
                if let Some(reload) = self.serving.reload() {
                    self.reload(reload);
                }
                while let Some(request) = self.serving.request() {
                    self.respond(request);
                }
            }
            let is_all_collected = !self.pipeline.collect();
            let look = self.look_for_losses();
            if is_all_collected {
                self.pipeline.wait(look)?;
            }
        }
    }

    /// Logs losses, as often as may be; returns when to look again for what is
    /// left. While nothing is lost, nothing ticks.
    fn look_for_losses(&mut self) -> Option<Duration> {
        let Pipeline {
            recorder, output, ..
        } = &mut self.pipeline;
        let audit = recorder.counts();
        let is_logged = self.losses.log(Lost {
            stdout: output.lost(),
            log: self.log.lost(),
            audit: audit.map_or(0, |counts| counts.audit_lost),
        });
        let is_recorded = recorder.retry();
        (!is_logged || !is_recorded).then_some(LOOK_EVERY)
    }

    /// Takes what has been received already, for [`DRAIN_TIME`] at most.
    fn drain(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        let until = now.checked_add(DRAIN_TIME).unwrap_or(now);
        self.pipeline.drain(until)?;
        let left = self.pipeline.output.drain(DRAIN_TIME);
        match self.failure.reason() {
            Some(error) => Err(stdout_failed(error)),
            None if left > 0 => {
                bail!("stdout is not being read: {left} bytes of events are lost")
            }
            None => Ok(()),
        }
    }

    /// Closes the trail and logs what was counted.
    ///
    /// # Errors
    /// `result`, or that the trail could not be closed.
    pub(crate) fn end(mut self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        self.look_for_losses();
        let Pipeline {
            observer,
            recorder,
            output,
            ..
        } = self.pipeline;
        let kept = recorder.counts().unwrap_or_default();
        let closed = trail::close(recorder.into_trail(), &result, DRAIN_TIME);
        let totals = Totals {
            observer: observer.counters(),
            stdout_lost: output.lost(),
            log_lost: self.log.lost(),
            audit: *closed.as_ref().unwrap_or(&kept),
        };
        match serde_json::to_string(&totals) {
            Ok(totals) => self.log.write_line(format_args!("counters {totals}")),
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
        let snapshot = observer.snapshot();
        let agents = observer.agents().take(rows);
        let agents = agents.map(|agent| AgentStatus::new(&agent, snapshot.observer_ns));
        let audit = recorder.trail().map(AuditStatus::new);
        let mut outputs = vec![
            OutputStatus::new("stdout", output.lost()),
            OutputStatus::new("log", self.log.lost()),
        ];
        let audit_lost = audit.as_ref().map(|audit| audit.counts.audit_lost);
        outputs.extend(audit_lost.map(|lost| OutputStatus::new("audit", lost)));
        let Process {
            started,
            kernel,
            lockdown,
            socket,
            udp,
        } = &self.process;
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: *started,
            time: Timestamp::now(),
            kernel: kernel.clone(),
            lockdown: lockdown.clone(),
            socket: socket.clone(),
            udp: udp.clone(),
            agents: agents.collect(),
            observer: snapshot,
            outputs,
            audit,
            incidents: incidents.list().collect(),
        }
    }
}

fn stdout_failed(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => anyhow!("stdout was closed by its reader"),
        _ => anyhow!(error).context("cannot write events to stdout"),
    }
}
