//! Which container or systemd unit a cgroup id stands for.
//!
//! The id in the kernel's record is that of a kernfs node; on 64-bit kernels it
//! is also the inode number of the cgroup's folder (`kernfs_get_inode`,
//! `fs/kernfs/inode.c`, Linux 6.12), and no other cgroup gets it while the host
//! runs (`__kernfs_new_node`, `fs/kernfs/dir.c`: a generation in its upper
//! half). So a cgroup is a folder whose inode is the id. It is looked for at the
//! path that /proc shows, and then in all folders, at a bounded rate.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cooldown::Cooldown;

/// Cgroups remembered at most.
const MAX_KNOWN: usize = 1024;
/// Folders that one walk looks at, at most.
const MAX_WALK: usize = 20_000;
/// How often all folders are walked at most: a walk takes long, and a flood of
/// short-lived cgroups must not keep a helper at it.
const WALK_EVERY: Duration = Duration::from_secs(1);

/// A cgroup by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Container {
    /// Path below the mount of the unified hierarchy.
    pub(super) cgroup: String,
    /// The systemd unit that it belongs to.
    unit: Option<String>,
    /// The container's id, where a runtime put it into the path.
    id: Option<String>,
}

impl Container {
    fn new(cgroup: String) -> Self {
        let parts = || cgroup.rsplit('/');
        let unit = parts().find(|part| {
            let ending = part.rsplit_once('.').map(|(_, ending)| ending);
            matches!(ending, Some("service" | "scope"))
        });
        let (unit, id) = (unit.map(str::to_owned), parts().find_map(container_id));
        Self { cgroup, unit, id }
    }
}

/// 64 hexadecimal digits, alone or as in `docker-….scope`.
fn container_id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// Finds cgroups by id, and remembers them. What is known can be had without
/// waiting for a walk.
#[derive(Debug)]
pub(crate) struct Cgroups {
    mount: Option<PathBuf>,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    known: HashMap<u64, Container>,
    walk_cooldown: Cooldown,
}

impl Cgroups {
    /// Cgroups of the hierarchy that is mounted there; `None`: of none.
    pub(crate) fn new(mount: Option<PathBuf>) -> Self {
        Self {
            mount,
            memory: Mutex::new(Memory {
                known: HashMap::new(),
                walk_cooldown: Cooldown::new(WALK_EVERY),
            }),
        }
    }

    /// The cgroup with this id, if it was found before.
    pub(crate) fn known(&self, id: u64) -> Option<Container> {
        self.memory().known.get(&id).cloned()
    }

    /// Finds the cgroup with this id. `hint` is the path that /proc shows for a
    /// process in it.
    pub(crate) fn find(&self, id: u64, hint: Option<&str>) -> Option<Container> {
        if let Some(known) = self.known(id) {
            return Some(known);
        }
        let mount = self.mount.as_deref()?;
        let path = by_hint(mount, id, hint).or_else(|| self.walk(mount, id))?;
        let container = Container::new(path);
        self.memory().remember(id, container.clone());
        Some(container)
    }

    /// Looks at all folders, unless that was done a moment ago.
    fn walk(&self, mount: &Path, id: u64) -> Option<String> {
        let may_walk = self.memory().walk_cooldown.try_begin(Instant::now());
        may_walk.then(|| walk(mount, id)).flatten()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn remember(&mut self, id: u64, container: Container) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, container);
    }
}

/// A process outside of the observer's cgroup namespace has a path that leads
/// out of the mount (`cgroup_path_ns`, `kernel/cgroup/cgroup.c`), into any file
/// system.
fn by_hint(mount: &Path, id: u64, hint: Option<&str>) -> Option<String> {
    let hint = hint.filter(|hint| hint.split('/').all(|part| part != ".."))?;
    let folder = mount.join(hint.strip_prefix('/')?);
    let found = fs::symlink_metadata(folder).ok()?;
    (found.is_dir() && found.ino() == id).then(|| hint.to_owned())
}

/// Looks at the folders nearest the root first.
fn walk(mount: &Path, id: u64) -> Option<String> {
    if fs::symlink_metadata(mount).ok()?.ino() == id {
        return Some("/".into());
    }
    let mut waiting = VecDeque::from([mount.to_owned()]);
    let mut seen = 0_usize;
    while let Some(folder) = waiting.pop_front() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let folders = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for entry in folders {
            if entry.ino() == id {
                let path = entry.path();
                let path = path.strip_prefix(mount).ok()?;
                return Some(format!("/{}", path.to_string_lossy()));
            }
            seen = seen.saturating_add(1);
            if seen > MAX_WALK {
                return None;
            }
            waiting.push_back(entry.path());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_containers_are_known_by_the_path() {
        let id = "0123456789abcdef".repeat(4);
        let docker = Container::new(format!("/system.slice/docker-{id}.scope"));
        assert_eq!(docker.id.as_deref(), Some(id.as_str()));
        let pod = Container::new(format!(
            "/kubepods.slice/pod7.slice/cri-containerd-{id}.scope/init"
        ));
        assert_eq!(pod.id.as_deref(), Some(id.as_str()));
        let unit = Container::new("/system.slice/sshd.service".into());
        assert_eq!(
            (unit.unit.as_deref(), unit.id),
            (Some("sshd.service"), None)
        );
        assert_eq!(Container::new("/".into()).unit, None);
    }

    #[test]
    fn a_folder_is_found_by_its_inode_and_a_wrong_hint_is_not_believed() {
        let mount = tempfile::tempdir().unwrap();
        let deep = mount.path().join("a.slice/b.service");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(mount.path().join("other")).unwrap();
        let id = fs::metadata(&deep).unwrap().ino();
        let cgroups = Cgroups::new(Some(mount.path().to_owned()));
        assert_eq!(cgroups.known(id), None);
        let found = cgroups.find(id, Some("/other")).unwrap();
        assert_eq!(found.cgroup, "/a.slice/b.service");
        assert_eq!(found.unit.as_deref(), Some("b.service"));
        assert_eq!(cgroups.known(id), Some(found));
        cgroups.memory().known.clear();
        // The next walk must wait, so only the hint can answer now.
        assert_eq!(cgroups.find(id, Some("/other")), None);
        let outside = "/a.slice/../a.slice/b.service";
        assert_eq!(cgroups.find(id, Some(outside)), None);
        assert!(cgroups.find(id, Some("/a.slice/b.service")).is_some());
    }
}
