//! How a trail is kept.

use std::path::PathBuf;
use std::time::Duration;

/// How a trail is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file that lines are appended to. Rotated files lie beside it, with
    /// the number of their first line added to the name.
    pub file: PathBuf,
    /// The key file on this host, made by [`generate`](crate::generate). It is
    /// replaced at every seal, so its folder must be writable.
    pub key: PathBuf,
    /// How soon after it was written a line is on the disk; `None`: with the
    /// next seal.
    pub sync_after: Option<Duration>,
    /// How soon after its first incident an epoch is sealed.
    pub seal_after: Duration,
    /// How long an epoch without incidents lasts: seals at regular times show
    /// where a trail was cut.
    pub heartbeat: Duration,
    /// A file of this size, in bytes, is rotated at the next seal.
    pub rotate_bytes: u64,
    /// How many rotated files are kept.
    pub keep: usize,
    /// How many incidents wait at most for the writer.
    pub queue: usize,
    /// Where the unified cgroup hierarchy is mounted: the kernel's cgroup ids
    /// are resolved to paths below it. `None`: no cgroups are named.
    pub cgroup_mount: Option<PathBuf>,
    /// Release of the running kernel, for the `start` line; empty if unknown.
    pub kernel: String,
}

impl Options {
    /// The defaults: on disk within 100 ms, sealed within a second, a seal a
    /// minute when nothing happens, 16 files of 64 MiB, 8192 in the queue;
    /// nothing known of cgroups and kernel.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            key: key.into(),
            sync_after: Some(Duration::from_millis(100)),
            seal_after: Duration::from_secs(1),
            heartbeat: Duration::from_mins(1),
            rotate_bytes: 64 << 20,
            keep: 16,
            queue: 8192,
            cgroup_mount: None,
            kernel: String::new(),
        }
    }
}
