//! The Unix datagram socket that agents send to.

mod error;
mod file;
mod path;

#[cfg(test)]
mod tests;

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};

pub use self::error::{BindError, FileKind};
use self::{
    error::failed,
    file::{SocketFile, remove_stale},
    path::Directory,
};

/// Where the socket is to be, and who may send to it.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Path of the socket file.
    pub path: PathBuf,
    /// Mode of the socket file; write permission lets a process send.
    pub mode: u32,
    /// Group of the socket file; `None`: the process's own.
    pub group: Option<u32>,
}

/// A socket that has no name yet, so that nobody can send to it.
#[derive(Debug)]
pub struct UnboundSocket {
    socket: OwnedFd,
    queue_limit: usize,
}

/// A socket with its file, which goes away with it.
#[derive(Debug)]
pub struct BoundSocket {
    socket: OwnedFd,
    file: SocketFile,
    queue_limit: usize,
}

impl BoundSocket {
    /// Creates the socket. It asks for `SCM_CREDENTIALS` before anyone can
    /// send to it, so no datagram comes without.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open() -> Result<UnboundSocket, BindError> {
        let queue_limit = queue_limit();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|error| BindError::Create(error.into()))?;
        sockopt::set_socket_passcred(&socket, true)
            .map_err(|error| BindError::Create(error.into()))?;
        Ok(UnboundSocket {
            socket,
            queue_limit,
        })
    }

    /// How many datagrams can wait at most.
    ///
    /// A sender finds the queue full when it is longer than the limit
    /// (`unix_recvq_full`, `net/unix/af_unix.c`), so one more fits.
    #[must_use]
    pub fn queue_limit(&self) -> usize {
        self.queue_limit
    }

    /// Path of the socket file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for UnboundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl UnboundSocket {
    /// Gives the socket its name in the file system.
    ///
    /// The file is made for its owner only, then gets its group and at last
    /// its mode, so that nobody whom the mode keeps out can send in between,
    /// whatever the umask is. A stale socket is replaced; there is no
    /// temporary file that a crash could leave behind. The directory is
    /// locked meanwhile: of two observers that start at once, one finds the
    /// other's socket live.
    ///
    /// # Errors
    /// If the path cannot be used, is in use, or the system refuses.
    pub fn bind(self, options: &SocketOptions) -> Result<BoundSocket, BindError> {
        let SocketOptions { path, mode, group } = options;
        let address = path::address(path)?;
        let (directory, name) = path::split(path)?;
        let directory = Directory::open(directory)?;
        // A second descriptor of the same open directory: the file keeps the
        // first, and its removal after a failure is not kept out by the lock.
        let Self {
            socket,
            queue_limit,
        } = self;
        let file = {
            let lock = directory.lock()?;
            remove_stale(&directory, name, path, &address)?;
            name_socket(&socket, path, &address, *mode)?;
            lock.finish(name, path, *mode, *group)?
        };
        Ok(BoundSocket {
            socket,
            file,
            queue_limit,
        })
    }
}
