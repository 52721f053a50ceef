//! A bound on the CPU time of a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

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
        if let Some(root) = mount("cgroup", "cpu") {
            let folder = Self::make(&root.join(name));
            folder.set("cpu.cfs_period_us", period);
            folder.set("cpu.cfs_quota_us", &own);
            return Some(folder);
        }
        let root = mount("cgroup2", "")?;
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
        // It can be removed once the kernel has buried the last process.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where a hierarchy is mounted, with this controller as an option if there is
/// one to be.
fn mount(kind: &str, controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let [_, at, is_kind, options, ..] = *line.split(' ').collect::<Vec<_>>() else {
            return None;
        };
        let has = controller.is_empty() || options.split(',').any(|option| option == controller);
        (is_kind == kind && has).then(|| PathBuf::from(at))
    })
}
