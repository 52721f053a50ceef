//! The file of a trail that grows.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::files::{Access, FileError, Place};
use crate::segments::{BROKEN, ending, is_renamed, open, rotated};
use crate::sources::{claimed_first, last_seq};

/// Where a new file is created before it takes its name.
const NEXT: &str = ".next";

/// The file that grows.
#[derive(Debug)]
pub(crate) struct TrailFile {
    place: Place,
    file: File,
    /// How long it is when only whole lines count, in bytes.
    length: u64,
    /// Number of its first line.
    first_seq: u64,
    /// A write failed half-way, and its beginning may still be there.
    is_broken: bool,
}

/// The file's length, in bytes, where somebody else changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    pub(crate) expected: u64,
    pub(crate) found: u64,
    /// Whether the file ends within a line now.
    pub(crate) is_torn: bool,
}

/// A file that was removed for its age.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) name: String,
    /// Number of the last line that was removed, with all before it.
    pub(crate) through_seq: u64,
}

impl TrailFile {
    /// Opens the file, or creates it if there is none: then `true`.
    pub(crate) fn open(path: &Path) -> Result<(Self, bool), FileError> {
        let place = Place::new(path)?;
        let (file, is_new) = match place.open(Access::Append) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = place.create("", Access::Append)?;
                place.sync()?;
                (file, true)
            }
            Err(error) => return Err(error),
        };
        let trail_file = Self {
            place,
            file,
            length: 0,
            first_seq: 1,
            is_broken: false,
        };
        Ok((trail_file, is_new))
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Removes the file.
    pub(crate) fn discard(&self) -> Result<(), FileError> {
        self.place.discard()
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Sets what only reading the file shows: how many bytes of it are whole
    /// lines, and the number of the first.
    pub(crate) fn set_content(&mut self, length: u64, first_seq: u64) {
        self.length = length;
        self.first_seq = first_seq;
    }

    /// Names and paths of files beside this one that may have had its name.
    pub(crate) fn renamed(&self) -> Result<Vec<(String, PathBuf)>, FileError> {
        let endings = self.place.endings()?.into_iter();
        let names = endings
            .filter(|ending| is_renamed(ending))
            .map(|ending| self.place.with(&ending));
        let renamed = names.map(|name| {
            let path = self.path().with_file_name(&name);
            (name.to_string_lossy().into_owned(), path)
        });
        Ok(renamed.collect())
    }

    /// Appends whole lines. After a failure none of them counts as written.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        if self.is_broken {
            self.cut()?;
            self.is_broken = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // The beginning of a line must not stay, for others may be
                    // reading the file. If this fails too, it is done before
                    // the next attempt.
                    self.is_broken = self.cut().is_err();
                    return Err(FileError::new("write", self.path(), errno));
                }
            }
        }
        self.length = self.length.saturating_add(lines.len() as u64);
        Ok(())
    }

    /// Cuts off what is not whole lines.
    pub(crate) fn cut(&self) -> Result<(), FileError> {
        self.file
            .set_len(self.length)
            .map_err(|error| FileError::new("shorten", self.path(), error))
    }

    pub(crate) fn sync(&self) -> Result<(), FileError> {
        self.file
            .sync_data()
            .map_err(|error| FileError::new("sync", self.path(), error))
    }

    /// How somebody else changed the file's length, if so. The length that was
    /// found is the expected one from here on. In a file that was emptied,
    /// `next_seq` will be the first line.
    pub(crate) fn take_alteration(&mut self, next_seq: u64) -> Option<Altered> {
        let found = self.file.metadata().map_or(0, |meta| meta.len());
        if self.is_broken || found == self.length {
            return None;
        }
        let expected = mem::replace(&mut self.length, found);
        if found == 0 {
            self.first_seq = next_seq;
        }
        Some(Altered {
            expected,
            found,
            is_torn: self.ends_within_line(found),
        })
    }

    fn ends_within_line(&self, length: u64) -> bool {
        let mut last = [0];
        length
            .checked_sub(1)
            .is_some_and(|at| match self.file.read_exact_at(&mut last, at) {
                Ok(()) => last != *b"\n",
                Err(_) => true,
            })
    }

    /// Where the file went that the path no longer leads to, as text.
    pub(crate) fn whereabouts(&self) -> String {
        match self.place.find(&self.file) {
            Some(name) => format!("renamed to {name}"),
            None => match self.file.metadata() {
                Ok(meta) if meta.nlink() == 0 => "removed".into(),
                _ => "moved away".into(),
            },
        }
    }

    /// Whether the path still leads to this file.
    pub(crate) fn is_in_place(&self) -> bool {
        self.place.is_at(&self.file)
    }

    /// Renames the file and continues in a new one, whose first line will be
    /// `next_seq`. Returns the name that the old one has now.
    ///
    /// If it fails, the old file is still the one that grows.
    pub(crate) fn rotate(&mut self, next_seq: u64) -> Result<String, FileError> {
        let old = ending(self.first_seq);
        self.replace(&old, next_seq)?;
        Ok(self.place.with(&old).to_string_lossy().into_owned())
    }

    /// Puts a file that cannot be continued aside, and continues in a new one.
    /// Replaces nothing. Returns the name that the old one has now.
    pub(crate) fn put_aside(&mut self, next_seq: u64) -> Result<String, FileError> {
        let taken = self.place.endings()?;
        let first = format!("{BROKEN}{next_seq}");
        let others = (2_u64..).map(|number| format!("{first}-{number}"));
        let mut endings = std::iter::once(first.clone()).chain(others);
        let old = endings.find(|ending| !taken.contains(ending));
        let old = old.unwrap_or(first);
        self.replace(&old, next_seq)?;
        Ok(self.place.with(&old).to_string_lossy().into_owned())
    }

    fn replace(&mut self, old: &str, next_seq: u64) -> Result<(), FileError> {
        self.place.remove(&self.place.with(NEXT))?;
        let next = self.place.create(NEXT, Access::Append)?;
        if self.is_in_place() {
            self.place.rename("", old)?;
        } else if self.is_taken() {
            // Somebody else's file is kept: an auditor may want to see it.
            self.place.rename("", &format!(".foreign-{next_seq}"))?;
        }
        self.place.rename(NEXT, "")?;
        self.place.sync()?;
        self.file = next;
        self.length = 0;
        self.first_seq = next_seq;
        Ok(())
    }

    /// Number of the oldest line that is still there. A file that somebody else
    /// renamed may be older than the one that is removed.
    fn oldest_line(&self) -> Result<u64, FileError> {
        let renamed = self.renamed()?.into_iter();
        let first = renamed.filter_map(|(_, path)| claimed_first(&open(&path).ok()?).ok()?);
        Ok(first.min().unwrap_or(self.first_seq))
    }

    /// Whether the path leads to something that must not be lost. A tool that
    /// renamed the file may have left an empty one.
    fn is_taken(&self) -> bool {
        let there = self.path().symlink_metadata();
        there.is_ok_and(|meta| !meta.is_file() || meta.len() > 0)
    }

    /// Removes the oldest rotated file if there are more than `keep`.
    pub(crate) fn remove_oldest(&self, keep: usize) -> Result<Option<Removed>, FileError> {
        let numbers = rotated(&self.place)?;
        if numbers.len() <= keep {
            return Ok(None);
        }
        let Some(oldest) = numbers.first() else {
            return Ok(None);
        };
        let name = self.place.with(&ending(*oldest));
        let path = self.path().with_file_name(&name);
        let last = last_seq(&path).unwrap_or_default();
        self.place.remove(&name)?;
        self.place.sync()?;
        Ok(Some(Removed {
            name: name.to_string_lossy().into_owned(),
            through_seq: last.min(self.oldest_line()?.saturating_sub(1)),
        }))
    }
}
