//! The file that is being read.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::mem;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use crate::files::Place;
use crate::reader::{Lines, Next};
use crate::segments::{rotated, rotated_path};

use super::change::Change;

/// How much of a file's beginning tells it from another, in bytes: more than the
/// MAC in its first line.
const HEAD: usize = 256;

#[derive(Debug)]
pub(super) struct OpenFile {
    lines: Lines<BufReader<File>>,
    file: File,
    /// Where `lines` began.
    began: u64,
    /// Its device and inode.
    inode: (u64, u64),
    head: Vec<u8>,
    /// Whether the line at hand is unfinished.
    is_torn: bool,
}

impl OpenFile {
    /// Reads the file from its beginning, or from its end.
    pub(super) fn new(mut file: File, from_end: bool) -> io::Result<Self> {
        let began = if from_end {
            file.seek(SeekFrom::End(0))?
        } else {
            0
        };
        let meta = file.metadata()?;
        Ok(Self {
            lines: Lines::new(BufReader::new(file.try_clone()?)),
            began,
            inode: (meta.dev(), meta.ino()),
            head: head(&file)?,
            file,
            is_torn: false,
        })
    }

    /// The line that was read last.
    pub(super) fn line(&self) -> &[u8] {
        self.lines.line()
    }

    /// Reads on. Returns whether a whole line is at hand.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        if self.head.len() < HEAD {
            self.head = head(&self.file)?;
        }
        let found = if self.is_torn {
            self.lines.advance_torn()?
        } else {
            self.lines.advance()?
        };
        self.is_torn = found == Next::Torn;
        Ok(matches!(found, Next::Line | Next::TooLong))
    }

    /// Whether less is there than was read, or something else: a file that was
    /// cut may have grown since.
    pub(super) fn truncation(&self) -> io::Result<Option<Change>> {
        let read = self.began.saturating_add(self.lines.offset());
        let now = self.file.metadata()?.len();
        let is_other = !head(&self.file)?.starts_with(&self.head);
        Ok((now < read || is_other).then_some(Change::Truncated { read, now }))
    }

    /// Reads from the beginning of the file. Returns whether it begins as it
    /// did.
    pub(super) fn begin_again(&mut self) -> io::Result<bool> {
        let before = mem::take(&mut self.head);
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        self.lines = Lines::new(BufReader::new(file));
        (self.began, self.is_torn) = (0, false);
        self.head = head(&self.file)?;
        Ok(!self.head.is_empty() && before.starts_with(&self.head))
    }

    /// Whether the path leads to this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        path.symlink_metadata()
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode)
    }

    /// What somebody else did to a file that the path no longer leads to. The
    /// observer itself gives it a name with the number of its first line.
    pub(super) fn moved(&self, path: &Path) -> Option<Change> {
        if self.file.metadata().is_ok_and(|meta| meta.len() == 0) {
            return None;
        }
        let Ok(place) = Place::new(path) else {
            return Some(Change::Removed);
        };
        let numbers = rotated(&place).unwrap_or_default().into_iter();
        let mut rotated = numbers.map(|first| rotated_path(path, first));
        if rotated.any(|rotated| self.is_at(&rotated)) {
            return None;
        }
        Some(match place.find(&self.file) {
            Some(to) => Change::Renamed { to },
            None => Change::Removed,
        })
    }
}

fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(head)
}
