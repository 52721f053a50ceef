//! Checks that a trail is as it was written. The [crate's documentation](crate)
//! lists what that can show, and what it cannot.

mod check;
mod finding;
mod sort;
mod verification;

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use thiserror::Error;

use crate::files::FileError;
use crate::key::{KeyError, KeyState, Use};
use crate::sources::expand;

use self::check::Check;
pub use self::finding::{Fault, Finding};
use self::sort::{Sorted, sort};
pub use self::verification::Verification;

/// What to verify, and with what.
#[derive(Clone, Debug)]
pub struct Input {
    /// The files of the trail, in any order and by any name; a folder stands
    /// for all files in it. A single file stands for the one that lines were
    /// appended to, and its rotated files lie beside it.
    pub files: Vec<PathBuf>,
    /// The verification key.
    pub key: PathBuf,
    /// The key file of the host, if it is at hand: with it a tail that was cut
    /// off shows.
    pub host_key: Option<PathBuf>,
    /// Whether the observer still runs or was killed, so that the trail may
    /// end anywhere.
    pub running: bool,
}

/// Why nothing could be verified.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing to verify.
    #[error("cannot open {0}: {error}", error = io::Error::from(Errno::NOENT))]
    NoTrail(PathBuf),
    /// The key file is of another trail.
    #[error("the host's key file is of trail {found}, the verification key of {expected}")]
    OtherTrail {
        /// The verification key's.
        expected: String,
        /// The key file's.
        found: String,
    },
}

/// Verifies a trail, rotated files and all. Memory is bounded whatever the
/// files hold.
///
/// # Errors
/// If a key or a file cannot be read. What is wrong with the trail is no
/// error but a finding.
pub fn verify(input: &Input) -> Result<Verification, VerifyError> {
    let first = KeyState::load(&input.key, Use::Verify)?;
    let files = expand(&input.files)?;
    if files.is_empty() {
        let named = input.files.first().cloned();
        return Err(VerifyError::NoTrail(named.unwrap_or_default()));
    }
    let before = load_host_key(input, &first)?;
    let host = before.as_ref().map(|state| state.position);
    let mut check = Check::new(&first, host, input.running);
    let Sorted { parts, findings } = sort(&files, &first.key)?;
    for (path, fault) in findings {
        check.note(path, fault);
    }
    let last = parts.len().saturating_sub(1);
    let mut files = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let is_lenient = index == last && (input.running || before.is_some());
        check.file(&part, is_lenient)?;
        files.push(part.path);
    }
    // A running observer may have written more meanwhile: the trail reaches at
    // least as far as the key file did before, and at most as far as it does
    // now.
    let after = load_host_key(input, &first)?;
    check.end(&first, before.as_ref(), after.as_ref());
    Ok(Verification {
        trail: first.trail,
        files,
        ..check.verification
    })
}

fn load_host_key(input: &Input, first: &KeyState) -> Result<Option<KeyState>, VerifyError> {
    let Some(path) = &input.host_key else {
        return Ok(None);
    };
    let state = KeyState::load(path, Use::Seal)?;
    if state.trail != first.trail {
        return Err(VerifyError::OtherTrail {
            expected: first.trail.clone(),
            found: state.trail,
        });
    }
    Ok(Some(state))
}
