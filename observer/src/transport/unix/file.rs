//! The socket file: what may be replaced by it, who may use it, and its end.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::SocketOptions;
use super::error::{BindError, FileKind, failed};
use super::path::Directory;

/// Sees to it that nothing stands at the path. What is removed is a socket
/// that nobody receives from, and nothing else.
///
/// The caller holds the lock, so no observer interferes. Another program
/// that puts its own socket there between probe and removal loses it; the
/// system has no call that would remove a certain inode only.
pub(super) fn remove_stale(
    directory: &Directory,
    name: &OsStr,
    path: &Path,
    address: &SocketAddrUnix,
) -> Result<(), BindError> {
    let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("look at", path)(errno)),
    };
    check_socket(path, &found)?;
    check_stale(path, address)?;
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove the stale socket", path)(errno)),
    }
}

fn check_socket(path: &Path, found: &Stat) -> Result<(), BindError> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => return Ok(()),
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::File,
    };
    let path = path.to_owned();
    Err(BindError::NotASocket { path, kind })
}

/// Connecting does not wait, however full the receiver's queue is
/// (`unix_dgram_connect`, `net/unix/af_unix.c`), sends nothing, and is
/// refused if nobody receives there.
fn check_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|error| BindError::Create(error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // EPROTOTYPE: a live socket of another type; EPERM: a live one that
        // takes datagrams of one peer only (`unix_may_send`).
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN | Errno::PERM) => {
            Err(BindError::InUse(path.to_owned()))
        }
        Err(Errno::ACCESS) => Err(BindError::NotOurs(path.to_owned())),
        Err(errno) => Err(failed("probe", path)(errno)),
    }
}

/// The socket file, as it was made. Goes away with this value.
#[derive(Debug)]
pub(super) struct SocketFile(Made);

#[derive(Debug)]
struct Made {
    directory: Arc<Directory>,
    name: OsString,
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Takes charge of the file that was just made, and gives it its group
    /// and at last its mode. The caller holds the lock.
    ///
    /// It is opened once (`O_PATH | O_NOFOLLOW`) and found to be a socket:
    /// whoever may write to the directory cannot have another file changed in
    /// its place.
    pub(super) fn take(
        directory: &Arc<Directory>,
        name: &OsStr,
        options: &SocketOptions,
    ) -> Result<Self, BindError> {
        let SocketOptions { path, mode, group } = options;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(failed("open", path))?;
        let found = rustix::fs::fstat(&opened).map_err(failed("look at", path))?;
        check_socket(path, &found)?;
        let made = Made {
            directory: Arc::clone(directory),
            name: name.to_owned(),
            path: path.clone(),
            device: found.st_dev,
            inode: found.st_ino,
        };
        let finished =
            set_group(&opened, path, *group).and_then(|()| set_mode(&opened, path, *mode));
        match finished {
            Ok(()) => Ok(Self(made)),
            Err(error) => {
                made.remove();
                Err(error)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        let Self(made) = self;
        &made.path
    }
}

impl Made {
    /// Removes the file if it is still this one. The caller holds the lock, if
    /// it can be had.
    fn remove(&self) {
        if let Err(error) = self.try_remove()
            && error != Errno::NOENT
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }

    fn try_remove(&self) -> Result<(), Errno> {
        let Self {
            directory,
            name,
            path: _,
            device,
            inode,
        } = self;
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (found.st_dev, found.st_ino) == (*device, *inode) {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    /// Between look and removal another observer could put its own file
    /// there; it takes the lock for that, so this does too. If another process
    /// of this user keeps the lock, the file is removed without.
    fn drop(&mut self) {
        let Self(made) = self;
        let _lock = made.directory.lock(&made.name);
        made.remove();
    }
}

fn set_group(opened: &OwnedFd, path: &Path, group: Option<u32>) -> Result<(), BindError> {
    let failed = failed("change the group of", path);
    match group {
        None => Ok(()),
        // To chown it means "leave it as it is".
        Some(u32::MAX) => Err(failed(Errno::INVAL)),
        Some(group) => {
            let group = Some(Gid::from_raw(group));
            rustix::fs::chownat(opened, "", None, group, AtFlags::EMPTY_PATH).map_err(failed)
        }
    }
}

/// `fchmod` refuses such a descriptor and `fchmodat2` came with Linux 6.6;
/// the link in procfs leads to the very inode on every kernel.
fn set_mode(opened: &OwnedFd, path: &Path, mode: u32) -> Result<(), BindError> {
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    rustix::fs::chmod(link, Mode::from_bits_truncate(mode))
        .map_err(failed("change the mode of", path))
}
