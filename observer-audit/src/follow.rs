//! Reads lines as they are written, across rotations.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::mem;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::line::first_seq;
use crate::reader::{Lines, Next};
use crate::segments::{open, rotated_path};

/// Follows the file that a trail grows in. Verifies nothing.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<Open>,
    /// Whether what is there at first is left out.
    skips: bool,
    /// Number of the next line.
    next_seq: Option<u64>,
}

#[derive(Debug)]
struct Open {
    lines: Lines<BufReader<File>>,
    /// Its device and inode.
    file: (u64, u64),
    /// Whether the line at hand is unfinished.
    is_torn: bool,
}

impl Follower {
    /// Follows the file at this path, which need not exist yet: from its
    /// beginning, or only what is written from now on.
    #[must_use]
    pub fn new(path: &Path, from_start: bool) -> Self {
        Self {
            path: path.to_owned(),
            open: None,
            skips: !from_start,
            next_seq: None,
        }
    }

    /// The next whole line, without its line feed; `None` if there is none
    /// yet. A line longer than 64 KiB, which the observer does not write, is
    /// cut there.
    ///
    /// # Errors
    /// If a file of the trail cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        let ready = self.advance()?;
        let open = self.open.as_ref().filter(|_| ready);
        let line = open.map(|open| open.lines.line());
        if let Some(seq) = line.and_then(first_seq) {
            self.next_seq = seq.checked_add(1);
        }
        Ok(line)
    }

    fn advance(&mut self) -> io::Result<bool> {
        if self.open.is_none() && !self.reopen()? {
            return Ok(false);
        }
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        if open.advance()? {
            return Ok(true);
        }
        if !is_gone(&self.path, open.file) {
            return Ok(false);
        }
        // Rotated, so nothing is added any more: what is left of it, and then
        // the next file.
        let more = open.advance()?;
        if !more {
            self.open = None;
        }
        Ok(more)
    }

    /// Opens the file that continues where the last one ended. That may have
    /// been rotated meanwhile, too.
    fn open_next(&self) -> io::Result<Option<File>> {
        let rotated = self.next_seq.map(|next| rotated_path(&self.path, next));
        for path in rotated.iter().chain([&self.path]) {
            match open(path) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens the next file, if there is one.
    fn reopen(&mut self) -> io::Result<bool> {
        let Some(mut file) = self.open_next()? else {
            return Ok(false);
        };
        if mem::take(&mut self.skips) {
            file.seek(SeekFrom::End(0))?;
        }
        let meta = file.metadata()?;
        self.open = Some(Open {
            lines: Lines::new(BufReader::new(file)),
            file: (meta.dev(), meta.ino()),
            is_torn: false,
        });
        Ok(true)
    }
}

impl Open {
    /// Reads on. Returns whether a whole line is at hand.
    fn advance(&mut self) -> io::Result<bool> {
        let found = if self.is_torn {
            self.lines.advance_torn()?
        } else {
            self.lines.advance()?
        };
        self.is_torn = found == Next::Torn;
        Ok(matches!(found, Next::Line | Next::TooLong))
    }
}

/// Whether the path leads to another file, or to none.
fn is_gone(path: &Path, (device, inode): (u64, u64)) -> bool {
    path.symlink_metadata()
        .map_or(true, |meta| (meta.dev(), meta.ino()) != (device, inode))
}
