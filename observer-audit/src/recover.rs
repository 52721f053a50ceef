//! Goes on where the trail ended, if it ended as the key file says.

use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::chain::Link;
use super::files::FileError;
use super::key::{KeyError, KeyFile, KeyState};
use super::kinds::TrailLine;
use super::line::{Parsed, Position};
use super::reader::{Lines, Next};
use super::segments::{Log, open};

/// How much of a torn write is kept in its `repair` line, in bytes.
const MAX_SHOWN: usize = 256;

/// Why a trail cannot be gone on with. None of these is passed over: an
/// observer that was told to leave a trail does not run without.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The trail is not as the observer left it.
    #[error(
        "{file} does not continue as its key file says: {what}; it may have been tampered with. \
         Keep it and the key file for `observer audit verify`, and begin a new trail with a new key"
    )]
    Tampered {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The file is something else.
    #[error("{0} exists and is no audit trail; it is left alone, choose another path")]
    NoTrail(String),
    /// The writer's thread cannot be started.
    #[error("cannot start the audit writer: {0}")]
    Thread(std::io::Error),
}

/// A trail at its end.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) log: Log,
    pub(super) key_file: KeyFile,
    pub(super) state: KeyState,
    /// Where the next line goes.
    pub(super) position: Position,
    /// Lines of the present epoch.
    pub(super) unsealed: u64,
    /// Nothing before, or an ordered stop.
    pub(super) clean: bool,
    pub(super) repair: Option<TrailLine>,
}

/// Opens key file and trail, and verifies what the key file cannot vouch for:
/// the lines since the last seal.
pub(super) fn recover(path: &Path, key: &Path) -> Result<Recovered, OpenError> {
    let (mut key_file, mut state) = KeyFile::open(key)?;
    let (mut log, new) = Log::open(path)?;
    let end = match read_end(&mut log, new, &state) {
        Ok(end) => end,
        Err(error) => {
            if new {
                // A file that is missing must be missed the next time, too.
                log.discard()?;
            }
            return Err(error);
        }
    };
    let repair = end.torn.map(|torn| cut(&log, &torn)).transpose()?;
    let mut position = end.position;
    let mut unsealed = end.unsealed;
    if end.sealed {
        // The crash came between a seal and the key that follows it.
        log.sync()?;
        state = state.after_seal(position.prev, position.seq.saturating_sub(1));
        let next = key_file.prepare(state.clone())?;
        key_file.commit(&next)?;
        position = state.position;
        unsealed = 0;
    }
    Ok(Recovered {
        log,
        key_file,
        state,
        position,
        unsealed,
        clean: end.clean,
        repair,
    })
}

/// How the file ends.
struct End {
    position: Position,
    unsealed: u64,
    /// The last line seals the key file's epoch.
    sealed: bool,
    clean: bool,
    torn: Option<Torn>,
}

struct Torn {
    bytes: u64,
    sha256: String,
    begin: Vec<u8>,
}

fn read_end(log: &mut Log, new: bool, state: &KeyState) -> Result<End, OpenError> {
    let mut scan = Scan::new(state);
    let mut lines = Lines::new(BufReader::new(log.file()));
    let mut whole = 0;
    let mut first_seq = None;
    let failed = |error| FileError::new("read", log.path(), error);
    while lines.advance().map_err(failed)? == Next::Line {
        let Some(line) = Parsed::new(lines.line()) else {
            break;
        };
        if !scan.take(&line, first_seq.is_none()) {
            break;
        }
        first_seq = first_seq.or(Some(line.seq));
        whole = lines.offset();
    }
    drop(lines);
    if !scan.reached {
        reached_in_rotated(log, first_seq.is_none(), new, state)?;
    }
    log.found(whole, first_seq.unwrap_or(state.position.seq));
    let torn = torn(log, whole)?;
    if first_seq.is_none()
        && let Some(torn) = &torn
    {
        check_beginning(log, torn, state)?;
    }
    Ok(End {
        position: scan.at,
        unsealed: scan.unsealed,
        sealed: scan.sealed,
        clean: scan.tail == Tail::End,
        torn,
    })
}

/// Follows the lines to the key file's position, and verifies from there.
struct Scan<'a> {
    state: &'a KeyState,
    lines: super::chain::LineKey,
    /// Whether the key file's position was met.
    reached: bool,
    at: Position,
    unsealed: u64,
    sealed: bool,
    tail: Tail,
}

/// What the last line was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Stop,
    /// The seal of an ordered stop, or there is no line.
    End,
    Other,
}

impl<'a> Scan<'a> {
    fn new(state: &'a KeyState) -> Self {
        Self {
            state,
            lines: state.key.lines(),
            reached: state.position == Position::START,
            at: state.position,
            unsealed: 0,
            sealed: false,
            tail: if state.position == Position::START {
                Tail::End
            } else {
                Tail::Other
            },
        }
    }

    /// Takes the next line; whether it belongs.
    fn take(&mut self, line: &Parsed<'_>, first: bool) -> bool {
        let start = self.state.position;
        if !self.reached && line.seq < start.seq {
            // Its key is gone; `verify` is for these.
            self.note(line);
            self.reached = line.seq.checked_add(1) == Some(start.seq) && line.mac == start.prev;
            return true;
        }
        // A rotated file ends with a seal: this one may begin right after.
        self.reached |= first && line.position() == start;
        let fits = self.reached
            && !self.sealed
            && line.position() == self.at
            && self.lines.fits(line.body, &line.mac);
        if fits {
            self.note(line);
            self.at = self.at.after(line.mac);
            self.unsealed = self.unsealed.saturating_add(1);
            self.sealed = line.is_kind("seal");
        }
        fits
    }

    /// An ordered stop is `stop` and then its seal.
    fn note(&mut self, line: &Parsed<'_>) {
        self.tail = if line.is_kind("stop") {
            Tail::Stop
        } else if self.tail == Tail::Stop && line.is_kind("seal") {
            Tail::End
        } else {
            Tail::Other
        };
    }
}

/// The file at hand has nothing of what the key file speaks of. It must then be
/// the empty one that a rotation or a crash right after left.
fn reached_in_rotated(
    log: &Log,
    empty: bool,
    new: bool,
    state: &KeyState,
) -> Result<(), OpenError> {
    let tampered = |what: String| OpenError::Tampered {
        file: log.path().display().to_string(),
        what,
    };
    let last = state.position.seq.saturating_sub(1);
    if !empty {
        return Err(tampered(format!("line {last} with its seal is not in it")));
    }
    let missing = if new {
        "the file is missing"
    } else {
        "the file is empty"
    };
    let Some(rotated) = log.newest_rotated()? else {
        return Err(tampered(format!(
            "{missing}, and {last} lines were written"
        )));
    };
    match last_link(&rotated, log.path())? {
        Some((seq, link)) if seq == last && link == state.position.prev => Ok(()),
        _ => Err(tampered(format!(
            "{missing}, and line {last} is not the last of {}",
            rotated.display()
        ))),
    }
}

fn last_link(path: &Path, trail: &Path) -> Result<Option<(u64, Link)>, FileError> {
    let failed = |error| FileError::new("read", path, error);
    let mut lines = Lines::new(BufReader::new(open(path, trail).map_err(failed)?));
    let mut last = None;
    while lines.advance().map_err(failed)? == Next::Line {
        last = Parsed::new(lines.line()).map(|line| (line.seq, line.mac));
    }
    Ok(last)
}

/// What follows the whole lines. Only the remains of one write may: as soon as
/// anything after the break has the form of a line, somebody edited the file.
fn torn(log: &Log, whole: u64) -> Result<Option<Torn>, OpenError> {
    let failed = |error| FileError::new("read", log.path(), error);
    let mut file = log.file();
    file.seek(SeekFrom::Start(whole)).map_err(failed)?;
    let (mut sha256, mut bytes, mut begin) = (Sha256::new(), 0_u64, Vec::new());
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut chunk).map_err(failed)?;
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
    check_torn(log, whole)?;
    Ok(Some(Torn {
        bytes,
        sha256: hex::encode(sha256.finalize()),
        begin,
    }))
}

/// What stands in a file without a single line of the trail must be the
/// beginning of its first, or what a file system leaves of a write that did
/// not get to the disk. Anything else is somebody's file, named by mistake.
fn check_beginning(log: &Log, torn: &Torn, state: &KeyState) -> Result<(), OpenError> {
    let Torn { begin, .. } = torn;
    let expected = format!("{{\"seq\":{},", state.position.seq).into_bytes();
    let same = begin.iter().zip(&expected).all(|(is, due)| is == due);
    if same || begin.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    Err(OpenError::NoTrail(log.path().display().to_string()))
}

fn check_torn(log: &Log, whole: u64) -> Result<(), OpenError> {
    let failed = |error| FileError::new("read", log.path(), error);
    let mut file = log.file();
    file.seek(SeekFrom::Start(whole)).map_err(failed)?;
    let mut lines = Lines::new(BufReader::new(file));
    loop {
        match lines.advance().map_err(failed)? {
            Next::End | Next::Torn => return Ok(()),
            Next::Line if Parsed::new(lines.line()).is_some() => {
                return Err(OpenError::Tampered {
                    file: log.path().display().to_string(),
                    what: format!("the lines from byte {whole} on do not verify"),
                });
            }
            Next::Line | Next::TooLong => {}
        }
    }
}

fn cut(log: &Log, torn: &Torn) -> Result<TrailLine, FileError> {
    log.cut()?;
    log.sync()?;
    let Torn {
        bytes,
        sha256,
        begin,
    } = torn;
    tracing::warn!(
        "{}: {bytes} bytes of a torn write were cut off",
        log.path().display()
    );
    Ok(TrailLine::Repair {
        removed_bytes: *bytes,
        sha256: sha256.clone(),
        begin: hex::encode(begin),
    })
}
