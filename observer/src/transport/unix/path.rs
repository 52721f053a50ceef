//! Where the socket file goes: the path, taken apart and checked before any
//! system call, and the directory that holds the file.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
    net::SocketAddrUnix,
};

use super::error::{BindError, failed};

/// The longest path of a socket: `sun_path` less its NUL.
pub(super) const MAX_PATH: usize = 107;

/// With [`LOCK_PAUSE`]: two seconds for another observer to finish its start.
const LOCK_TRIES: u32 = 200;

/// Pause between two tries to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The path as a socket address.
pub(super) fn address(path: &Path) -> Result<SocketAddrUnix, BindError> {
    let length = path.as_os_str().len();
    let path = path.to_owned();
    if length > MAX_PATH {
        return Err(BindError::PathTooLong { path, length });
    }
    // What is left to fail is a NUL in the path.
    SocketAddrUnix::new(&path).map_err(|_| BindError::BadPath(path))
}

/// The path's directory and the file's name in it.
pub(super) fn split(path: &Path) -> Result<(&Path, &OsStr), BindError> {
    let name = path.file_name();
    let (Some(directory), Some(name)) = (path.parent(), name) else {
        return Err(BindError::BadPath(path.to_owned()));
    };
    // `Path` overlooks a trailing "/" or "/.", which the kernel does not.
    let bytes = path.as_os_str().as_encoded_bytes();
    if !bytes.ends_with(name.as_encoded_bytes()) {
        return Err(BindError::BadPath(path.to_owned()));
    }
    let here = directory.as_os_str().is_empty();
    Ok((if here { Path::new(".") } else { directory }, name))
}

/// The directory of the socket file, held open: whatever becomes of the
/// working directory, the file is found again.
#[derive(Debug)]
pub(super) struct Directory {
    opened: OwnedFd,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, BindError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => BindError::NoDirectory(path.to_owned()),
            errno => failed("open the directory", path)(errno),
        })?;
        let path = path.to_owned();
        Ok(Self { opened, path })
    }

    /// Locks the directory against other observers, as long as the result
    /// lives. Such a lock leaves no file behind and dies with its process.
    ///
    /// Whoever may read the directory can hold one, so waiting has an end.
    pub(super) fn lock(&self) -> Result<DirectoryLock<'_>, BindError> {
        let Self { opened, path } = self;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DirectoryLock(self)),
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed("lock the directory", path)(errno)),
            }
        }
        Err(BindError::DirectoryLocked(path.clone()))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

/// A lock on a directory; it ends with this value.
#[must_use]
pub(super) struct DirectoryLock<'a>(&'a Directory);

impl Drop for DirectoryLock<'_> {
    fn drop(&mut self) {
        let Self(directory) = self;
        if let Err(error) = rustix::fs::flock(&directory.opened, FlockOperation::Unlock) {
            tracing::warn!(path = %directory.path.display(), %error, "cannot unlock the directory");
        }
    }
}
