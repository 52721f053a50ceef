//! `observer run`: from the socket to stdout until told to stop.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use futures_core::Stream as _;
use observer::attest::{probe, tier_name};
use observer::event::Via;
use observer::judge::Namespaces;
use observer::sinks::{Format, Sink};
use observer::{Counters, Observer, StartError};

use super::args::Run;
use super::signals::Shutdown;
use super::stdout::Stdout;

/// Events that are collected before they are written.
const BATCH: usize = 256;
/// How long the end may take: reading what waits in the socket, and writing
/// it to stdout.
const DRAIN_TIME: Duration = Duration::from_secs(2);

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
    let observer = bind(args)?;
    announce(args, &observer);
    let format = if args.json() {
        Format::Json
    } else {
        Format::Human {
            color: Stdout::color(),
        }
    };
    let mut daemon = Daemon {
        observer,
        sink: Sink::new(format),
        stdout: Stdout::new(),
    };
    let result = daemon.serve(&mut shutdown).await;
    summarize(&daemon.observer.counters());
    result
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
fn summarize(counters: &Counters) {
    match serde_json::to_string(counters) {
        Ok(counters) => super::say(format_args!("counters {counters}")),
        Err(error) => tracing::warn!("no counters: {error}"),
    }
}

/// The parts that an event passes, in this order.
struct Daemon {
    /// Finds events. Its socket is removed when it is dropped.
    observer: Observer,
    /// Formats them; holds what is not yet written. Kept through shutdown,
    /// so that a batch cut short by a signal still goes out.
    sink: Sink,
    /// Takes them away. May make the others wait.
    stdout: Stdout,
}

impl Daemon {
    /// Passes events on until asked to stop, then empties what is waiting.
    async fn serve(&mut self, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                signal = shutdown.requested() => {
                    tracing::info!("{signal}: stopping");
                    return self.drain().await;
                }
                result = self.pass_on() => result?,
            }
            // Signals are noticed only when the runtime has its turn, which
            // a socket that is never empty would deny it.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for events and writes those that are there in one go.
    async fn pass_on(&mut self) -> anyhow::Result<()> {
        poll_fn(|cx| self.collect(cx)).await?;
        self.write().await
    }

    fn collect(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Result<()>> {
        for taken in 0..BATCH {
            match Pin::new(&mut self.observer).poll_next(cx) {
                Poll::Ready(Some(event)) => self.sink.event(&event),
                Poll::Ready(None) => return Poll::Ready(Err(anyhow!("the event stream ended"))),
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let Self {
            observer: _,
            sink,
            stdout,
        } = self;
        stdout
            .write_all(sink.buffer())
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => anyhow!("stdout was closed by its reader"),
                _ => anyhow!(error).context("cannot write events to stdout"),
            })
    }

    /// Takes what has been received already, for [`DRAIN_TIME`] at most: a
    /// sender that never pauses must not keep the observer alive.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now().checked_add(DRAIN_TIME);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) {
            let more = self.take_waiting();
            if tokio::time::timeout(DRAIN_TIME, self.write())
                .await
                .is_err()
            {
                let left = self.sink.buffer().len();
                bail!("stdout is not being read: {left} bytes of events are lost");
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// One batch without waiting; whether there may be more.
    fn take_waiting(&mut self) -> bool {
        for _ in 0..BATCH {
            match self.observer.poll() {
                Some(event) => self.sink.event(&event),
                None => return false,
            }
        }
        true
    }
}
