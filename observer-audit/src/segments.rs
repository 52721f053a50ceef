//! The files of a trail: the one that grows, and those that were rotated away.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::files::{Access, FileError, Place};

/// Digits of a line number in a rotated file's name: names sort as their
/// content does.
const DIGITS: usize = 20;
/// Where a new file is made before it takes its name.
const NEXT: &str = ".next";

/// All files of the trail at this path, oldest first. The one that grows comes
/// last, and may be missing.
///
/// # Errors
/// If the folder cannot be read.
pub fn segments(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let place = Place::new(path)?;
    let mut files: Vec<PathBuf> = rotated(&place)?
        .into_iter()
        .map(|first| path.with_file_name(place.with(&ending(first))))
        .collect();
    if path.symlink_metadata().is_ok() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Opens a file of the trail at `path` to read. One that was found beside it
/// must be a regular file: whoever may write to the folder could put a pipe
/// there, which would be waited for.
pub(super) fn open(file: &Path, path: &Path) -> io::Result<File> {
    if file == path {
        return File::open(file);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Where the rotated file is, or would be, that begins with this line.
pub(super) fn rotated_path(path: &Path, first_seq: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending(first_seq));
    name.into()
}

/// Numbers of the first lines of rotated files, ascending.
fn rotated(place: &Place) -> Result<Vec<u64>, FileError> {
    let mut numbers: Vec<u64> = place
        .endings()?
        .iter()
        .filter_map(|name| first_seq(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn ending(first_seq: u64) -> String {
    format!(".{first_seq:0DIGITS$}")
}

fn first_seq(ending: &str) -> Option<u64> {
    let digits = ending.strip_prefix('.')?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// The file that grows.
#[derive(Debug)]
pub(super) struct Log {
    place: Place,
    file: File,
    /// How long it is when only whole lines count, in bytes.
    length: u64,
    /// Number of its first line.
    first_seq: u64,
    /// A write failed half-way, and its beginning may still be there.
    broken: bool,
}

/// Somebody else changed the file's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Altered {
    pub(super) expected: u64,
    pub(super) found: u64,
}

/// A file that was removed for its age.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) name: String,
    pub(super) through_seq: u64,
}

impl Log {
    /// Opens the file, or makes it if there is none: then `true`.
    pub(super) fn open(path: &Path) -> Result<(Self, bool), FileError> {
        let place = Place::new(path)?;
        let (file, new) = match place.open(Access::Append) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = place.create("", Access::Append)?;
                place.sync()?;
                (file, true)
            }
            Err(error) => return Err(error),
        };
        let log = Self {
            place,
            file,
            length: 0,
            first_seq: 1,
            broken: false,
        };
        Ok((log, new))
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Removes the file.
    pub(super) fn discard(&self) -> Result<(), FileError> {
        self.place.discard()
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// What was found out by reading the file: how much of it is whole lines,
    /// and the number of the first.
    pub(super) fn found(&mut self, length: u64, first_seq: u64) {
        self.length = length;
        self.first_seq = first_seq;
    }

    /// The newest rotated file.
    pub(super) fn newest_rotated(&self) -> Result<Option<PathBuf>, FileError> {
        let newest = rotated(&self.place)?.pop();
        Ok(newest.map(|first| self.path().with_file_name(self.place.with(&ending(first)))))
    }

    /// Appends whole lines. After a failure none of them counts as written.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        if self.broken {
            self.cut()?;
            self.broken = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    // The beginning of a line must not stay, for others read
                    // along. If this fails too, it is done before the next
                    // attempt.
                    self.broken = self.cut().is_err();
                    return Err(FileError::new("write", self.path(), errno));
                }
            }
        }
        self.length = self.length.saturating_add(lines.len() as u64);
        Ok(())
    }

    /// Cuts off what is not whole lines.
    pub(super) fn cut(&self) -> Result<(), FileError> {
        self.file
            .set_len(self.length)
            .map_err(|error| FileError::new("shorten", self.path(), error))
    }

    pub(super) fn sync(&self) -> Result<(), FileError> {
        self.file
            .sync_data()
            .map_err(|error| FileError::new("sync", self.path(), error))
    }

    /// Whether somebody else changed the file's length. From here on it counts
    /// as it was found.
    pub(super) fn alteration(&mut self) -> Option<Altered> {
        let found = self.file.metadata().map_or(0, |meta| meta.len());
        if self.broken || found == self.length {
            return None;
        }
        let expected = std::mem::replace(&mut self.length, found);
        Some(Altered { expected, found })
    }

    /// Whether its name still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        self.place.is_at(&self.file)
    }

    /// Makes the file's name free and goes on in a new file, whose first line
    /// will be `next_seq`. Returns the name that the old one has now.
    ///
    /// If it fails, the old file goes on.
    pub(super) fn rotate(&mut self, next_seq: u64) -> Result<String, FileError> {
        self.place.remove(&self.place.with(NEXT))?;
        let next = self.place.create(NEXT, Access::Append)?;
        let old = ending(self.first_seq);
        if self.is_in_place() {
            self.place.rename("", &old)?;
        } else if self.path().symlink_metadata().is_ok() {
            // Not ours to destroy: an auditor may want to see it.
            self.place.rename("", &format!(".foreign-{next_seq}"))?;
        }
        self.place.rename(NEXT, "")?;
        self.place.sync()?;
        self.file = next;
        self.length = 0;
        self.first_seq = next_seq;
        Ok(self.place.with(&old).to_string_lossy().into_owned())
    }

    /// Removes the oldest file if there are more than `keep`.
    pub(super) fn retire(&self, keep: usize) -> Result<Option<Removed>, FileError> {
        let numbers = rotated(&self.place)?;
        if numbers.len() <= keep {
            return Ok(None);
        }
        let Some(oldest) = numbers.first() else {
            return Ok(None);
        };
        let after = numbers.get(1).copied().unwrap_or(self.first_seq);
        let name = self.place.with(&ending(*oldest));
        self.place.remove(&name)?;
        self.place.sync()?;
        Ok(Some(Removed {
            name: name.to_string_lossy().into_owned(),
            through_seq: after.saturating_sub(1),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_sort_as_their_lines_do() {
        assert_eq!(ending(7), ".00000000000000000007");
        assert_eq!(first_seq(&ending(u64::MAX)), Some(u64::MAX));
        for other in [
            "",
            ".7",
            ".0000000000000000000x",
            ".next",
            ".99999999999999999999",
        ] {
            assert_eq!(first_seq(other), None, "{other}");
        }
    }
}
