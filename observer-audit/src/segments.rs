//! The files of a trail, by their names: the one that grows, and the rotated
//! ones.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::files::{FileError, Place};

/// Digits of a line number in a rotated file's name: names sort as their
/// content does.
const DIGITS: usize = 20;

/// All files of the trail at this path, oldest first. The one that grows comes
/// last, and may be missing.
pub(crate) fn segments(path: &Path) -> Result<Vec<PathBuf>, FileError> {
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
/// there, and opening that would block.
pub(crate) fn open(file: &Path, path: &Path) -> io::Result<File> {
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

/// The path of a rotated file that begins with this line.
pub(crate) fn rotated_path(path: &Path, first_seq: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending(first_seq));
    name.into()
}

/// Numbers of the first lines of the rotated files, ascending.
pub(crate) fn rotated(place: &Place) -> Result<Vec<u64>, FileError> {
    let mut numbers: Vec<u64> = place
        .endings()?
        .iter()
        .filter_map(|name| first_seq(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// What the name of a rotated file that begins with this line adds to the
/// trail's.
pub(crate) fn ending(first_seq: u64) -> String {
    format!(".{first_seq:0DIGITS$}")
}

fn first_seq(ending: &str) -> Option<u64> {
    let digits = ending.strip_prefix('.')?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
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
