//! `observer run`: from the socket to stdout until told to stop.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use futures_core::Stream as _;
use observer::attest::{probe, tier_name};
use observer::audit::{Counts, Trail};
use observer::event::Via;
use observer::judge::Namespaces;
use observer::sinks::{Format, Sink};
use observer::{Counters, Event, Observer, StartError};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::args::Run;
use super::output::{Failure, Output};
use super::signals::Shutdown;
use super::stdout::Stdout;
use super::watch::Watch;

/// Events that are collected before they are written.
const BATCH: usize = 256;
/// How long the end may take: reading what waits in the socket, and writing
/// it to stdout.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How often the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`], or what went wrong later.
pub(super) fn execute(args: &Run) -> anyhow::Result<()> {
    super::log::start();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(observe(args))
}

async fn observe(args: &Run) -> anyhow::Result<()> {
    // Before the socket exists: whoever sees it may already tell us to stop.
    let mut shutdown = Shutdown::new()?;
    // And before the first forgery that it would have to keep.
    let trail = open_trail(args)?;
    let result = match bind(args) {
        Ok(observer) => {
            let mut daemon = Daemon::new(args, observer, trail)?;
            let result = daemon.serve(&mut shutdown).await;
            return daemon.end(result);
        }
        Err(error) => Err(error.into()),
    };
    close_trail(trail, &result)?;
    result
}

/// An observer that was told to leave a trail does not run without.
fn open_trail(args: &Run) -> anyhow::Result<Option<Trail>> {
    let Some(options) = args.audit.options() else {
        return Ok(None);
    };
    let trail = Trail::open(&options).context("cannot keep an audit trail")?;
    tracing::info!("audit trail {} in {}", trail.name(), options.file.display());
    Ok(Some(trail))
}

fn close_trail(trail: Option<Trail>, result: &anyhow::Result<()>) -> anyhow::Result<Counts> {
    let Some(trail) = trail else {
        return Ok(Counts::default());
    };
    let reason = match result {
        Ok(()) => "told to stop".into(),
        Err(error) => format!("{error:#}"),
    };
    Ok(trail.close(&reason, DRAIN_TIME)?)
}

fn bind(args: &Run) -> Result<Observer, StartError> {
    let mut builder = Observer::builder()
        .socket(&args.socket)
        .socket_mode(args.socket_mode)
        .socket_group(args.socket_group)
        .threshold(args.threshold())
        .attest(args.attest.into())
        .tier(args.tier())
        .btf(args.btf.clone())
        .max_agents(args.max_agents)
        .accept_network_beats(args.accept_network_beats)
        .cgroup(args.cgroup.clone())
        .namespaces(args.namespaces())
        .senders(args.senders())
        .origin_policy(args.origin_policy());
    for &address in &args.udp {
        builder = builder.udp(address);
    }
    for &address in &args.trust_udp {
        builder = builder.trust_udp(address);
    }
    if let Some(bytes) = args.ring_bytes {
        builder = builder.ring_bytes(bytes);
    }
    builder.bind()
}

/// The start-up line, a warning if senders are attested by less than the
/// best, and the word that others wait for.
fn announce(args: &Run, observer: &Observer) {
    tracing::info!(
        "kernel {}, lockdown {}, tier {}, socket {}, mode {:04o}, threshold {} ms",
        probe::kernel_release(),
        probe::lockdown(),
        tier_name(observer.via()),
        args.socket.display(),
        args.socket_mode,
        args.threshold_ms,
    );
    if let Some(reason) = observer.degraded() {
        tracing::warn!("weaker attestation: {reason}");
    }
    for address in observer.udp_listeners() {
        tracing::info!("udp {address}, tier {}", tier_name(observer.udp_via()));
    }
    match observer.udp_degraded() {
        Some(reason) if observer.degraded() == Some(reason) => {
            tracing::warn!("weaker attestation of udp, for the same reason");
        }
        Some(reason) => tracing::warn!("weaker attestation of udp: {reason}"),
        None => {}
    }
    if args.namespaces() == Namespaces::Translate && observer.via() != Via::Btf {
        tracing::warn!(
            "--namespaces translate needs tier btf: agents in other pid namespaces are refused"
        );
    }
    super::say(format_args!("ready"));
}

/// The last line on stderr, for people and for scripts.
fn summarize(totals: &Totals) {
    match serde_json::to_string(totals) {
        Ok(totals) => super::say(format_args!("counters {totals}")),
        Err(error) => tracing::warn!("no counters: {error}"),
    }
}

/// Everything that was counted.
#[derive(Serialize)]
struct Totals {
    #[serde(flatten)]
    observer: Counters,
    /// Events that stdout's reader was too slow for.
    stdout_lost: u64,
    #[serde(flatten)]
    audit: Counts,
}

/// The parts that an event passes, in this order.
struct Daemon {
    /// Finds events. Its socket is removed when it is dropped.
    observer: Observer,
    /// Takes the forgeries down, if asked to.
    trail: Option<Trail>,
    /// Formats events, one at a time.
    sink: Sink,
    /// Takes them away; makes nobody wait.
    output: Output,
    failure: Failure,
    watch: Watch,
    tick: Interval,
}

impl Daemon {
    fn new(args: &Run, mut observer: Observer, trail: Option<Trail>) -> anyhow::Result<Self> {
        announce(args, &observer);
        if let Some(handle) = trail.as_ref().map(Trail::handle) {
            observer.on_refusal(Box::new(move |incident| handle.incident(incident)));
        }
        let format = if args.json() {
            Format::Json
        } else {
            Format::Human {
                color: Stdout::color(),
            }
        };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (output, failure) = Output::start()?;
        Ok(Self {
            watch: Watch::begin(&observer, trail.as_ref()),
            observer,
            trail,
            sink: Sink::new(format),
            output,
            failure,
            tick,
        })
    }

    /// Passes events on until asked to stop, then empties what is waiting.
    async fn serve(&mut self, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                signal = shutdown.requested() => {
                    tracing::info!("{signal}: stopping");
                    return self.drain().await;
                }
                error = self.failure.happened() => return Err(stdout_failed(error)),
                _ = self.tick.tick() => self.look(),
                result = poll_fn(|cx| {
                    collect(&mut self.observer, self.trail.as_ref(), &mut self.sink, &mut self.output, cx)
                }) => result?,
            }
            // Signals are noticed only when the runtime has its turn, which
            // a socket that is never empty would deny it.
            tokio::task::yield_now().await;
        }
    }

    fn look(&mut self) {
        let Self {
            observer,
            trail,
            output,
            watch,
            ..
        } = self;
        watch.look(&observer.counters(), output.lost(), trail.as_ref());
    }

    /// Takes what has been received already, for [`DRAIN_TIME`] at most: a
    /// sender that never pauses must not keep the observer alive.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now().checked_add(DRAIN_TIME);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) && self.take_waiting() {}
        match self.output.drain(&mut self.failure, DRAIN_TIME).await {
            Ok(0) => Ok(()),
            Ok(left) => bail!("stdout is not being read: {left} bytes of events are lost"),
            Err(error) => Err(stdout_failed(error)),
        }
    }

    /// One batch without waiting; whether there may be more.
    fn take_waiting(&mut self) -> bool {
        for _ in 0..BATCH {
            let Some(event) = self.observer.poll() else {
                return false;
            };
            let Self {
                observer,
                trail,
                sink,
                output,
                ..
            } = self;
            pass_on(&event, observer, trail.as_ref(), sink, output);
        }
        true
    }

    /// Closes the trail and says what was counted.
    fn end(mut self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        self.look();
        let kept = self.trail.as_ref().map(Trail::counts).unwrap_or_default();
        let closed = close_trail(self.trail.take(), &result);
        summarize(&Totals {
            observer: self.observer.counters(),
            stdout_lost: self.output.lost(),
            audit: *closed.as_ref().unwrap_or(&kept),
        });
        result.and(closed.map(drop))
    }
}

/// Waits for events and passes on those that are there.
fn collect(
    observer: &mut Observer,
    trail: Option<&Trail>,
    sink: &mut Sink,
    output: &mut Output,
    cx: &mut Context<'_>,
) -> Poll<anyhow::Result<()>> {
    for taken in 0..BATCH {
        match Pin::new(&mut *observer).poll_next(cx) {
            Poll::Ready(Some(event)) => pass_on(&event, observer, trail, sink, output),
            Poll::Ready(None) => return Poll::Ready(Err(anyhow!("the event stream ended"))),
            Poll::Pending if taken == 0 => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    output.flush();
    Poll::Ready(Ok(()))
}

/// To the trail first: it is the one that has to prove something.
fn pass_on(
    event: &Event,
    observer: &Observer,
    trail: Option<&Trail>,
    sink: &mut Sink,
    output: &mut Output,
) {
    if let Some(trail) = trail {
        trail.event(event, observer.last_frame());
    }
    sink.event(event);
    output.push(sink.buffer());
    sink.buffer().clear();
}

fn stdout_failed(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => anyhow!("stdout was closed by its reader"),
        _ => anyhow!(error).context("cannot write events to stdout"),
    }
}
