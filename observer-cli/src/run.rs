//! `observer run`: sets everything up, and takes it down in order.

pub(crate) mod flags;
mod priority;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use observer::{Cgroup, Observer, probe, tier_name};
use observer_audit::{Counts, Trail};
use observer_events::event::Via;

use self::flags::Run;
use super::daemon::Daemon;
use super::log::Log;
use super::serve::Serving;
use super::signals::Shutdown;

/// How long each part may take to come to its end: reading what waits in the
/// socket, writing it to stdout, closing the trail, writing the log.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`observer::StartError`], or what went wrong later.
pub(super) fn execute(args: &Run) -> anyhow::Result<()> {
    let log = Log::start()?;
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(observe(args, &log));
    log.drain(DRAIN_TIME);
    result
}

async fn observe(args: &Run, log: &Log) -> anyhow::Result<()> {
    // Before the socket exists: whoever sees it may already tell us to stop.
    let mut shutdown = Shutdown::new()?;
    priority::set(args.floods.priority)?;
    let serving = Serving::open(&args.serve)?;
    // And before the first forgery that it would have to keep.
    let trail = open_trail(args)?;
    let result = match args.builder().bind() {
        Ok(observer) => {
            announce(args, &observer);
            let mut daemon = Daemon::new(args, log, observer, trail, serving)?;
            log.say(format_args!("ready"));
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
    let Some(mut options) = args.audit_options() else {
        return Ok(None);
    };
    options.cgroup_mount = cgroup_mount(args.cgroup());
    options.kernel = probe::kernel_release();
    let trail = Trail::open(&options).context("cannot keep an audit trail")?;
    tracing::info!("audit trail {} in {}", trail.name(), options.file.display());
    Ok(Some(trail))
}

/// Where the hierarchy of the named cgroup, or else of all, is mounted: a
/// sender may be in a cgroup outside of the one that was named.
fn cgroup_mount(named: Option<&Path>) -> Option<PathBuf> {
    match Cgroup::open(named).and_then(|cgroup| cgroup.mount_point()) {
        Ok(mount) => Some(mount),
        Err(error) => {
            tracing::warn!("the audit trail names no cgroups: {error}");
            None
        }
    }
}

/// Ends the trail, saying why.
pub(super) fn close_trail(
    trail: Option<Trail>,
    result: &anyhow::Result<()>,
) -> anyhow::Result<Counts> {
    let Some(trail) = trail else {
        return Ok(Counts::default());
    };
    let reason = match result {
        Ok(()) => "told to stop".into(),
        Err(error) => format!("{error:#}"),
    };
    Ok(trail.close(&reason, DRAIN_TIME)?)
}

/// The start-up line, and a warning if senders are attested by less than the
/// best.
fn announce(args: &Run, observer: &Observer) {
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
        tracing::warn!("weaker attestation: {reason}");
    }
    if observer.via() == Via::Scm && args.floods.wants_program() {
        tracing::warn!(
            "no eBPF: beats come by the socket, nobody's rate is limited, and lies are refused \
             when they have been received"
        );
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
    if args.translates_namespaces() && observer.via() != Via::Btf {
        tracing::warn!(
            "--namespaces translate needs tier btf: agents in other pid namespaces are refused"
        );
    }
}
