//! The remains of a write that a crash interrupted.

use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use sha2::{Digest as _, Sha256};

use crate::files::FileError;
use crate::line::Parsed;
use crate::reader::{Lines, Next};
use crate::trail_file::TrailFile;
use crate::trail_line::TrailLine;

use super::OpenError;

/// How much of them is kept in their `repair` line, in bytes.
const MAX_SHOWN: usize = 256;
/// How much of the file is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// What follows the whole lines of a file.
pub(super) struct Torn {
    bytes: u64,
    sha256: String,
    /// The first bytes.
    begin: Vec<u8>,
}

impl Torn {
    /// Reads what follows the whole lines, if anything does. As soon as any of
    /// it has the form of a line, it is no single write, and somebody edited
    /// the file.
    pub(super) fn read(file: &TrailFile, whole_bytes: u64) -> Result<Option<Self>, OpenError> {
        let failed = |error| FileError::new("read", file.path(), error);
        let mut source = file.file();
        source.seek(SeekFrom::Start(whole_bytes)).map_err(failed)?;
        let (mut sha256, mut bytes, mut begin) = (Sha256::new(), 0_u64, Vec::new());
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = source.read(&mut chunk).map_err(failed)?;
            let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else {
                break;
            };
            sha256.update(part);
            bytes = bytes.saturating_add(read as u64);
            let room = MAX_SHOWN.saturating_sub(begin.len());
            begin.extend_from_slice(part.get(..room).unwrap_or(part));
        }
        if bytes == 0 {
            return Ok(None);
        }
        check_has_no_line(file, whole_bytes)?;
        Ok(Some(Self {
            bytes,
            sha256: hex::encode(sha256.finalize()),
            begin,
        }))
    }

    /// Where there is no whole line, this must be the beginning of the file's
    /// first, or the zeros that a file system leaves of a write which did not
    /// get to the disk. Anything else is another file, named by mistake.
    pub(super) fn check_is_first_line(&self, file: &TrailFile, seq: u64) -> Result<(), OpenError> {
        let expected = format!("{{\"seq\":{seq},").into_bytes();
        let mut pairs = self.begin.iter().zip(&expected);
        if pairs.all(|(is, due)| is == due) || self.begin.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        Err(OpenError::NoTrail(file.path().display().to_string()))
    }

    /// Cuts it off; returns a line about it.
    pub(super) fn cut_off(self, file: &TrailFile) -> Result<TrailLine, FileError> {
        file.cut()?;
        file.sync()?;
        let Self {
            bytes,
            sha256,
            begin,
        } = self;
        tracing::warn!(
            "{}: {bytes} bytes of a torn write were cut off",
            file.path().display()
        );
        Ok(TrailLine::Repair {
            removed_bytes: bytes,
            sha256,
            begin: hex::encode(begin),
        })
    }
}

fn check_has_no_line(file: &TrailFile, from: u64) -> Result<(), OpenError> {
    let failed = |error| FileError::new("read", file.path(), error);
    let mut source = file.file();
    source.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut lines = Lines::new(BufReader::new(source));
    loop {
        match lines.advance().map_err(failed)? {
            Next::End | Next::Torn => return Ok(()),
            Next::Line if Parsed::new(lines.line()).is_some() => {
                return Err(OpenError::Tampered {
                    file: file.path().display().to_string(),
                    what: format!("the lines from byte {from} on do not verify"),
                });
            }
            Next::Line | Next::TooLong => {}
        }
    }
}
