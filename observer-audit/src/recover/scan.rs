//! Reads the file that grows, up to its last good line.

use std::io::BufReader;
use std::path::Path;

use crate::chain::{LineKey, Link};
use crate::files::FileError;
use crate::key::KeyState;
use crate::line::{Parsed, Position};
use crate::reader::{Lines, Next};
use crate::segments::open;
use crate::trail_file::TrailFile;

use super::OpenError;
use super::torn::Torn;

/// How the file ends.
pub(super) struct FileEnd {
    /// Where the next line goes.
    pub(super) position: Position,
    /// Lines of the key file's epoch.
    pub(super) unsealed: u64,
    /// Whether the last of them is its seal.
    pub(super) is_sealed: bool,
    /// Whether there is no line, or the last ones are of an ordered stop.
    pub(super) is_clean: bool,
    /// What follows the last good line.
    pub(super) torn: Option<Torn>,
}

pub(super) fn read_end(
    file: &mut TrailFile,
    is_new: bool,
    state: &KeyState,
) -> Result<FileEnd, OpenError> {
    let mut scan = Scan::new(state);
    let mut lines = Lines::new(BufReader::new(file.file()));
    let mut whole_bytes = 0;
    let mut first_seq = None;
    let failed = |error| FileError::new("read", file.path(), error);
    while lines.advance().map_err(failed)? == Next::Line {
        let Some(line) = Parsed::new(lines.line()) else {
            break;
        };
        if !scan.add(&line, first_seq.is_none()) {
            break;
        }
        first_seq = first_seq.or(Some(line.seq));
        whole_bytes = lines.offset();
    }
    drop(lines);
    if !scan.has_reached {
        check_rotated(file, first_seq.is_none(), is_new, state)?;
    }
    file.set_content(whole_bytes, first_seq.unwrap_or(state.position.seq));
    let torn = Torn::read(file, whole_bytes)?;
    if first_seq.is_none()
        && let Some(torn) = &torn
    {
        torn.check_is_first_line(file, state)?;
    }
    Ok(FileEnd {
        position: scan.position,
        unsealed: scan.unsealed,
        is_sealed: scan.is_sealed,
        is_clean: scan.tail == Tail::Clean,
        torn,
    })
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

/// Checks a file that does not have the line before the key file's position.
/// It must be an empty one, as a crash leaves it right after a rotation, and
/// the newest rotated file must end with that line.
fn check_rotated(
    file: &TrailFile,
    is_empty: bool,
    is_new: bool,
    state: &KeyState,
) -> Result<(), OpenError> {
    let tampered = |what: String| OpenError::Tampered {
        file: file.path().display().to_string(),
        what,
    };
    let last = state.position.seq.saturating_sub(1);
    if !is_empty {
        return Err(tampered(format!("line {last} with its seal is not in it")));
    }
    let missing = if is_new {
        "the file is missing"
    } else {
        "the file is empty"
    };
    let Some(rotated) = file.newest_rotated()? else {
        return Err(tampered(format!(
            "{missing}, and {last} lines were written"
        )));
    };
    match last_line(&rotated, file.path())? {
        Some((seq, link)) if seq == last && link == state.position.prev => Ok(()),
        _ => Err(tampered(format!(
            "{missing}, and line {last} is not the last of {}",
            rotated.display()
        ))),
    }
}

/// Number and MAC of the last line of a rotated file.
fn last_line(path: &Path, trail: &Path) -> Result<Option<(u64, Link)>, FileError> {
    let failed = |error| FileError::new("read", path, error);
    let mut lines = Lines::new(BufReader::new(open(path, trail).map_err(failed)?));
    let mut last = None;
    while lines.advance().map_err(failed)? == Next::Line {
        last = Parsed::new(lines.line()).map(|line| (line.seq, line.mac));
    }
    Ok(last)
}
