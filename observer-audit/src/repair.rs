//! Goes on with a trail that does not continue as its key file says.
//!
//! Nothing is deleted and nothing is made to look whole. The file is put aside
//! under another name, and a new one begins with a line that says what was found
//! and where the old file is. That line follows the last one that the key file
//! still vouches for, so whatever is missing before it stays missing.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::chain::{LineKey, forget};
use crate::counts::Counters;
use crate::files::FileError;
use crate::key::{KeyFile, KeyState};
use crate::line::{Parsed, Position};
use crate::reader::{Lines, Next};
use crate::recover::{OpenError, TrailEnd, complete_seal, read_end};
use crate::sealed_file::SealedFile;
use crate::segments::{family, open};
use crate::trail_file::TrailFile;
use crate::trail_line::TrailLine;

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub found: String,
    /// Number of the line that says so, the first of the new file.
    pub line: u64,
    /// Name that the old file has now, if there was one.
    pub kept: Option<String>,
}

/// Goes on in a new file where the trail does not continue as its key file says.
/// `None`, and nothing is changed, where it does: then an observer can be
/// started.
///
/// # Errors
/// If key or file cannot be used, for example because an observer uses them, or
/// if the file is no trail.
pub fn repair(path: &Path, key: &Path) -> Result<Option<Repair>, OpenError> {
    let result = continue_anew(path, key);
    forget();
    result
}

#[inline(never)]
fn continue_anew(path: &Path, key: &Path) -> Result<Option<Repair>, OpenError> {
    let (mut key_file, mut state) = KeyFile::open(key)?;
    let (mut file, is_new) = TrailFile::open(path)?;
    let found = match read_end(&mut file, is_new, &state) {
        Err(OpenError::Tampered { what, .. }) => what,
        result => {
            if is_new {
                // What was not there is not put there.
                file.discard()?;
            }
            return result.map(|_| None);
        }
    };
    let end = LastLine::find(path, &state)?;
    let kept = Kept::read(&file, &state)?;
    let mut position = end.position;
    if end.is_seal {
        state = complete_seal(&mut key_file, &state, position)?;
        position = state.position;
    }
    let others = others(path)?;
    let kept_name = match kept.bytes {
        0 => None,
        _ => Some(file.put_aside(position.seq)?),
    };
    file.set_content(0, position.seq);
    let line = position.seq;
    let trail_end = TrailEnd {
        file,
        key_file,
        state,
        position,
        unsealed: 0,
    };
    let mut sealed = SealedFile::new(trail_end, Arc::new(Counters::default()));
    let mark = TrailLine::Continuation {
        found: found.clone(),
        after: line.saturating_sub(1),
        kept: kept_name.clone(),
        kept_bytes: kept.bytes,
        kept_sha256: kept_name.is_some().then_some(kept.sha256),
        unverified_bytes: kept.unverified_bytes,
        files: others,
    };
    sealed.add(Timestamp::now(), &mark);
    sealed.seal()?;
    Ok(Some(Repair {
        found,
        line,
        kept: kept_name,
    }))
}

/// Names of the files beside the one that grows.
fn others(path: &Path) -> Result<Vec<String>, FileError> {
    let mut names: Vec<String> = family(path)?
        .iter()
        .filter(|file| *file != path)
        .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The last line that verifies with the key at hand, in any file of the trail:
/// two lines with one number would be worse than one that is missing.
struct LastLine {
    /// What follows it.
    position: Position,
    is_seal: bool,
}

impl LastLine {
    fn find(path: &Path, state: &KeyState) -> Result<Self, FileError> {
        let line_key = state.key.lines();
        let mut last = Self {
            position: state.position,
            is_seal: false,
        };
        for file in family(path)? {
            if let Ok(opened) = open(&file) {
                let read = last.read(&opened, state, &line_key);
                read.map_err(|error| FileError::new("read", &file, error))?;
            }
        }
        Ok(last)
    }

    fn read(&mut self, file: &File, state: &KeyState, line_key: &LineKey) -> io::Result<()> {
        each_line(file, |line, _| {
            let Some(line) = line.filter(|line| is_authentic(line, state, line_key)) else {
                return;
            };
            // Nothing belongs after a seal under its key.
            let is_seal = line.is_kind("seal");
            if line.seq >= self.position.seq && (is_seal || !self.is_seal) {
                self.position = line.position().after(line.mac);
                self.is_seal = is_seal;
            }
        })
        .map(|_| ())
    }
}

/// What is in the file that is put aside.
struct Kept {
    bytes: u64,
    sha256: String,
    unverified_bytes: u64,
}

impl Kept {
    /// A file without a single line is another one, named by mistake.
    fn read(file: &TrailFile, state: &KeyState) -> Result<Self, OpenError> {
        let failed = |error| FileError::new("read", file.path(), error);
        let line_key = state.key.lines();
        let (mut good, mut has_line) = (0, false);
        let bytes = each_line(file.file(), |line, end| {
            has_line |= line.is_some();
            // Earlier lines have keys that are gone.
            let is_good = |line: Parsed<'_>| {
                line.seq < state.position.seq || is_authentic(&line, state, &line_key)
            };
            if line.is_some_and(is_good) {
                good = end;
            }
        })
        .map_err(failed)?;
        if bytes > 0 && !has_line {
            return Err(OpenError::NoTrail(file.path().display().to_string()));
        }
        Ok(Self {
            bytes,
            sha256: sha256(file.file()).map_err(failed)?,
            unverified_bytes: bytes.saturating_sub(good),
        })
    }
}

fn sha256(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut source = BufReader::new(file);
    let mut sha256 = Sha256::new();
    loop {
        let chunk = source.fill_buf()?;
        if chunk.is_empty() {
            return Ok(hex::encode(sha256.finalize()));
        }
        sha256.update(chunk);
        let read = chunk.len();
        source.consume(read);
    }
}

fn is_authentic(line: &Parsed<'_>, state: &KeyState, line_key: &LineKey) -> bool {
    let Position { seq, epoch, .. } = state.position;
    line.epoch == epoch && line.seq >= seq && line_key.fits(line.body, &line.mac)
}

/// Reads a file from its beginning, with what is no line in it, and where each
/// line ends. Returns the file's length.
fn each_line(mut file: &File, mut see: impl FnMut(Option<Parsed<'_>>, u64)) -> io::Result<u64> {
    file.rewind()?;
    let mut lines = Lines::new(BufReader::new(file));
    loop {
        match lines.advance()? {
            Next::Line => see(Parsed::new(lines.line()), lines.offset()),
            Next::TooLong | Next::Torn => {}
            Next::End => return Ok(lines.offset()),
        }
    }
}
