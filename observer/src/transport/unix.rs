//! The Unix datagram socket that agents send to.

use std::{
    fmt, fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};
use thiserror::Error;

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

/// Why the socket cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path has no file name, or holds a NUL.
    #[error("{0:?} is no path for a socket; give one such as /run/observer/observer.sock")]
    BadPath(PathBuf),
    /// The path does not fit into a socket address.
    #[error(
        "the socket path {path} has {length} bytes; the kernel takes at most {MAX_PATH}, use a shorter one"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory is missing.
    #[error("the directory {0} does not exist; create it first")]
    NoDirectory(PathBuf),
    /// Somebody receives there.
    #[error("the socket {0} is in use by another process; stop it, or choose another path")]
    InUse(PathBuf),
    /// Something else stands there; it is left alone.
    #[error(
        "{path} exists and is {kind}, not a socket; it is left alone, choose another path or remove it"
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: FileKind,
    },
    /// A system call failed.
    #[error("cannot {action} {path}: {error}{}", hint(.error))]
    System {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The socket itself cannot be made.
    #[error("cannot create a Unix datagram socket: {0}")]
    Create(io::Error),
}

/// What an operator can do about it, where that is known.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as a user who may write to its directory, or choose another path"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; choose a path such as one under /run",
        _ => "",
    }
}

/// What stands where a socket should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// Anything else.
    File,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::File => "a file",
        })
    }
}

/// The longest path of a socket: `sun_path` less its NUL.
const MAX_PATH: usize = 107;

/// A socket that has no name yet, so that nobody can send to it.
pub struct UnboundSocket(OwnedFd);

/// A socket with its file, which goes away with it.
#[derive(Debug)]
pub struct BoundSocket {
    socket: OwnedFd,
    file: SocketFile,
    queue_limit: usize,
}

/// The socket file, as it was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl BoundSocket {
    /// Creates the socket. It asks for `SCM_CREDENTIALS` before anyone can
    /// send to it, so no datagram comes without.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open() -> Result<UnboundSocket, BindError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|error| BindError::Create(error.into()))?;
        sockopt::set_socket_passcred(&socket, true)
            .map_err(|error| BindError::Create(error.into()))?;
        Ok(UnboundSocket(socket))
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
        &self.file.path
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for UnboundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl UnboundSocket {
    /// Gives the socket its name in the file system.
    ///
    /// The file is made without any permission, then gets its group and at
    /// last its mode, so that nobody whom the mode keeps out can send in
    /// between, whatever the umask is. A stale socket is replaced. The
    /// directory is locked meanwhile: of two observers that start at once,
    /// one finds the other's socket live.
    ///
    /// # Errors
    /// If the path cannot be used, is in use, or the system refuses.
    pub fn bind(self, options: &SocketOptions) -> Result<BoundSocket, BindError> {
        let SocketOptions { path, mode, group } = options;
        let directory = directory_of(path)?;
        let address = address(path)?;
        let _lock = lock(directory)?;
        remove_stale(path, &address)?;
        let Self(socket) = self;
        // `unix_bind_bsd` (`net/unix/af_unix.c`, 6.1 to 6.18) gives the file
        // the mode of the socket's own inode, less the umask.
        rustix::fs::fchmod(&socket, Mode::empty()).map_err(failed("restrict", path))?;
        rustix::net::bind(&socket, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => BindError::InUse(path.clone()),
            errno => failed("bind", path)(errno),
        })?;
        let file = SocketFile::at(path)?;
        set_access(path, *mode, *group)?;
        Ok(BoundSocket {
            socket,
            file,
            queue_limit: queue_limit(),
        })
    }
}

/// Directory of the socket file.
fn directory_of(path: &Path) -> Result<&Path, BindError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    match path.parent() {
        Some(parent) if !bytes.ends_with(b"/") && path.file_name().is_some() => {
            let here = parent.as_os_str().is_empty();
            Ok(if here { Path::new(".") } else { parent })
        }
        _ => Err(BindError::BadPath(path.to_owned())),
    }
}

fn address(path: &Path) -> Result<SocketAddrUnix, BindError> {
    let length = path.as_os_str().len();
    let path = path.to_owned();
    if length > MAX_PATH {
        return Err(BindError::PathTooLong { path, length });
    }
    // What is left to fail is a NUL in the path.
    SocketAddrUnix::new(&path).map_err(|_| BindError::BadPath(path))
}

/// Locks the directory against other observers, as long as the result lives.
fn lock(directory: &Path) -> Result<OwnedFd, BindError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(directory, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => BindError::NoDirectory(directory.to_owned()),
            errno => failed("open the directory", directory)(errno),
        })?;
    // Whoever may read the directory can hold such a lock: waiting for it
    // could last for ever.
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(opened),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(failed("lock the directory", directory)(errno)),
        }
    }
    Err(failed("lock the directory", directory)(Errno::WOULDBLOCK))
}

/// With [`LOCK_PAUSE`]: two seconds for another observer to finish its start.
const LOCK_TRIES: u32 = 200;

/// Pause between two tries to lock.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Sees to it that nothing stands at the path. What is removed is a socket
/// that nobody receives from, and nothing else.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_failed("look at", path, error)),
    };
    if kind.is_socket() {
        check_stale(path, address)?;
        return fs::remove_file(path).map_err(|error| io_failed("remove", path, error));
    }
    Err(BindError::NotASocket {
        path: path.to_owned(),
        kind: match kind {
            kind if kind.is_dir() => FileKind::Directory,
            kind if kind.is_symlink() => FileKind::Symlink,
            _ => FileKind::File,
        },
    })
}

/// Connecting does not wait, however full the receiver's queue is
/// (`unix_dgram_connect`), and is refused if nobody receives there.
fn check_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|error| BindError::Create(error.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A live socket of another type refuses datagrams.
        Ok(()) | Err(Errno::PROTOTYPE | Errno::AGAIN | Errno::PERM) => {
            Err(BindError::InUse(path.to_owned()))
        }
        Err(errno) => Err(failed("probe", path)(errno)),
    }
}

/// The file carries no permission yet; a link that took its place meanwhile
/// would have to be made by someone who owns the directory.
fn set_access(path: &Path, mode: u32, group: Option<u32>) -> Result<(), BindError> {
    if let Some(group) = group {
        let group = Some(Gid::from_raw(group));
        rustix::fs::chownat(CWD, path, None, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("change the group of", path))?;
    }
    rustix::fs::chmod(path, Mode::from_bits_truncate(mode))
        .map_err(failed("change the mode of", path))
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

fn failed(action: &'static str, path: &Path) -> impl Fn(Errno) -> BindError {
    let path = path.to_owned();
    move |errno| BindError::System {
        action,
        path: path.clone(),
        error: errno.into(),
    }
}

fn io_failed(action: &'static str, path: &Path, error: io::Error) -> BindError {
    let path = path.to_owned();
    BindError::System {
        action,
        path,
        error,
    }
}

impl SocketFile {
    fn at(path: &Path) -> Result<Self, BindError> {
        let file = fs::symlink_metadata(path).map_err(|error| io_failed("look at", path, error))?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }
}

impl Drop for SocketFile {
    /// Removes the file if it is still this one. Between look and removal
    /// another observer could put its own there; it takes the directory's
    /// lock for that, so this does too.
    fn drop(&mut self) {
        let Self {
            path,
            device,
            inode,
        } = self;
        let _lock = directory_of(path).and_then(lock);
        let ours = fs::symlink_metadata(&*path)
            .is_ok_and(|file| (file.dev(), file.ino()) == (*device, *inode));
        if ours && let Err(error) = fs::remove_file(&*path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the socket");
        }
    }
}
