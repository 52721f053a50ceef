//! Reads lines as they are written, across rotations, whoever rotates.

mod change;
mod open_file;

use std::fs::File;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use crate::line::first_seq;
use crate::segments::{open, rotated_path};

pub use self::change::Change;
use self::open_file::OpenFile;

/// Follows the file that a trail grows in. Verifies nothing.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<OpenFile>,
    /// Whether what is there at first is left out.
    skips: bool,
    /// Whether it was said that the file is not there.
    has_waited: bool,
    /// Number of the next line.
    next_seq: Option<u64>,
    /// Lines before this one were shown already.
    shown_before: Option<u64>,
    /// A line that is at hand, and waits for a change to be reported before it.
    is_held_back: bool,
}

/// What a follower sees.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen<'a> {
    /// A whole line, without its line feed.
    Line(&'a [u8]),
    /// Somebody else did something to the file, or lines are missing.
    Change(Change),
    /// Nothing new yet.
    Nothing,
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
            has_waited: false,
            next_seq: None,
            shown_before: None,
            is_held_back: false,
        }
    }

    /// What comes next. A line longer than 64 KiB, which the observer does not
    /// write, is cut there.
    ///
    /// # Errors
    /// If a file of the trail cannot be read.
    pub fn look(&mut self) -> io::Result<Seen<'_>> {
        if mem::take(&mut self.is_held_back) {
            return Ok(self.line());
        }
        loop {
            match self.advance()? {
                Step::Line => {}
                Step::Change(change) => return Ok(Seen::Change(change)),
                Step::Nothing => return Ok(Seen::Nothing),
            }
            let seq = self.open.as_ref().and_then(|open| first_seq(open.line()));
            let Some(seq) = seq else {
                return Ok(self.line());
            };
            if self.shown_before.is_some_and(|before| seq < before) {
                continue;
            }
            self.shown_before = None;
            let expected = self.next_seq.replace(seq.saturating_add(1));
            if let Some(from) = expected.filter(|&expected| expected < seq) {
                self.is_held_back = true;
                let through = seq.saturating_sub(1);
                return Ok(Seen::Change(Change::Missing { from, through }));
            }
            return Ok(self.line());
        }
    }

    fn line(&self) -> Seen<'_> {
        match &self.open {
            Some(open) => Seen::Line(open.line()),
            None => Seen::Nothing,
        }
    }

    fn advance(&mut self) -> io::Result<Step> {
        if self.open.is_none()
            && let Some(change) = self.reopen()?
        {
            return Ok(Step::Change(change));
        }
        let Some(open) = &mut self.open else {
            return Ok(Step::Nothing);
        };
        if let Some(change) = open.truncation()? {
            self.begin_again()?;
            return Ok(Step::Change(change));
        }
        if open.advance()? {
            return Ok(Step::Line);
        }
        if open.is_at(&self.path) {
            return Ok(Step::Nothing);
        }
        // Renamed, so nothing is added any more: what is left of it, and then
        // the next file.
        if open.advance()? {
            return Ok(Step::Line);
        }
        let change = open.moved(&self.path);
        self.open = None;
        // Its next file, or the lack of it, is seen at the next call.
        Ok(change.map_or(Step::Nothing, Step::Change))
    }

    /// Reads a file that was cut from its beginning. If it is the same trail,
    /// what was shown of it is not shown again.
    fn begin_again(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let is_same = open.begin_again()?;
        self.shown_before = self.next_seq.filter(|_| is_same);
        Ok(())
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

    /// Opens the next file. Says once if there is none.
    fn reopen(&mut self) -> io::Result<Option<Change>> {
        let Some(file) = self.open_next()? else {
            let is_told = mem::replace(&mut self.has_waited, true);
            return Ok((!is_told).then_some(Change::Absent));
        };
        self.has_waited = false;
        self.open = Some(OpenFile::new(file, mem::take(&mut self.skips))?);
        Ok(None)
    }
}

/// What one look brought.
enum Step {
    Line,
    Change(Change),
    Nothing,
}
