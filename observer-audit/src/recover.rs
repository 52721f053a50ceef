//! Continues where the trail ended, if it ended as the key file records.

mod scan;
mod torn;

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::files::FileError;
use crate::key::{KeyError, KeyFile, KeyState};
use crate::line::Position;
use crate::trail_file::TrailFile;
use crate::trail_line::TrailLine;

pub(crate) use self::scan::{FileEnd, read_end};

/// Why a trail cannot be continued. None of these is passed over: an observer
/// that is to keep a trail does not run without one.
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
        "{file} does not continue as its key file says: {what}. It may have been tampered with, or \
         moved or emptied by another program. `observer audit verify` shows what is missing, and \
         `observer audit repair` goes on in a new file and keeps what there is"
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
    Thread(io::Error),
}

/// A trail that can be continued.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) end: TrailEnd,
    /// Whether there is nothing before, or an ordered stop.
    pub(crate) is_clean: bool,
    /// Lines to write about what was renamed or cut off.
    pub(crate) lines: Vec<TrailLine>,
}

/// Where a trail is continued, and with which key.
#[derive(Debug)]
pub(crate) struct TrailEnd {
    pub(crate) file: TrailFile,
    pub(crate) key_file: KeyFile,
    pub(crate) state: KeyState,
    /// Where the next line goes.
    pub(crate) position: Position,
    /// Lines of the present epoch.
    pub(crate) unsealed: u64,
}

/// Opens key file and trail, and verifies the lines since the key file's
/// position. Earlier lines cannot be verified: their keys are gone.
pub(crate) fn recover(path: &Path, key: &Path) -> Result<Recovered, OpenError> {
    let (mut key_file, mut state) = KeyFile::open(key)?;
    let (mut file, is_new) = TrailFile::open(path)?;
    let end = match read_end(&mut file, is_new, &state) {
        Ok(end) => end,
        Err(error) => {
            if is_new {
                // A file that is missing must be missed the next time, too.
                file.discard()?;
            }
            return Err(error);
        }
    };
    let FileEnd {
        mut position,
        mut unsealed,
        is_sealed,
        is_clean,
        previous,
        torn,
    } = end;
    let mut lines = Vec::new();
    if let Some(previous) = previous {
        tracing::warn!("{}: a new file, after {previous}", file.path().display());
        lines.push(TrailLine::Rotation { previous });
    }
    if let Some(torn) = torn {
        lines.push(torn.cut_off(&file)?);
    }
    if is_sealed {
        // The crash came between a seal and the key that follows it.
        file.sync()?;
        state = complete_seal(&mut key_file, &state, position)?;
        position = state.position;
        unsealed = 0;
    }
    Ok(Recovered {
        end: TrailEnd {
            file,
            key_file,
            state,
            position,
            unsealed,
        },
        is_clean,
        lines,
    })
}

/// Has the key file follow the seal that ends before this position.
pub(crate) fn complete_seal(
    key_file: &mut KeyFile,
    state: &KeyState,
    after: Position,
) -> Result<KeyState, FileError> {
    let state = state.after_seal(after.prev, after.seq.saturating_sub(1));
    let next = key_file.prepare(state.clone())?;
    key_file.commit(&next)?;
    Ok(state)
}
