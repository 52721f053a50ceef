//! Why a socket cannot be had, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::path::MAX_PATH;

/// Why the socket cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The path has no file name, or holds a NUL (so does an abstract one).
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
    /// Another process of this user holds the lock, and does not let go.
    #[error("another process of this user keeps {0} locked (flock); stop it")]
    Locked(PathBuf),
    /// What stands where the lock is to be was not made by an observer of
    /// this user.
    #[error(
        "{0} is in the way ({1}): it is no empty file that only this user can open; remove it, or choose a directory that nobody else may write to"
    )]
    NotOurLock(PathBuf, io::Error),
    /// Somebody receives there.
    #[error("the socket {0} is in use by another process; stop it, or choose another path")]
    InUse(PathBuf),
    /// A socket stands there and this user may not ask whether it is in use.
    #[error(
        "the socket {0} belongs to someone else, and this user may not find out whether it is in use; run as its owner, or choose another path"
    )]
    NotOurs(PathBuf),
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
    #[error("cannot create a Unix socket: {0}")]
    Create(io::Error),
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

/// What an operator can do about it, where that is known.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as a user who may do that, or choose otherwise",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a path such as one under /run",
        _ => "",
    }
}

/// Makes an error of a failed system call.
pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(Errno) -> BindError {
    let path = path.to_owned();
    move |errno| BindError::System {
        action,
        path: path.clone(),
        error: errno.into(),
    }
}
