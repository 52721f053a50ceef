//! The observer's own pid namespace.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`,
/// `include/linux/proc_ns.h`).
pub(super) const INITIAL_PID_NS: u64 = 0xEFFF_FFFC;

/// Inode of the initial user namespace (`PROC_USER_INIT_INO`, likewise).
pub(super) const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;

/// A pid namespace as its file under `/proc` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidNamespace {
    /// Inode of the namespace (`ns_common.inum`, 32 bits in the kernel).
    pub inode: u32,
    /// Device of the `nsfs` file system, encoded as
    /// `bpf_get_ns_current_pid_tgid` compares it.
    pub device: u64,
}

impl PidNamespace {
    /// The namespace of the calling process.
    ///
    /// # Errors
    /// If `/proc/self/ns/pid` cannot be read: `/proc` is not mounted, or is
    /// that of another pid namespace.
    pub fn of_self() -> io::Result<Self> {
        let stat = rustix::fs::stat(Path::new("/proc/self/ns/pid"))?;
        let inode = u32::try_from(stat.st_ino).map_err(io::Error::other)?;
        Ok(Self {
            inode,
            device: stat.st_dev,
        })
    }

    /// Whether it is the one that all others are below.
    pub(super) fn is_initial(&self) -> bool {
        u64::from(self.inode) == INITIAL_PID_NS
    }
}

/// Whether this process is in the initial user namespace; `None`: `/proc` does
/// not say.
pub(super) fn in_initial_user_namespace() -> Option<bool> {
    inode("/proc/self/ns/user").map(|inode| inode == INITIAL_USER_NS)
}

/// Inode of the namespace that a file names.
pub(super) fn inode(path: impl AsRef<Path>) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}
