//! The file that a process executes, as /proc shows it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use observer_events::exe::{Device, ExeId, Place};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;

/// Longest path that the kernel shows (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// How much of `mountinfo` is read, in bytes: a process chooses how many mounts
/// there are in its own mount namespace, and what they are called.
const MAX_MOUNTS: u64 = 1 << 20;

/// What a process executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exe {
    pub(super) path: String,
    /// Where the file lies, if that could be found out.
    pub(super) place: Option<ExePlace>,
}

/// Where an executable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExePlace {
    pub(super) inode: u64,
    /// `None`: the mount is not shown. A file in memory has none, and one that
    /// was unmounted is in no mount namespace any more.
    pub(super) device: Option<Device>,
}

impl Exe {
    /// Opens the file, so that path and place are of one file though the process
    /// executes another meanwhile. A network file system may ask its server then,
    /// and hold the helper up as its memory can.
    pub(super) fn read(folder: &OwnedFd) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(file) = openat(folder, "exe", flags, Mode::empty()) else {
            return Ok(Self {
                path: link(folder, "exe")?,
                place: None,
            });
        };
        let opened = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
        Ok(Self {
            path: link(CWD, &opened)?,
            place: ExePlace::of(&file, folder),
        })
    }
}

impl ExePlace {
    pub(super) fn id(self) -> Option<ExeId> {
        let Self { inode, device } = self;
        device.map(|device| ExeId { device, inode })
    }

    /// Whether it is another file than this one; `None`: the inode is the same,
    /// and the device is not known.
    pub(super) fn is_other(self, file: ExeId) -> Option<bool> {
        if self.inode != file.inode {
            return Some(true);
        }
        self.device.map(|device| device != file.device)
    }

    /// By the mounts of the observer, and by those of the process, which may be
    /// in a mount namespace of its own.
    fn of(file: &OwnedFd, folder: &OwnedFd) -> Option<Self> {
        let place = Place::of(file).ok()?;
        let device = |folder: BorrowedFd<'_>, name| {
            let mounts = openat(
                folder,
                name,
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let mut text = Vec::new();
            let mounts = File::from(mounts.ok()?);
            mounts.take(MAX_MOUNTS).read_to_end(&mut text).ok()?;
            place.device(&text)
        };
        Some(Self {
            inode: place.inode,
            device: device(CWD, "/proc/thread-self/mountinfo")
                .or_else(|| device(folder.as_fd(), "mountinfo")),
        })
    }
}

fn link(folder: impl AsFd, name: &str) -> Result<String, Errno> {
    let path = readlinkat(folder, name, Vec::with_capacity(MAX_PATH))?;
    Ok(path.to_string_lossy().into_owned())
}
