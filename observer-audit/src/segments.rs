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

/// What compressors add to names.
const COMPRESSED: [&str; 7] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzo", ".Z"];
/// What is added to the name of a file that was put aside by a repair, before
/// the number of the line that the trail went on with.
pub(crate) const BROKEN: &str = ".broken-";
/// The shortest date in a name, as logrotate's `dateext` has it.
const DATE_DIGITS: usize = 8;

/// All files of the trail at this path, by their names and in any order: the
/// one that grows, if there is one; those that the observer rotated, or that
/// logrotate renamed (`trail.1`, `trail-20261127`, `trail.2.gz`); and those that
/// a repair put aside.
pub(crate) fn family(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let place = Place::new(path)?;
    let endings = place.endings()?.into_iter();
    let mut files: Vec<PathBuf> = endings
        .filter(|ending| is_renamed(ending) || ending.starts_with(BROKEN))
        .map(|ending| path.with_file_name(place.with(&ending)))
        .collect();
    if path.symlink_metadata().is_ok() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Opens a file to read. It must be a regular one: whoever may write to its
/// folder could put a pipe there, and opening that would block.
pub(crate) fn open(file: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

/// Whether a file whose name adds this to the trail's may have been the one that
/// grew, renamed by the observer or by logrotate.
pub(crate) fn is_renamed(ending: &str) -> bool {
    let bare = COMPRESSED.iter().find_map(|end| ending.strip_suffix(end));
    let bare = bare.unwrap_or(ending);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_date = |text: &str| text.len() >= DATE_DIGITS && text.split('-').all(is_number);
    bare.strip_prefix('.').is_some_and(is_number) || bare.strip_prefix('-').is_some_and(is_date)
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

/// The number in the name of a file that the observer rotated.
pub(crate) fn rotated_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    first_seq(name.get(name.rfind('.')?..)?)
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
    fn names_that_logrotate_gives_are_known() {
        for name in [
            ".1",
            ".12",
            ".2.gz",
            ".3.zst",
            "-20261127",
            "-20261127-1795867200.xz",
        ] {
            assert!(is_renamed(name), "{name}");
        }
        for other in [
            "",
            ".",
            ".next",
            ".gz",
            ".1x",
            "-2",
            "-2026112x",
            ".foreign-7",
            ".1.bak",
        ] {
            assert!(!is_renamed(other), "{other}");
        }
    }

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
