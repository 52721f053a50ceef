//! The way to a file, from folder to folder. Each is opened in the one before, so
//! that what is checked is what is opened, whatever is put in its place
//! meanwhile.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{NO_FILE, Trusted};

/// As many as the kernel follows (`MAXSYMLINKS`, `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

/// A way, as far as it has been gone.
pub(super) struct Way {
    /// Where it has come to, opened by `O_PATH`: to be looked at, and to open
    /// from there what is in it.
    folder: File,
    /// The same for people.
    path: PathBuf,
    /// What is left to go.
    left: VecDeque<OsString>,
    /// How many links it has led over.
    links: usize,
}

impl Way {
    /// # Errors
    /// If it cannot begin.
    pub(super) fn to(path: &Path) -> anyhow::Result<Self> {
        let mut way = Self {
            folder: root()?,
            path: "/".into(),
            left: VecDeque::new(),
            links: 0,
        };
        way.prepend(path);
        if path.is_relative() {
            let here = env::current_dir().context("the working directory has no path")?;
            way.prepend(&here);
        }
        Ok(way)
    }

    /// Goes it to the end, and opens the file there. Whether it is one that may
    /// be read is for the caller to check.
    ///
    /// # Errors
    /// If somebody else could make it lead elsewhere, or there is no file.
    pub(super) fn open(mut self, trusted: &Trusted) -> anyhow::Result<File> {
        while let Some(name) = self.left.pop_front() {
            if name == OsStr::new("/") {
                self.folder = root()?;
                self.path = "/".into();
                continue;
            }
            if name == OsStr::new(".") {
                continue;
            }
            trusted.check_folder(&self.path, &self.folder.metadata()?)?;
            let next = find(&self.folder, &name)?;
            let found = next.metadata()?;
            if found.is_symlink() {
                let path = self.path.join(&name);
                trusted.check_owner(&path.display().to_string(), &found)?;
                self.follow(&next)?;
            } else if self.left.is_empty() {
                // To open a device may do something.
                ensure!(found.is_file(), NO_FILE);
                return open(&self.folder, &name);
            } else {
                self.go(next, &name);
            }
        }
        bail!(NO_FILE)
    }

    fn go(&mut self, folder: File, name: &OsStr) {
        self.folder = folder;
        if name == OsStr::new("..") {
            self.path.pop();
        } else {
            self.path.push(name);
        }
    }

    /// What the link says is to be gone next. An absolute one begins anew.
    fn follow(&mut self, link: &File) -> anyhow::Result<()> {
        self.links = self.links.saturating_add(1);
        ensure!(self.links <= MAX_LINKS, "there are too many symbolic links");
        let target = rustix::fs::readlinkat(link, "", Vec::new()).map_err(io::Error::from)?;
        let target = OsString::from_vec(target.into_bytes());
        self.prepend(Path::new(&target));
        Ok(())
    }

    fn prepend(&mut self, path: &Path) {
        for part in path.components().rev() {
            self.left.push_front(owned(part));
        }
    }
}

fn root() -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, "/", flags, Mode::empty())?.into())
}

/// What has this name in a folder, itself, even if it is a link. As a folder
/// first: one that is mounted when it is needed (`autofs`) is mounted by that
/// only (`follow_automount`, `fs/namei.c`).
fn find(folder: &File, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(folder, name, flags, Mode::empty());
    let found = match open(flags | OFlags::DIRECTORY) {
        Err(Errno::NOTDIR) => open(flags),
        found => found,
    };
    Ok(found?.into())
}

/// A pipe in its place must not hold the observer up, and a link is not followed.
fn open(folder: &File, name: &OsStr) -> anyhow::Result<File> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => bail!("a link was put in its place while it was being opened"),
        opened => Ok(opened.map_err(io::Error::from)?.into()),
    }
}

fn owned(part: Component<'_>) -> OsString {
    part.as_os_str().to_owned()
}
