//! Files that are created, replaced and locked so that nobody can have the
//! observer write another file in their place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use thiserror::Error;

/// Files of the trail are their owner's only.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Something that could not be done with a file.
#[derive(Debug, Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    what: &'static str,
    path: PathBuf,
    /// What the system returned.
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            what,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// The kind of error that the system returned.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// How a file is going to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// At its end only.
    Append,
    /// Anywhere: a key file is overwritten in the end.
    Anywhere,
}

impl Access {
    fn flags(self) -> OFlags {
        match self {
            Self::Append => OFlags::RDWR | OFlags::APPEND,
            Self::Anywhere => OFlags::RDWR,
        }
    }

    /// What others must not be allowed to do.
    fn forbidden(self) -> Mode {
        match self {
            Self::Append => Mode::WGRP | Mode::WOTH,
            Self::Anywhere => Mode::RWXG | Mode::RWXO,
        }
    }

    /// The same as text.
    fn danger(self) -> &'static str {
        match self {
            Self::Append => "write to it",
            Self::Anywhere => "use the key in it",
        }
    }
}

/// A file's folder, opened once, and its name in it.
#[derive(Debug)]
pub(crate) struct Place {
    folder: OwnedFd,
    name: OsString,
    path: PathBuf,
}

impl Place {
    pub(crate) fn new(path: &Path) -> Result<Self, FileError> {
        let name = path
            .file_name()
            .ok_or_else(|| FileError::new("use", path, Errno::ISDIR))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent, flags, Mode::empty())
            .map_err(|errno| FileError::new("open the folder", parent, errno))?;
        Ok(Self {
            folder,
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens an existing regular file, never through a symbolic link, and never
    /// waiting for a pipe's other end. Fails for one that somebody else made or
    /// may write to: he could change the trail.
    pub(crate) fn open(&self, access: Access) -> Result<File, FileError> {
        let file = self
            .open_as(&self.name, access.flags())
            .map_err(|errno| FileError::new("open", &self.path, errno))?;
        let found = rustix::fs::fstat(&file)
            .map_err(|errno| FileError::new("look at", &self.path, errno))?;
        check_owner(&found, access).map_err(|error| FileError::new("use", &self.path, error))?;
        Ok(file)
    }

    /// Creates a file that did not exist, under the name with an ending.
    pub(crate) fn create(&self, ending: &str, access: Access) -> Result<File, FileError> {
        let name = self.with(ending);
        let flags = access.flags() | OFlags::CREATE | OFlags::EXCL;
        self.open_as(&name, flags)
            .map_err(|errno| FileError::new("create", &self.path.with_file_name(&name), errno))
    }

    fn open_as(&self, name: &OsStr, flags: OFlags) -> rustix::io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.folder, name, flags, MODE)?;
        let found = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(file.into())
    }

    /// Renames the file with one ending to the name with another, replacing
    /// what is there.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        rustix::fs::renameat(&self.folder, self.with(from), &self.folder, self.with(to))
            .map_err(|errno| FileError::new("rename", &self.path, errno))
    }

    /// Removes the file.
    pub(crate) fn discard(&self) -> Result<(), FileError> {
        self.remove(&self.name)
    }

    /// Removes a file of the folder; one that is gone already is no error.
    pub(crate) fn remove(&self, name: &OsStr) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                let path = self.path.with_file_name(name);
                Err(FileError::new("remove", &path, errno))
            }
        }
    }

    /// Brings names that were created, changed or removed to the disk.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        rustix::fs::fsync(&self.folder)
            .map_err(|errno| FileError::new("sync the folder of", &self.path, errno))
    }

    /// Whether the name still leads to this open file.
    pub(crate) fn is_at(&self, file: &File) -> bool {
        let there = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        match (there, rustix::fs::fstat(file)) {
            (Ok(there), Ok(ours)) => (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino),
            _ => false,
        }
    }

    /// The name of this open file in the folder, if it begins as this one does.
    pub(crate) fn find(&self, file: &File) -> Option<String> {
        let ours = rustix::fs::fstat(file).ok()?;
        let names = self.endings().ok()?.into_iter();
        let mut names = names.map(|ending| self.with(&ending));
        let found = names.find(|name| {
            rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
        });
        found.map(|name| name.to_string_lossy().into_owned())
    }

    /// What other names in the folder add to this one.
    pub(crate) fn endings(&self) -> Result<Vec<String>, FileError> {
        let failed = |errno| FileError::new("list the folder of", &self.path, errno);
        let mut endings = Vec::new();
        for entry in Dir::read_from(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let ending = entry
                .file_name()
                .to_bytes()
                .strip_prefix(self.name.as_encoded_bytes());
            if let Some(ending) = ending.and_then(|ending| std::str::from_utf8(ending).ok()) {
                endings.push(ending.to_owned());
            }
        }
        Ok(endings)
    }

    /// The name with an ending.
    pub(crate) fn with(&self, ending: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(ending);
        name
    }
}

/// Whether the file is this user's, and others may do no more to it than they
/// should. A write permission in an access control list shows in the group's
/// bits (`posix_acl_update_mode`, `fs/posix_acl.c`).
fn check_owner(file: &Stat, access: Access) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if file.st_uid != own {
        return Err(io::Error::other(format!(
            "it belongs to user {}, and the observer is user {own}; remove it, or change its owner",
            file.st_uid
        )));
    }
    let mode = Mode::from_raw_mode(file.st_mode);
    if mode.intersects(access.forbidden()) {
        return Err(io::Error::other(format!(
            "its mode {:04o} lets others {}; change it to 0600 once it is sure that nobody did",
            mode.bits() & 0o7777,
            access.danger()
        )));
    }
    Ok(())
}

/// Locks an open file for this process; fails at once where another has locked
/// it.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), FileError> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|errno| FileError::new("lock (is another observer using it?)", path, errno))
}
