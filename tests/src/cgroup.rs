//! A cgroup of the test's own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use crate::bpf;

/// A cgroup that goes with the test.
pub struct Cgroup(PathBuf);

impl Default for Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Cgroup {
    /// Makes one at the root of the hierarchy.
    ///
    /// # Panics
    /// If the host has no cgroup2.
    #[must_use]
    pub fn new() -> Self {
        Self::named("test")
    }

    /// Makes one of several.
    ///
    /// # Panics
    /// As [`Cgroup::new`].
    #[must_use]
    pub fn named(name: &str) -> Self {
        let root = mount("cgroup2", None);
        let name = format!("observer-{name}-{}", process::id());
        let folder = root.expect("a mount of cgroup2").join(name);
        fs::create_dir(&folder).expect("root may");
        Self(folder)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Moves a process into it.
    pub fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root may");
    }

    /// Has its processes stand still, or go on.
    ///
    /// # Panics
    /// If they do not within a second.
    pub fn freeze(&self, is_frozen: bool) {
        let value = u8::from(is_frozen).to_string();
        fs::write(self.0.join("cgroup.freeze"), &value).expect("root may");
        let state = format!("frozen {value}");
        for _ in 0..1000 {
            let events = fs::read_to_string(self.0.join("cgroup.events")).expect("text");
            if events.lines().any(|line| line == state) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("{state}: no");
    }

    /// Attaches a program to what its processes send that lets everything pass,
    /// and no other program in. It goes with the cgroup.
    pub fn close_to_other_programs(&self) {
        let program = bpf::pass_all();
        let folder = File::open(&self.0).expect("ours");
        bpf::attach_exclusively(&folder, &program).expect("root may");
    }

    /// A program that will start in it. A socket belongs to the cgroup that
    /// its process was in when it was made (`cgroup_sk_alloc`,
    /// `kernel/cgroup/cgroup.c`).
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &enter, "sh"]).arg(program);
        shell
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a cgroup, once the kernel has buried its last process.
pub(crate) fn remove(folder: &Path) {
    for _ in 0..100 {
        if fs::remove_dir(folder).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where a hierarchy is mounted, of those with a controller the one that has it.
#[must_use]
pub fn mount(kind: &str, controller: Option<&str>) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let [_, at, is_kind, options, ..] = *line.split(' ').collect::<Vec<_>>() else {
            return None;
        };
        let has = |wanted| options.split(',').any(|option| option == wanted);
        (is_kind == kind && controller.is_none_or(has)).then(|| PathBuf::from(at))
    })
}
