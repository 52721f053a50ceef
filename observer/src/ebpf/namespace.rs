//! The observer's own pid namespace.

use std::io;
use std::path::Path;

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
}
