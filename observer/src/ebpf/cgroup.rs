//! The root of the unified cgroup hierarchy, where the program for UDP is
//! attached.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, fstat, fstatfs, open, statx};
use rustix::io::Errno;
use thiserror::Error;

/// Inode of the hierarchy's root: `kernfs` numbers its nodes from 1
/// (`__kernfs_new_node`, `fs/kernfs/dir.c`). What a cgroup namespace or a bind
/// mount shows as root is a node further down.
const ROOT_INODE: u64 = 1;

/// `CGROUP2_SUPER_MAGIC` (`include/uapi/linux/magic.h`)
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// Why there is no cgroup to attach to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// No cgroup2 file system is mounted.
    #[error("no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup)")]
    NotMounted,
    /// The directory or the table of mounts cannot be read.
    #[error("cannot open {path}: {error}")]
    Unreadable {
        /// What was to be opened.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The directory is no cgroup of the unified hierarchy.
    #[error("{0} is no cgroup2 directory")]
    NotACgroup(PathBuf),
}

/// An open cgroup directory.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
    path: PathBuf,
    inode: u64,
}

impl Cgroup {
    /// Opens the cgroup that was named, or the root that is mounted.
    ///
    /// # Errors
    /// If it cannot be opened, is no cgroup, or none is mounted.
    pub fn open(named: Option<&Path>) -> Result<Self, CgroupError> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => mounted()?,
        };
        Self::open_directory(&path).map_err(|error| match error {
            None => CgroupError::NotACgroup(path.clone()),
            Some(error) => CgroupError::Unreadable {
                path: path.clone(),
                error,
            },
        })
    }

    fn open_directory(path: &Path) -> Result<Self, Option<io::Error>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let system = |errno: Errno| Some(errno.into());
        let directory = open(path, flags, Mode::empty()).map_err(system)?;
        let kind = fstatfs(&directory).map_err(system)?.f_type;
        if u64::try_from(kind) != Ok(CGROUP2_MAGIC) {
            return Err(None);
        }
        let inode = fstat(&directory).map_err(system)?.st_ino;
        Ok(Self {
            directory,
            path: path.to_owned(),
            inode,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it holds every process of the host. Senders outside of it are
    /// not seen.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.inode == ROOT_INODE
    }

    /// Inode of the directory, which is the id that the kernel gives the cgroup.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Where the hierarchy is mounted from its root, or from that of the cgroup
    /// namespace: what `/proc` says of cgroups is below it.
    pub(super) fn shown_whole() -> Option<PathBuf> {
        let mounts = mounts().ok()?;
        let mut cgroups = mounts.split(|&byte| byte == b'\n').filter_map(parse);
        Some(cgroups.find(|mount| mount.is_whole)?.point)
    }

    /// The directory at which the file system that it lies in is mounted: all
    /// cgroups that can be found by their ids from here are below it.
    ///
    /// # Errors
    /// If the table of mounts cannot be read or does not have it, or the
    /// kernel does not number mounts (Linux before 5.8).
    pub fn mount_point(&self) -> Result<PathBuf, CgroupError> {
        let flags = AtFlags::EMPTY_PATH;
        let status = statx(&self.directory, "", flags, StatxFlags::MNT_ID).map_err(|errno| {
            CgroupError::Unreadable {
                path: self.path.clone(),
                error: errno.into(),
            }
        })?;
        let has_id = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID);
        let found = if has_id {
            find_by_id(&mounts()?, status.stx_mnt_id)
        } else {
            None
        };
        found.ok_or(CgroupError::NotMounted)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The first cgroup2 mount whose own root is the hierarchy's, else the first.
fn mounted() -> Result<PathBuf, CgroupError> {
    find(&mounts()?).ok_or(CgroupError::NotMounted)
}

fn mounts() -> Result<Vec<u8>, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    fs::read(path).map_err(|error| CgroupError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

fn find(mounts: &[u8]) -> Option<PathBuf> {
    let mut cgroups = mounts.split(|&byte| byte == b'\n').filter_map(parse);
    let first = cgroups.next()?;
    if first.is_whole {
        return Some(first.point);
    }
    let whole = cgroups.find(|mount| mount.is_whole);
    Some(whole.unwrap_or(first).point)
}

fn find_by_id(mounts: &[u8], id: u64) -> Option<PathBuf> {
    let mut cgroups = mounts.split(|&byte| byte == b'\n').filter_map(parse);
    Some(cgroups.find(|mount| mount.id == id)?.point)
}

/// A cgroup2 mount.
struct Mount {
    /// As `statx` numbers it.
    id: u64,
    point: PathBuf,
    /// It shows the hierarchy from its root, or from the root of the cgroup
    /// namespace.
    is_whole: bool,
}

/// One line: `ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE
/// OPTIONS` (`proc_pid_mountinfo(5)`).
fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let (before, after) =
        fields.split_at_checked(fields.iter().position(|field| *field == b"-")?)?;
    if after.get(1) != Some(&b"cgroup2".as_slice()) {
        return None;
    }
    Some(Mount {
        id: str::from_utf8(before.first()?).ok()?.parse().ok()?,
        point: PathBuf::from(OsString::from_vec(unescape(before.get(4)?))),
        is_whole: before.get(3) == Some(&b"/".as_slice()),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits
/// (`mangle_path`, `fs/seq_file.c`).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(byte));
        rest = match escaped {
            Some(_) => tail.get(3..).unwrap_or_default(),
            None => tail,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 /some/slice /mnt/a\\040b rw,relatime shared:7 - cgroup2 cgroup2 rw
42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn the_mount_that_shows_all_is_preferred() {
        assert_eq!(find(HYBRID), Some("/sys/fs/cgroup/unified".into()));
        let partial = HYBRID.split(|&byte| byte == b'\n').nth(1).unwrap();
        assert_eq!(find(partial), Some("/mnt/a b".into()));
    }

    #[test]
    fn a_mount_is_found_by_its_id() {
        assert_eq!(find_by_id(HYBRID, 41), Some("/mnt/a b".into()));
        assert_eq!(
            find_by_id(HYBRID, 42),
            Some("/sys/fs/cgroup/unified".into())
        );
        // No cgroup2 mount, and none at all.
        assert_eq!(find_by_id(HYBRID, 40), None);
        assert_eq!(find_by_id(HYBRID, 43), None);
    }

    /// The mount of a directory somewhere below it is the same, and the paths
    /// of cgroups with it.
    #[test]
    fn a_cgroup_below_the_root_has_the_mount_of_the_root() {
        let Ok(root) = Cgroup::open(None) else {
            return;
        };
        assert_eq!(root.mount_point().expect("it is mounted"), root.path());
        let entries = fs::read_dir(root.path()).expect("it is readable");
        let below = entries.flatten().map(|entry| entry.path());
        for path in below.filter(|path| path.is_dir()) {
            let Ok(cgroup) = Cgroup::open(Some(&path)) else {
                // It was removed meanwhile.
                continue;
            };
            assert_eq!(cgroup.mount_point().expect("it is mounted"), root.path());
        }
    }

    #[test]
    fn what_is_no_cgroup2_mount_is_passed_over() {
        for line in [
            "",
            "-",
            "41 31 0:38 / /x rw",
            "a - cgroup2 x y",
            "1 2 3 / /x rw - cgroup c rw",
        ] {
            assert_eq!(find(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn a_directory_of_another_kind_is_refused() {
        let error = Cgroup::open(Some(Path::new("/proc"))).expect_err("no cgroup");
        assert!(matches!(error, CgroupError::NotACgroup(_)), "{error}");
        let error = Cgroup::open(Some(Path::new("/nowhere"))).expect_err("not there");
        assert!(matches!(error, CgroupError::Unreadable { .. }), "{error}");
    }
}
