//! Opening and closing the audit trail of `observer run`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use observer::{Cgroup, probe};
use observer_audit::{Counts, Options, Trail};

/// Opens a trail with these options, if there are any. The observer does not
/// run without a trail that was asked for.
///
/// # Errors
/// If the trail cannot be kept.
pub(crate) fn open(
    options: Option<Options>,
    cgroup: Option<&Path>,
) -> anyhow::Result<Option<Trail>> {
    let Some(mut options) = options else {
        return Ok(None);
    };
    options.cgroup_mount = cgroup_mount(cgroup);
    options.kernel = probe::kernel_release();
    let trail = Trail::open(&options).context("cannot keep an audit trail")?;
    tracing::info!("audit trail {} in {}", trail.name(), options.file.display());
    Ok(Some(trail))
}

/// Ends the trail with the reason.
///
/// # Errors
/// If it could not be written to its end in time.
pub(crate) fn close(
    trail: Option<Trail>,
    result: &anyhow::Result<()>,
    patience: Duration,
) -> anyhow::Result<Counts> {
    let Some(trail) = trail else {
        return Ok(Counts::default());
    };
    let reason = match result {
        Ok(()) => "stopped by a signal".into(),
        Err(error) => format!("{error:#}"),
    };
    Ok(trail.close(&reason, patience)?)
}

/// Where the hierarchy of the named cgroup, or else of all, is mounted: a
/// sender may be in a cgroup outside of the one that was named.
fn cgroup_mount(named: Option<&Path>) -> Option<PathBuf> {
    match Cgroup::open(named).and_then(|cgroup| cgroup.mount_point()) {
        Ok(mount) => Some(mount),
        Err(error) => {
            tracing::warn!("the audit trail will not name cgroups: {error}");
            None
        }
    }
}
