//! How many system calls a process makes: `perf stat` counts the kernel's
//! trace point `raw_syscalls:sys_enter` for its threads. Unlike strace it does
//! not stop the process at each, so that batches stay as long as they are. It
//! still makes each call slower, so this is done in runs of its own whose
//! times are not used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::progress;
use crate::receiver::{die_with_parent, wait};

/// For perf to attach itself; nothing is sent meanwhile.
const ATTACHES: Duration = Duration::from_millis(400);

/// A running `perf stat`; killed by its own pid when dropped.
pub struct Count {
    perf: Child,
    output: PathBuf,
}

impl Count {
    /// Begins to count; `None` where that cannot be done.
    pub fn start(pid: u32, scratch: &Path) -> Result<Option<Self>> {
        let output = scratch.join("perf.csv");
        let mut command = Command::new("perf");
        command
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter"])
            .args(["-p", &pid.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        let Ok(perf) = command.spawn() else {
            progress("no system calls are counted: there is no perf");
            return Ok(None);
        };
        let mut count = Self { perf, output };
        thread::sleep(ATTACHES);
        if let Some(status) = count.perf.try_wait()? {
            progress(&format!(
                "no system calls are counted: perf ended ({status})"
            ));
            return Ok(None);
        }
        Ok(Some(count))
    }

    /// What it has counted.
    pub fn stop(mut self) -> Result<u64> {
        kill(Pid::from_raw(self.perf.id().try_into()?), Signal::SIGINT)?;
        wait(&mut self.perf)?;
        let output = fs::read_to_string(&self.output)?;
        let line = output.lines().find(|line| line.contains("sys_enter"));
        let line = line.with_context(|| format!("perf printed {output:?}"))?;
        let count = line.split(',').next().context("a column")?;
        count
            .parse()
            .with_context(|| format!("perf printed {line:?}"))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        drop(self.perf.kill());
        drop(self.perf.wait());
    }
}
