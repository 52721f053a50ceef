//! The key file: a position in the trail, and the key that is valid from there.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::chain::{ChainKey, LEN, Link, MAX_EPOCH};
use crate::files::{Access, FileError, Place, lock};
use crate::line::Position;

/// Longest key file that is read, in bytes; those that are written are
/// shorter.
const MAX_FILE: usize = 1024;
/// Where a key file's successor is prepared.
const NEXT: &str = ".next";

/// Why a key cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be opened, read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no key.
    #[error("{0} is no key file of an audit trail")]
    Malformed(String),
    /// A verification key was given to seal with, or the other way round.
    #[error("{path} is a key to {found} with, not to {wanted} with")]
    WrongUse {
        /// The file.
        path: String,
        /// What it is for.
        found: &'static str,
        /// What it was to be used for.
        wanted: &'static str,
    },
    /// The kernel returned no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(io::Error),
}

/// What a key file is for. The one on the host is replaced at every seal; the
/// one off the host stays at the trail's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Use {
    Seal,
    Verify,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Verify => "verify",
        }
    }
}

/// A place in the trail and the key that is valid from there.
#[derive(Clone, Debug)]
pub(crate) struct KeyState {
    /// Public name of the trail.
    pub(crate) trail: String,
    pub(crate) position: Position,
    pub(crate) key: ChainKey,
}

/// A key file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    #[serde(rename = "use")]
    purpose: Use,
    trail: &'a str,
    epoch: u64,
    next_seq: u64,
    prev: &'a str,
    key: &'a str,
}

/// Creates a new random key in two files: `key` for the observer on this host,
/// `verification` for the auditor, to be moved off the host. Returns the trail's
/// public name, 16 hexadecimal digits.
///
/// # Errors
/// If one of the files exists or cannot be written, or the kernel returns no
/// random bytes.
pub fn generate(key: &Path, verification: &Path) -> Result<String, KeyError> {
    let mut bytes = Box::new(Zeroizing::new([0; LEN]));
    getrandom(&mut **bytes, GetRandomFlags::empty())
        .map_err(|errno| KeyError::Random(errno.into()))?;
    let first = ChainKey::new(bytes);
    let state = KeyState {
        trail: first.name(),
        position: Position::START,
        key: first,
    };
    state.create(verification, Use::Verify)?;
    if let Err(error) = state.create(key, Use::Seal) {
        // One of the two is of no use alone, and is as secret.
        Place::new(verification)?.discard()?;
        return Err(error);
    }
    Ok(state.trail)
}

impl KeyState {
    /// The state after the seal with this MAC.
    pub(crate) fn after_seal(&self, seal: Link, seal_seq: u64) -> Self {
        let mut key = self.key.clone();
        key.ratchet();
        Self {
            trail: self.trail.clone(),
            position: Position {
                seq: seal_seq.saturating_add(1),
                epoch: self.position.epoch.saturating_add(1),
                prev: seal,
            },
            key,
        }
    }

    /// Reads a key file that is not going to be replaced.
    pub(crate) fn load(path: &Path, purpose: Use) -> Result<Self, KeyError> {
        let file = File::open(path).map_err(|error| FileError::new("open", path, error))?;
        Self::read(&file, path, purpose)
    }

    fn read(file: &File, path: &Path, purpose: Use) -> Result<Self, KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE));
        file.take(MAX_FILE as u64)
            .read_to_string(&mut text)
            .map_err(|error| FileError::new("read", path, error))?;
        let malformed = || KeyError::Malformed(path.display().to_string());
        let fields: Text<'_> = serde_json::from_str(&text).map_err(|_| malformed())?;
        if fields.purpose != purpose {
            return Err(KeyError::WrongUse {
                path: path.display().to_string(),
                found: fields.purpose.name(),
                wanted: purpose.name(),
            });
        }
        Self::from_text(&fields).ok_or_else(malformed)
    }

    fn from_text(fields: &Text<'_>) -> Option<Self> {
        let mut key = Box::new(Zeroizing::new([0; LEN]));
        hex::decode_to_slice(fields.key, &mut **key).ok()?;
        let is_name =
            fields.trail.len() == 16 && fields.trail.bytes().all(|b| b.is_ascii_hexdigit());
        (is_name && fields.epoch <= MAX_EPOCH && fields.next_seq > 0).then_some(())?;
        Some(Self {
            trail: fields.trail.to_owned(),
            position: Position {
                seq: fields.next_seq,
                epoch: fields.epoch,
                prev: Link::from_hex(fields.prev.as_bytes())?,
            },
            key: ChainKey::new(key),
        })
    }

    fn create(&self, path: &Path, purpose: Use) -> Result<(), KeyError> {
        let place = Place::new(path)?;
        self.write(&place.create("", Access::Anywhere)?, path, purpose)?;
        Ok(place.sync()?)
    }

    /// Writes it to a new file, durably.
    fn write(&self, mut file: &File, path: &Path, purpose: Use) -> Result<(), FileError> {
        let mut digits = Zeroizing::new([0; LEN * 2]);
        let encoded = hex::encode_to_slice(self.key.bytes(), &mut *digits);
        debug_assert!(encoded.is_ok());
        let fields = Text {
            purpose,
            trail: &self.trail,
            epoch: self.position.epoch,
            next_seq: self.position.seq,
            prev: &self.position.prev.to_string(),
            key: std::str::from_utf8(&*digits).unwrap_or_default(),
        };
        // Never grows, so that no copy of the key is left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE));
        serde_json::to_writer(&mut *text, &fields)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(&text))
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(|error| FileError::new("write", path, error))
    }
}

/// The key file of a trail that is being written. Locked, so that no second
/// observer continues from the same position.
#[derive(Debug)]
pub(crate) struct KeyFile {
    place: Place,
    file: File,
}

/// A successor of the key file, on the disk and not yet in its place.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: File,
    pub(crate) state: KeyState,
}

impl KeyFile {
    pub(crate) fn open(path: &Path) -> Result<(Self, KeyState), KeyError> {
        let place = Place::new(path)?;
        let file = place.open(Access::Anywhere)?;
        lock(&file, path)?;
        let state = KeyState::read(&file, path, Use::Seal)?;
        Ok((Self { place, file }, state))
    }

    /// Writes the next state beside the present one.
    pub(crate) fn prepare(&self, state: KeyState) -> Result<Prepared, FileError> {
        // A file that a crash left there was derived from the key at hand.
        self.place.remove(&self.place.with(NEXT))?;
        let file = self.place.create(NEXT, Access::Anywhere)?;
        lock(&file, self.place.path())?;
        state.write(&file, self.place.path(), Use::Seal)?;
        Ok(Prepared { file, state })
    }

    /// Puts the next state in its place, on the disk, and overwrites the key
    /// before it. May be called again where it failed.
    pub(crate) fn commit(&mut self, next: &Prepared) -> Result<(), FileError> {
        if !self.place.is_at(&next.file) {
            self.place.rename(NEXT, "")?;
        }
        self.place.sync()?;
        let successor = next
            .file
            .try_clone()
            .map_err(|error| FileError::new("keep open", self.place.path(), error))?;
        scrub(&mem::replace(&mut self.file, successor));
        Ok(())
    }
}

/// Whether this is a key file, of whatever trail and for whatever use.
pub(crate) fn is_key_file(path: &Path) -> bool {
    let is_short = |meta: Metadata| meta.is_file() && meta.len() <= MAX_FILE as u64;
    path.symlink_metadata().is_ok_and(is_short)
        && [Use::Seal, Use::Verify]
            .into_iter()
            .any(|purpose| KeyState::load(path, purpose).is_ok())
}

/// Overwrites a key file that no name leads to any more. If that fails, its
/// blocks are free all the same.
fn scrub(file: &File) {
    let zeros = [0; MAX_FILE];
    let length = file.metadata().map_or(0, |meta| meta.len());
    let zeros = zeros.get(..usize::try_from(length).unwrap_or(MAX_FILE));
    let result = file
        .write_all_at(zeros.unwrap_or(&[0; MAX_FILE]), 0)
        .and_then(|()| file.sync_data());
    if let Err(error) = result {
        tracing::warn!(%error, "an old audit key could not be overwritten");
    }
}
