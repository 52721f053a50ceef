//! The audit trail: who pretended to be whom, when, how often, with what
//! evidence, in files that cannot be edited unseen.
//!
//! [`Trail`] takes incidents from the observer through a bounded queue and
//! never makes it wait; a thread of its own folds repeats and writes one JSON
//! object a line. Helpers gather evidence about senders, for these may hold up
//! who looks; it follows on lines of its own. [`verify`] checks what was
//! written, [`report`] sums it up.
//!
//! # How the trail is sealed
//!
//! Every line carries a sequence number, the number of its *epoch*, the MAC of
//! the line before (`prev`) and its own (`mac`): HMAC-SHA-256, under a key of
//! its epoch, of all bytes of the line before `,"mac":`. So a line vouches for
//! itself, for its place, and for the line before it.
//!
//! An epoch ends with a `seal` line. Its key K(n) is then replaced by
//! K(n+1) = HMAC(K(n), "ratchet") and wiped, from memory and from the key file
//! on the host. HMAC cannot be run backwards: who takes the host in epoch n
//! learns K(n), can forge what comes from then on, and cannot rewrite a line of
//! an epoch before. `observer audit keygen` writes K(0) twice: into the key
//! file, which the observer ratchets, and into a verification key, which the
//! operator takes off the host. Whoever has K(0) derives every K(n), checks
//! every line, and could forge any: MACs are symmetric, so the verification
//! key is as secret as the trail is to be believed.
//!
//! A seal goes in this order: the next key state (K(n+1), the number of the
//! first line under it, the seal's MAC) is written to a file beside the key
//! file and synced; the seal line is appended and synced; the new state is
//! renamed over the old, the folder synced; K(n) is wiped and the old state's
//! bytes are overwritten. Only then does a line of epoch n+1 leave the process.
//! Key file and trail must be the observer's own: one that another user made, or
//! that others may write to (or, the key file, read), is refused.
//!
//! A crash leaves one of two situations: the key file holds K(n), and the trail
//! ends within epoch n or with its seal (whereupon the seal is completed); or
//! it holds K(n+1), and the trail ends with the seal of epoch n. At start all
//! lines since the key file's position are verified with its key. What follows
//! the last good line and is no whole line is a write that a crash tore: it is
//! cut off, and a `repair` line says what it was. Anything else is tampering,
//! and the trail refuses to go on.
//!
//! What [`verify`] detects, given K(0):
//!
//! - Any line edited, inserted, removed or moved, in and across files, by
//!   anyone who does not hold the key of the line's epoch.
//! - Oldest files removed, unless a `retention` line says that the observer
//!   removed them.
//! - A tail cut off. A trail that was stopped ends with `stop` and a seal; one
//!   without is open, and that is a finding unless the caller knows that the
//!   observer was killed or runs still. With the host's key file at hand an
//!   open trail is checked to reach the key file's position: lines can then be
//!   missing at most from the running epoch. Whoever cuts off sealed lines
//!   cannot make a key file that fits: the key of the earlier epoch is gone,
//!   and a key file whose key is not K(0) ratcheted as often as it says is
//!   found out. (A copy of the earlier key file fits; see below.)
//! - Bytes after the last line that are no beginning of the next one, and any
//!   bytes after an ordered stop unless the caller says that the observer runs
//!   again.
//!
//! A saved copy of the key file, in a backup or a snapshot, undoes part of
//! this. Who gets at one, and at the host, can cut the trail back to where the
//! copy was made, put the copy in the key file's place, and the pair fits; or
//! write other lines from there on, for he has that epoch's key. So keep the
//! key file out of backups and snapshots; and copy the trail itself off the
//! host as it grows: a later trail has to begin with the same bytes.
//!
//! What nobody can detect: lines of the running epoch that whoever holds its
//! key, that is root on the host at that moment, edited or cut off. An epoch
//! lasts at most [`Options::seal_after`] from its first incident. Nor what the
//! intruder had the observer leave out afterwards; the time of the last
//! trustworthy seal is what counts then. And if the key file is gone with the
//! tail, the trail still ends open, at a seal whose time tells when.
//!
//! Overwriting a key file is no promise on flash or on copy-on-write file
//! systems, where old blocks may survive; there, put it on a `tmpfs` or an
//! encrypted volume, and know that its loss ends the trail.
//!
//! # Loss
//!
//! The queue is bounded; what finds it full is counted and the count becomes a
//! `lost` line. When the disk is full, the lines at hand are kept, written
//! when there is room again, and the queue behind them fills up. Repeats are
//! folded into `repeat` lines at a bounded rate; their counts are in memory
//! until then, and a kill loses what was counted since the last one.

mod chain;
mod cooldown;
mod counts;
mod evidence;
mod files;
mod fold;
pub mod follow;
mod incident;
mod key;
mod kinds;
mod line;
mod options;
mod queue;
mod reader;
mod recover;
pub mod report;

mod segments;
mod trail;
mod trail_file;
pub mod verify;
mod writer;

pub use chain::{Link, MAX_EPOCH};
pub use counts::Counts;
pub use files::FileError;
pub use incident::{Incident, What};
pub use key::{KeyError, generate};
pub use options::Options;
pub use reader::MAX_LINE;
pub use recover::OpenError;
pub use segments::segments;
pub use trail::{CloseError, Trail};

#[cfg(test)]
mod tests;
