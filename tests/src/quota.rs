//! A bound on the CPU time of a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use crate::cgroup::{mount, remove};

/// A cgroup whose processes have so much CPU time; it goes with the test.
pub struct Quota(PathBuf);

impl Quota {
    /// So many milliseconds in each second. `None` where no hierarchy has the
    /// controller at its root: the test changes none that is not its own.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new(milliseconds: u64) -> Option<Self> {
        let name = format!("observer-quota-{}", process::id());
        let (own, period) = ((milliseconds * 1000).to_string(), "1000000");
        if let Some(root) = mount("cgroup", Some("cpu")) {
            let folder = Self::make(&root.join(name));
            folder.set("cpu.cfs_period_us", period);
            folder.set("cpu.cfs_quota_us", &own);
            return Some(folder);
        }
        let root = mount("cgroup2", None)?;
        let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).ok()?;
        if !enabled.split_whitespace().any(|name| name == "cpu") {
            return None;
        }
        let folder = Self::make(&root.join(name));
        folder.set("cpu.max", &format!("{own} {period}"));
        Some(folder)
    }

    fn make(folder: &Path) -> Self {
        fs::create_dir(folder).expect("root may");
        Self(folder.to_owned())
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).expect("root may");
    }

    /// Bounds a process.
    pub fn take(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        remove(&self.0);
    }
}
