//! Unix sockets: the one that agents send to, and those that others ask at.

mod error;
mod file;
mod path;

#[cfg(test)]
mod tests;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use self::error::failed;
pub use self::error::{BindError, FileKind};
use self::file::{SocketFile, remove_stale};
use self::path::Directory;
use super::receive::ask_for_time_and_credentials;
use crate::sockopt::refuse_descriptors;

/// Where a socket is to be, and who may send or connect to it.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Path of the socket file.
    pub path: PathBuf,
    /// Mode of the socket file; write permission lets a process send or
    /// connect.
    pub mode: u32,
    /// Group of the socket file; `None`: the process's own.
    pub group: Option<u32>,
}

/// A socket that has no name yet, so that nobody can send to it.
#[derive(Debug)]
pub struct UnboundSocket {
    socket: OwnedFd,
    queue_limit: usize,
    refuses_descriptors: bool,
}

/// A socket with its file, which goes away with it.
#[derive(Debug)]
pub struct BoundSocket {
    /// Goes first: while the socket is open the kernel keeps the file's
    /// inode, so that no other file has its number.
    _file: SocketFile,
    socket: OwnedFd,
    queue_limit: usize,
}

impl BoundSocket {
    /// Creates the socket. It asks for time and `SCM_CREDENTIALS` before
    /// anyone can send to it, so no datagram comes without, and refuses
    /// descriptors where the kernel can.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open() -> Result<UnboundSocket, BindError> {
        let queue_limit = queue_limit();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|error| BindError::Create(error.into()))?;
        ask_for_time_and_credentials(&socket).map_err(BindError::Create)?;
        let refuses_descriptors = refuse_descriptors(socket.as_fd()).map_err(BindError::Create)?;
        Ok(UnboundSocket {
            socket,
            queue_limit,
            refuses_descriptors,
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
    /// Whether senders that attach descriptors get `EPERM`. Else the kernel
    /// closes them, see [`Receiver::receive`](super::Receiver::receive).
    #[must_use]
    pub fn refuses_descriptors(&self) -> bool {
        self.refuses_descriptors
    }

    /// Gives the socket its name in the file system.
    ///
    /// The file is made for its owner only, then gets its group and at last
    /// its mode, so that nobody whom the mode keeps out can send in between,
    /// whatever the umask is. A stale socket is replaced; there is no
    /// temporary socket that a crash could leave behind. The name is locked
    /// meanwhile: of two observers of one user that start at once, one finds
    /// the other's socket live.
    ///
    /// # Errors
    /// If the path cannot be used, is in use, or the system refuses.
    pub fn bind(self, options: &SocketOptions) -> Result<BoundSocket, BindError> {
        let Self {
            socket,
            queue_limit,
            refuses_descriptors: _,
        } = self;
        let file = bind(&socket, options)?;
        Ok(BoundSocket {
            _file: file,
            socket,
            queue_limit,
        })
    }
}

/// A listening stream socket with its file, which goes away with it.
#[derive(Debug)]
pub struct BoundListener {
    /// Goes first, as that of a [`BoundSocket`] does.
    file: SocketFile,
    listener: UnixListener,
}

impl BoundListener {
    /// Creates the socket, binds it, and listens. The file is made for its owner
    /// only, then gets its group and at last its mode; a stale one is replaced,
    /// and the name is locked meanwhile. It does not block. Where the kernel can
    /// refuse descriptors that clients attach it does: accepted sockets are as
    /// this one (`unix_stream_connect`, `net/unix/af_unix.c`, 6.18).
    ///
    /// # Errors
    /// If the path cannot be used, is in use, or the system refuses.
    pub fn bind(options: &SocketOptions) -> Result<Self, BindError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| BindError::Create(error.into()))?;
        refuse_descriptors(socket.as_fd()).map_err(BindError::Create)?;
        let file = bind(&socket, options)?;
        rustix::net::listen(&socket, LISTEN_BACKLOG).map_err(failed("listen on", &options.path))?;
        let listener = socket.into();
        Ok(Self { file, listener })
    }

    /// Path of the socket file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The listener.
    #[must_use]
    pub fn get(&self) -> &UnixListener {
        &self.listener
    }
}

/// Checks what can be seen of a socket's path without a look at the host.
///
/// # Errors
/// If it is none.
pub(crate) fn check_path(path: &Path) -> Result<(), BindError> {
    path::split(path).map(drop)
}

/// Connections that wait to be accepted.
const LISTEN_BACKLOG: i32 = 16;

/// Binds a socket safely, see [`UnboundSocket::bind`].
fn bind(socket: &OwnedFd, options: &SocketOptions) -> Result<SocketFile, BindError> {
    let path = &options.path;
    let (directory, name) = path::split(path)?;
    let directory = Arc::new(Directory::open(directory)?);
    let address = path::address(path, &directory, name)?;
    let _lock = directory.lock(name)?;
    remove_stale(&directory, name, path, &address)?;
    name_socket(socket, &address, options)?;
    SocketFile::take(&directory, name, options)
}

/// Makes the socket's file, for its owner at most.
///
/// `unix_bind_bsd` (`net/unix/af_unix.c`, 6.1 to 6.18) gives the file the
/// mode of the socket's own inode, less the umask. The owner's bits are there
/// from the start: without them the owner could not tell whether a file that
/// a crash left behind is stale.
fn name_socket(
    socket: &OwnedFd,
    address: &SocketAddrUnix,
    options: &SocketOptions,
) -> Result<(), BindError> {
    let SocketOptions { path, mode, .. } = options;
    let owners = Mode::from_bits_truncate(*mode) & Mode::RWXU;
    rustix::fs::fchmod(socket, owners).map_err(failed("restrict", path))?;
    rustix::net::bind(socket, address).map_err(|errno| match errno {
        Errno::ADDRINUSE => BindError::InUse(path.clone()),
        errno => failed("bind", path)(errno),
    })
}

/// `net.unix.max_dgram_qlen`, which a socket takes over when it is made
/// (`unix_create1`, `net/unix/af_unix.c`), and one more.
fn queue_limit() -> usize {
    fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok())
        .unwrap_or(10)
        .saturating_add(1)
}
