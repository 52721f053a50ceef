//! Reads the file that grows, or grew last, up to its last good line.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::chain::LineKey;
use crate::files::FileError;
use crate::key::KeyState;
use crate::line::{Parsed, Position};
use crate::reader::{Lines, Next};
use crate::segments::open;
use crate::trail_file::TrailFile;

use super::OpenError;
use super::torn::Torn;

/// How the trail ends.
pub(crate) struct FileEnd {
    /// Where the next line goes.
    pub(super) position: Position,
    /// Lines of the key file's epoch.
    pub(super) unsealed: u64,
    /// Whether the last of them is its seal.
    pub(super) is_sealed: bool,
    /// Whether there is no line, or the last ones are of an ordered stop.
    pub(super) is_clean: bool,
    /// The file with the last line, where the one that grows has none.
    pub(super) previous: Option<String>,
    /// What follows the last good line.
    pub(super) torn: Option<Torn>,
}

pub(crate) fn read_end(
    file: &mut TrailFile,
    is_new: bool,
    state: &KeyState,
) -> Result<FileEnd, OpenError> {
    let mut read = Read::new(state, file.file(), file.path())?;
    let (whole_bytes, first_seq) = (read.whole_bytes, read.first_seq);
    let mut previous = None;
    if first_seq.is_none()
        && let Some((name, before)) = find_renamed(file, state)?
    {
        previous = Some(name);
        read = before;
    }
    if !read.scan.has_reached {
        return Err(OpenError::Tampered {
            file: file.path().display().to_string(),
            what: describe(file, is_new, first_seq, state)?,
        });
    }
    let position = read.scan.position;
    file.set_content(whole_bytes, first_seq.unwrap_or(position.seq));
    let torn = Torn::read(file, whole_bytes)?;
    if first_seq.is_none()
        && let Some(torn) = &torn
    {
        torn.check_is_first_line(file, position.seq)?;
    }
    Ok(FileEnd {
        position,
        unsealed: read.scan.unsealed,
        is_sealed: read.scan.is_sealed,
        is_clean: read.scan.tail == Tail::Clean,
        previous,
        torn,
    })
}

/// The good lines at the beginning of a file.
struct Read<'a> {
    scan: Scan<'a>,
    whole_bytes: u64,
    first_seq: Option<u64>,
}

impl<'a> Read<'a> {
    fn new(state: &'a KeyState, file: &File, path: &Path) -> Result<Self, FileError> {
        let mut read = Self {
            scan: Scan::new(state),
            whole_bytes: 0,
            first_seq: None,
        };
        let mut lines = Lines::new(BufReader::new(file));
        let failed = |error| FileError::new("read", path, error);
        while lines.advance().map_err(failed)? == Next::Line {
            let Some(line) = Parsed::new(lines.line()) else {
                break;
            };
            if !read.scan.add(&line, read.first_seq.is_none()) {
                break;
            }
            read.first_seq = read.first_seq.or(Some(line.seq));
            read.whole_bytes = lines.offset();
        }
        Ok(read)
    }
}

/// Where the file that grows has no line: the file that had its name before, and
/// that leads on from the key file's position to its own last byte. The observer
/// itself renames it when it rotates, and so do other programs.
fn find_renamed<'a>(
    file: &TrailFile,
    state: &'a KeyState,
) -> Result<Option<(String, Read<'a>)>, FileError> {
    let mut best: Option<(String, Read<'a>)> = None;
    for (name, path) in file.renamed()? {
        let failed = |error| FileError::new("read", &path, error);
        let Ok(renamed) = open(&path) else {
            // A pipe, or somebody else's.
            continue;
        };
        let read = Read::new(state, &renamed, &path)?;
        let length = renamed.metadata().map_err(failed)?.len();
        let leads_on = read.scan.has_reached && read.first_seq.is_some();
        let is_further = best.as_ref().is_none_or(|(_, best)| {
            let (best, this) = (best.scan.position, read.scan.position);
            (best.epoch, best.seq) < (this.epoch, this.seq)
        });
        if leads_on && length == read.whole_bytes && is_further {
            best = Some((name, read));
        }
    }
    Ok(best)
}

/// What is wrong with a file that the key file does not lead to.
fn describe(
    file: &TrailFile,
    is_new: bool,
    first_seq: Option<u64>,
    state: &KeyState,
) -> Result<String, FileError> {
    let last = state.position.seq.saturating_sub(1);
    if let Some(first) = first_seq {
        return Ok(format!(
            "it begins with line {first}, and line {last} with its seal is not in it"
        ));
    }
    let failed = |error| FileError::new("look at", file.path(), error);
    let found = if is_new {
        "the file is missing"
    } else if file.file().metadata().map_err(failed)?.len() == 0 {
        "the file is empty"
    } else {
        "the file does not begin with a line of the trail"
    };
    let renamed = file.renamed()?.len();
    let beside = match renamed {
        0 => String::new(),
        _ => format!(", and none of the {renamed} renamed files beside it ends with the last one"),
    };
    Ok(format!("{found}, {last} lines were written{beside}"))
}

/// Follows the lines to the key file's position, and verifies from there.
struct Scan<'a> {
    state: &'a KeyState,
    line_key: LineKey,
    /// Whether the key file's position was reached.
    has_reached: bool,
    /// Where the next line belongs, from there on.
    position: Position,
    unsealed: u64,
    is_sealed: bool,
    tail: Tail,
}

/// What the last line was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Stop,
    /// The seal of an ordered stop, or there is no line.
    Clean,
    Other,
}

impl<'a> Scan<'a> {
    fn new(state: &'a KeyState) -> Self {
        let is_start = state.position == Position::START;
        Self {
            state,
            line_key: state.key.lines(),
            has_reached: is_start,
            position: state.position,
            unsealed: 0,
            is_sealed: false,
            tail: if is_start { Tail::Clean } else { Tail::Other },
        }
    }

    /// Adds the next line, unless it does not belong there: then `false`.
    fn add(&mut self, line: &Parsed<'_>, is_first: bool) -> bool {
        let start = self.state.position;
        if !self.has_reached && line.seq < start.seq {
            // Its key is gone; only `verify` can check it.
            self.set_tail(line);
            self.has_reached = line.seq.checked_add(1) == Some(start.seq) && line.mac == start.prev;
            return true;
        }
        // A rotated file ends with a seal: this one may begin right after.
        self.has_reached |= is_first && line.position() == start;
        let fits = self.has_reached
            && !self.is_sealed
            && line.position() == self.position
            && self.line_key.fits(line.body, &line.mac);
        if fits {
            self.set_tail(line);
            self.position = self.position.after(line.mac);
            self.unsealed = self.unsealed.saturating_add(1);
            self.is_sealed = line.is_kind("seal");
        }
        fits
    }

    /// An ordered stop is `stop` and then its seal.
    fn set_tail(&mut self, line: &Parsed<'_>) {
        self.tail = if line.is_kind("stop") {
            Tail::Stop
        } else if self.tail == Tail::Stop && line.is_kind("seal") {
            Tail::Clean
        } else {
            Tail::Other
        };
    }
}
