//! What a process has used, as the kernel counts it.

use std::fs;

use anyhow::{Context as _, Result};

/// Totals of all living threads of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a CPU, in nanoseconds: the first field of each thread's
    /// `schedstat`. Exact once the threads sleep; up to a tick behind of one
    /// that runs.
    pub cpu_ns: u64,
    /// How often a thread went to sleep of its own accord, and thus was woken
    /// up: `voluntary_ctxt_switches`.
    pub wakeups: u64,
}

impl Usage {
    /// Of this process until now.
    pub fn of(pid: u32) -> Result<Self> {
        let mut usage = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let folder = thread?.path();
            // A thread may end between the listing and this.
            let Ok(schedstat) = fs::read_to_string(folder.join("schedstat")) else {
                continue;
            };
            let status = fs::read_to_string(folder.join("status"))?;
            usage.cpu_ns += number(schedstat.split(' ').next())?;
            usage.wakeups += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(usage)
    }

    /// What was used after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
        }
    }
}

/// Memory of a process that is in RAM now, in KiB.
pub fn rss_kib(pid: u32) -> Result<u64> {
    field(
        &fs::read_to_string(format!("/proc/{pid}/status"))?,
        "VmRSS:",
    )
}

fn field(status: &str, name: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    number(
        value
            .with_context(|| format!("no {name}"))?
            .split_whitespace()
            .next(),
    )
}

fn number(text: Option<&str>) -> Result<u64> {
    let text = text.context("a number is missing")?;
    text.parse().with_context(|| format!("{text:?}"))
}
