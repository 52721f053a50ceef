//! Which files are to be read: named one by one, by their folder, or by the one
//! that grows.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::files::FileError;
use crate::key::is_key_file;
use crate::line::Parsed;
use crate::reader::{Lines, MAX_LINE, Next};
use crate::segments::{family, open};

/// Where the last line of a file is looked for, in bytes from its end: room for
/// that line, and for another that is cut at its beginning.
const TAIL: u64 = 2 * MAX_LINE as u64;

/// How files of compressors begin, and what they are called.
const COMPRESSED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
];

/// All files that the paths stand for, each path once: a folder for all files in
/// it, key files and folders aside, and a single file for the [family] of its
/// name too.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(list(path).map_err(|error| FileError::new("list", path, error))?);
        } else if paths.len() == 1 {
            files.extend(family(path)?);
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = HashSet::new();
    files.retain(|file| seen.insert(real_path(file)));
    Ok(files)
}

/// What is in a folder, but for folders and keys.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() && !is_key_file(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The path of the file's folder without links, and the file's own name: a link
/// to a file is not the file.
fn real_path(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name: OsString = file.file_name().unwrap_or_default().to_owned();
    match folder.canonicalize() {
        Ok(folder) => folder.join(name),
        Err(_) => file.to_owned(),
    }
}

/// The compressor that wrote a file, by how the file begins.
pub(crate) fn compressor(mut file: &File) -> io::Result<Option<&'static str>> {
    file.rewind()?;
    let mut begin = Vec::new();
    file.take(8).read_to_end(&mut begin)?;
    file.rewind()?;
    let found = COMPRESSED
        .iter()
        .find(|(magic, _)| begin.starts_with(magic));
    Ok(found.map(|&(_, name)| name))
}

/// The number on the first line of a file that has one, which nothing has
/// verified.
pub(crate) fn claimed_first(mut file: &File) -> io::Result<Option<u64>> {
    file.rewind()?;
    let mut lines = Lines::new(BufReader::new(file));
    loop {
        match lines.advance()? {
            Next::Line => {
                if let Some(line) = Parsed::new(lines.line()) {
                    return Ok(Some(line.seq));
                }
            }
            Next::TooLong => {}
            Next::Torn | Next::End => return Ok(None),
        }
    }
}

/// The number on the last line of a file, likewise.
pub(crate) fn last_seq(path: &Path) -> Option<u64> {
    let mut file = open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let tail = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(tail)).ok()?;
    let mut lines = Lines::new(BufReader::new(file));
    let mut last = None;
    while matches!(lines.advance().ok()?, Next::Line | Next::TooLong) {
        last = Parsed::new(lines.line()).map(|line| line.seq).or(last);
    }
    last
}
