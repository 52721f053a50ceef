//! A network namespace of the benchmark's own, where it may set what it
//! likes: `net.unix.max_dgram_qlen` belongs to a network namespace
//! (`unix_sysctl_register`, `net/unix/sysctl_net_unix.c`).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

const QUEUE_LENGTH: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// Where everything takes place.
pub struct Arena {
    /// Inode of the namespace that must never be touched: the host's.
    host: u64,
    scratch: TempDir,
}

impl Arena {
    /// Leaves the host's namespace. All processes started later are in ours,
    /// and it ends with the last of them.
    pub fn enter() -> Result<Self> {
        let host = namespace()?;
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace needs root")?;
        let scratch = tempfile::Builder::new()
            .prefix("observer-bench-")
            .tempdir()?;
        tidy_up_at_signals(scratch.path().to_owned())?;
        let arena = Self { host, scratch };
        // For the metrics of whoever serves them.
        let status = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .context("cannot start ip, of Debian's package iproute2")?;
        ensure!(status.success(), "ip failed ({status})");
        Ok(arena)
    }

    /// Datagrams that a Unix socket made from now on holds, minus one
    /// (`unix_recvq_full`, `net/unix/af_unix.c`).
    pub fn set_queue_length(&self, length: u32) -> Result<()> {
        ensure!(namespace()? != self.host, "this is the host's namespace");
        fs::write(QUEUE_LENGTH, length.to_string()).context(QUEUE_LENGTH)?;
        let set = fs::read_to_string(QUEUE_LENGTH)?;
        ensure!(set.trim() == length.to_string(), "{QUEUE_LENGTH} is {set}");
        Ok(())
    }

    /// A place for files that goes with the benchmark.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A path for a socket there, short enough for one.
    pub fn socket(&self) -> PathBuf {
        self.scratch().join("s")
    }
}

/// Leaves nothing behind after a signal to end either: what is in the scratch
/// directory is removed, and the kernel ends our children with us.
fn tidy_up_at_signals(scratch: PathBuf) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Programs inherit this: `die_with_parent` undoes it for those that run.
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait().expect("signals to wait for");
        drop(fs::remove_dir_all(scratch));
        // As a shell reports it.
        process::exit(128 + signal as i32);
    });
    Ok(())
}

fn namespace() -> Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net")?.ino())
}
