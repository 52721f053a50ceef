//! Lines as they come, across rotations.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::line::first_seq;
use super::reader::{Found, Lines};
use super::segments::{open, rotated_path};

/// Follows the file that a trail grows in. Verifies nothing.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<Open>,
    /// Whether what was there at first is left out.
    skip: bool,
    /// Number of the line that comes next.
    next: Option<u64>,
}

#[derive(Debug)]
struct Open {
    lines: Lines<BufReader<File>>,
    file: (u64, u64),
    /// The line at hand is unfinished.
    torn: bool,
}

impl Follower {
    /// Follows the file at this path, which need not exist yet; from its
    /// beginning, or only what comes from now on.
    #[must_use]
    pub fn new(path: &Path, from_start: bool) -> Self {
        Self {
            path: path.to_owned(),
            open: None,
            skip: !from_start,
            next: None,
        }
    }

    /// The next whole line, without its line feed; `None` if there is none
    /// yet. A line longer than [`MAX_LINE`](super::MAX_LINE) is cut there.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        let ready = self.advance()?;
        let open = self.open.as_ref().filter(|_| ready);
        let line = open.map(|open| open.lines.line());
        if let Some(seq) = line.and_then(first_seq) {
            self.next = seq.checked_add(1);
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
        // Rotated, and nothing is added any more: read to its end, then go on
        // in the next file.
        let more = open.advance()?;
        if !more {
            self.open = None;
        }
        Ok(more)
    }

    /// The file that goes on where the last ended: it may have been rotated
    /// away too by now.
    fn find(&self) -> io::Result<Option<File>> {
        let rotated = self.next.map(|next| rotated_path(&self.path, next));
        for path in rotated.iter().chain([&self.path]) {
            match open(path, &self.path) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        let Some(mut file) = self.find()? else {
            return Ok(false);
        };
        if std::mem::take(&mut self.skip) {
            file.seek(SeekFrom::End(0))?;
        }
        let meta = file.metadata()?;
        self.open = Some(Open {
            lines: Lines::new(BufReader::new(file)),
            file: (meta.dev(), meta.ino()),
            torn: false,
        });
        Ok(true)
    }
}

impl Open {
    /// Reads on; whether a whole line is at hand.
    fn advance(&mut self) -> io::Result<bool> {
        let found = if self.torn {
            self.lines.more()?
        } else {
            self.lines.advance()?
        };
        self.torn = found == Found::Torn;
        Ok(matches!(found, Found::Line | Found::TooLong))
    }
}

fn is_gone(path: &Path, (device, inode): (u64, u64)) -> bool {
    path.symlink_metadata()
        .map_or(true, |meta| (meta.dev(), meta.ino()) != (device, inode))
}
