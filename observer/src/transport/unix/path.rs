//! Where the socket file goes: the path, taken apart and checked before any
//! system call, and the directory that holds the file.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::error::{BindError, failed};

/// The longest path of a socket: `sun_path` less its NUL.
pub(super) const MAX_PATH: usize = 107;

/// With [`LOCK_PAUSE`]: two seconds for another observer to finish its start.
const LOCK_TRIES: u32 = 200;

/// Pause between two tries to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The address to bind to: the file's whole path, without symbolic links, where
/// it fits. By that others find the socket in `/proc/net/unix`: systemd-tmpfiles
/// spares no file whose path is not there (`unix_socket_alive`,
/// `src/tmpfiles/tmpfiles.c`).
pub(super) fn address(
    given: &Path,
    directory: &Directory,
    name: &OsStr,
) -> Result<SocketAddrUnix, BindError> {
    let whole = directory.whole_path().map(|folder| folder.join(name));
    if let Some(whole) = &whole
        && whole.as_os_str().len() <= MAX_PATH
    {
        return as_given(whole);
    }
    let address = as_given(given)?;
    tracing::warn!(
        path = %given.display(),
        "the socket is bound by its path as it was given, for the whole one is unknown or has more \
         than {MAX_PATH} bytes: what clears old files away, as systemd-tmpfiles does, may remove it"
    );
    Ok(address)
}

/// The path as a socket address.
pub(super) fn as_given(path: &Path) -> Result<SocketAddrUnix, BindError> {
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
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(BindError::BadPath(path.to_owned()));
    }
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

    /// The path from the root, without symbolic links, of the directory that is
    /// open, whatever has become of the links that led to it. `None` if it
    /// cannot be told, as of one that was removed.
    fn whole_path(&self) -> Option<PathBuf> {
        let link = format!("/proc/self/fd/{}", self.opened.as_raw_fd());
        let whole = fs::read_link(link).ok()?;
        let there = rustix::fs::stat(&whole).ok()?;
        let ours = rustix::fs::fstat(&self.opened).ok()?;
        ((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)).then_some(whole)
    }

    /// Locks the name against other observers, as long as the result lives.
    ///
    /// The lock is on a file beside the socket that only the observer's own
    /// user can open: whoever may open the directory could lock that, and keep
    /// the observer from starting. The file goes with the lock; one that a
    /// crash left behind is taken over. A process of the same user can keep
    /// the lock, so waiting has an end.
    pub(super) fn lock(&self, name: &OsStr) -> Result<Lock<'_>, BindError> {
        let mut file = OsString::from(".");
        file.push(name);
        file.push(".lock");
        for _ in 0..LOCK_TRIES {
            if let Some(opened) = self.try_lock(&file, name)? {
                return Ok(Lock {
                    directory: self,
                    file,
                    _opened: opened,
                });
            }
            thread::sleep(LOCK_PAUSE);
        }
        Err(BindError::Locked(self.path.join(file)))
    }

    fn try_lock(&self, file: &OsStr, name: &OsStr) -> Result<Option<OwnedFd>, BindError> {
        let (path, locked) = (self.path.join(file), self.path.join(name));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = match rustix::fs::openat(self, file, flags, Mode::RUSR | Mode::WUSR) {
            Ok(opened) => opened,
            Err(errno) if self.is_in_the_way(file) => {
                return Err(BindError::NotOurLock(path, errno.into()));
            }
            Err(errno) => return Err(failed("lock", &locked)(errno)),
        };
        let ours = rustix::fs::fstat(&opened).map_err(failed("look at", &path))?;
        if !is_private(&ours) {
            return Err(BindError::NotOurLock(path, Errno::PERM.into()));
        }
        match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(failed("lock", &locked)(errno)),
        }
        // Whoever had the lock before may have removed the file since.
        let there = rustix::fs::statat(self, file, AtFlags::SYMLINK_NOFOLLOW);
        let is_there =
            there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino));
        Ok(is_there.then_some(opened))
    }

    fn is_in_the_way(&self, file: &OsStr) -> bool {
        rustix::fs::statat(self, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

/// An empty file of this user's that nobody else can open: nothing that is
/// anybody's loss if it goes.
fn is_private(file: &Stat) -> bool {
    FileType::from_raw_mode(file.st_mode) == FileType::RegularFile
        && file.st_uid == rustix::process::geteuid().as_raw()
        && Mode::from_raw_mode(file.st_mode) & (Mode::RWXG | Mode::RWXO) == Mode::empty()
        && file.st_size == 0
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

/// A locked name; it ends with this value.
#[must_use]
pub(super) struct Lock<'a> {
    directory: &'a Directory,
    file: OsString,
    _opened: OwnedFd,
}

impl Drop for Lock<'_> {
    /// The file goes first: whoever waits for it finds that out.
    fn drop(&mut self) {
        let Self {
            directory,
            file,
            _opened,
        } = self;
        match rustix::fs::unlinkat(&**directory, &*file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => {
                let path = directory.path.join(file);
                tracing::warn!(path = %path.display(), %error, "cannot remove the lock");
            }
        }
    }
}
