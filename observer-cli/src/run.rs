//! `observer run`: sets everything up, and ends it in order.

use std::ffi::OsString;

use anyhow::Context as _;
use observer::{Observer, Waker, probe, tier_name};
use observer_events::event::Via;

use crate::config::Effective;
use crate::daemon::{DRAIN_TIME, Daemon};
use crate::flags::Run;
use crate::log::Log;
use crate::serve::Serving;
use crate::{priority, trail};

/// Runs until SIGTERM or SIGINT, after [`signals::prepare`](crate::signals::prepare).
/// `arguments` are read again when SIGHUP comes.
///
/// # Errors
/// [`observer::StartError`], or what went wrong later.
pub(crate) fn execute(
    args: &Run,
    effective: Effective,
    arguments: Vec<OsString>,
) -> anyhow::Result<()> {
    let log = Log::start(args.log())?;
    let result = observe(args, effective, arguments, &log);
    log.drain(DRAIN_TIME);
    result
}

fn observe(
    args: &Run,
    effective: Effective,
    arguments: Vec<OsString>,
    log: &Log,
) -> anyhow::Result<()> {
    let waker = Waker::new().context("cannot wait for other threads")?;
    // Before the socket exists: whoever sees it may already send a signal.
    let serving = Serving::open(&args.serve, arguments, &waker)?;
    // Of this thread only.
    priority::set(args.floods.priority)?;
    // And before the first forgery that it would have to record.
    let trail = trail::open(args.audit_options(), args.cgroup())?;
    let result = match args.builder().waker(&waker).bind() {
        Ok(observer) => {
            log_start(args, &observer);
            let mut daemon = Daemon::new(args, effective, log, observer, trail, serving, waker)?;
            log.write_line(format_args!("ready"));
            let result = daemon.serve();
            return daemon.end(result);
        }
        Err(error) => Err(error.into()),
    };
    trail::close(trail, &result, DRAIN_TIME)?;
    result
}

/// Logs what was started, and warns of tiers that are degraded.
fn log_start(args: &Run, observer: &Observer) {
    tracing::info!(
        "kernel {}, lockdown {}, tier {}, socket {}, mode {:04o}, threshold {} ms",
        probe::kernel_release(),
        probe::lockdown(),
        tier_name(observer.via()),
        args.socket().display(),
        args.socket_mode(),
        args.threshold_ms(),
    );
    if let Some(reason) = observer.degraded() {
        tracing::warn!("attestation degraded: {reason}");
    }
    if observer.via() == Via::Scm && args.floods.wants_program() {
        tracing::warn!(
            "no eBPF program is in use: beats come by the socket, no sender is throttled, and \
             forgeries are refused only after they have been received"
        );
    }
    for address in observer.udp_listeners() {
        tracing::info!("udp {address}, tier {}", tier_name(observer.udp_via()));
    }
    match observer.udp_degraded() {
        Some(reason) if observer.degraded() == Some(reason) => {
            tracing::warn!("attestation of udp degraded, for the same reason");
        }
        Some(reason) => tracing::warn!("attestation of udp degraded: {reason}"),
        None => {}
    }
    if args.translates_namespaces() && observer.via() != Via::Btf {
        tracing::warn!(
            "--namespaces translate needs tier btf: agents in other pid namespaces are refused"
        );
    }
}
