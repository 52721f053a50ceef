//! Puts files into the order of their lines, whatever their names are, and sets
//! aside what is no part of the trail.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::PathBuf;

use crate::chain::{ChainKey, LineKey, Link, MAX_EPOCH};
use crate::files::FileError;
use crate::line::Parsed;
use crate::reader::{Lines, Next};
use crate::segments::{open, rotated_number};
use crate::sources::compressor;

use super::finding::Fault;

/// Files that are kept open from now until they are checked: a running observer
/// may rename them meanwhile.
const MAX_OPEN: usize = 512;

/// Files in the order in which they are to be checked, and what is wrong with
/// files as such. One that is no part of the trail is not checked.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) parts: Vec<Part>,
    pub(super) findings: Vec<(PathBuf, Fault)>,
}

/// A file that may be part of the trail.
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Kept open, unless there are too many.
    file: Option<File>,
    /// Number of its first authentic line; none: it has no whole line.
    first_seq: Option<u64>,
    length: u64,
}

/// How a file begins.
enum Beginning {
    /// With a line whose MAC fits, after so many others.
    Line(u64, Link, u64),
    /// Empty, or the beginning of a line.
    NoLine,
    /// It has lines, and none is of this trail.
    Foreign,
    Compressed(&'static str),
}

/// Sorts files by their first authentic lines. Nothing that is forged can move a
/// file: what it claims counts only if its MAC fits.
pub(super) fn sort(files: &[PathBuf], first: &ChainKey) -> Result<Sorted, FileError> {
    let mut keys = Keys::new(first);
    let mut sorted = Sorted::default();
    let mut links = Vec::new();
    for path in files {
        let failed = |error: io::Error| FileError::new("read", path, error);
        if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let file = open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut first_seq = None;
        match beginning(&file, &mut keys).map_err(failed)? {
            Beginning::Line(seq, link, before) => {
                let named = rotated_number(path).filter(|&named| named != seq && before == 0);
                if let Some(named) = named {
                    sorted
                        .findings
                        .push((path.clone(), Fault::Misnamed { seq, named }));
                }
                first_seq = Some(seq);
                links.push(link);
            }
            Beginning::NoLine => links.push(Link::default()),
            Beginning::Foreign => {
                sorted.findings.push((path.clone(), Fault::Foreign));
                continue;
            }
            Beginning::Compressed(format) => {
                sorted
                    .findings
                    .push((path.clone(), Fault::Compressed { format }));
                continue;
            }
        }
        sorted.parts.push(Part {
            path: path.clone(),
            file: (files.len() <= MAX_OPEN).then_some(file),
            first_seq,
            length,
        });
    }
    sorted.set_copies_aside(links);
    Ok(sorted)
}

impl Part {
    /// The file, from its beginning.
    pub(super) fn open(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                Ok(file)
            }
            None => open(&self.path),
        }
    }
}

impl Sorted {
    /// Of files that begin with the same line the longest is checked.
    fn set_copies_aside(&mut self, links: Vec<Link>) {
        let parts = std::mem::take(&mut self.parts);
        let mut parts: Vec<(Part, Link)> = parts.into_iter().zip(links).collect();
        parts.sort_by_key(|(part, _)| {
            let Part {
                first_seq, length, ..
            } = part;
            match first_seq {
                Some(seq) => (*seq, u64::MAX.saturating_sub(*length)),
                // What is unfinished comes last.
                None => (u64::MAX, *length),
            }
        });
        let mut seen: HashMap<[u8; 32], PathBuf> = HashMap::new();
        for (part, Link(link)) in parts {
            if part.first_seq.is_some() {
                if let Some(of) = seen.get(&link) {
                    let of = of.clone();
                    self.findings.push((part.path, Fault::Copied { of }));
                    continue;
                }
                seen.insert(link, part.path.clone());
            }
            self.parts.push(part);
        }
    }
}

fn beginning(mut file: &File, keys: &mut Keys<'_>) -> io::Result<Beginning> {
    if let Some(format) = compressor(file)? {
        return Ok(Beginning::Compressed(format));
    }
    file.rewind()?;
    let mut lines = Lines::new(BufReader::new(file));
    let mut before = 0_u64;
    loop {
        match lines.advance()? {
            Next::Line => {
                let line = Parsed::new(lines.line());
                if let Some(line) = line.filter(|line| keys.fit(line)) {
                    return Ok(Beginning::Line(line.seq, line.mac, before));
                }
            }
            Next::TooLong => {}
            Next::Torn | Next::End if before > 0 => return Ok(Beginning::Foreign),
            Next::Torn | Next::End => return Ok(Beginning::NoLine),
        }
        before = before.saturating_add(1);
    }
}

/// The keys of all epochs. The last one that was used is remembered: most lines
/// are of the next epochs.
struct Keys<'a> {
    first: &'a ChainKey,
    epoch: u64,
    key: ChainKey,
    lines: LineKey,
    /// How often keys may still be ratcheted: bounds the work that forged
    /// epochs can cause.
    ratchets: u64,
}

impl<'a> Keys<'a> {
    fn new(first: &'a ChainKey) -> Self {
        Self {
            first,
            epoch: 0,
            key: first.clone(),
            lines: first.lines(),
            ratchets: MAX_EPOCH,
        }
    }

    /// Whether the line's MAC fits, under the key of the line's epoch.
    fn fit(&mut self, line: &Parsed<'_>) -> bool {
        let is_back = line.epoch < self.epoch;
        let from = if is_back { 0 } else { self.epoch };
        let steps = line.epoch.saturating_sub(from);
        let Some(left) = self.ratchets.checked_sub(steps) else {
            return false;
        };
        if is_back {
            self.key = self.first.clone();
        }
        for _ in 0..steps {
            self.key.ratchet();
        }
        if is_back || steps > 0 {
            self.lines = self.key.lines();
        }
        (self.ratchets, self.epoch) = (left, line.epoch);
        self.lines.fits(line.body, &line.mac)
    }
}
