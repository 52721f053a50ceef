//! The audit trail: who pretended to be whom, when, how often, with what
//! evidence, in files whose edits show.
//!
//! [`Trail`] takes incidents from the observer through a bounded queue and
//! never makes it wait. A thread of its own folds repeats, and writes one JSON
//! object a line. Helper threads read more about senders, because a sender may
//! hold up whoever reads about it; what they find follows on lines of its own.
//! [`verify`] checks what was written, [`report`] sums it up, and [`follow`]
//! reads it as it grows.
//!
//! # How the trail is sealed
//!
//! Every line carries a sequence number, the number of its *epoch*, the MAC of
//! the line before (`prev`) and its own (`mac`): HMAC-SHA-256, under a key of
//! its epoch, of all bytes of the line before `,"mac":`. So a line's MAC covers
//! the line, its place, and the line before it.
//!
//! An epoch ends with a `seal` line. Its key K(n) is then replaced by
//! K(n+1) = HMAC(K(n), "ratchet") and wiped, from memory and from the key file
//! on the host. HMAC cannot be reversed: whoever takes the host in epoch n
//! learns K(n), can forge what comes from then on, and cannot rewrite a line of
//! an earlier epoch. `observer audit keygen` writes K(0) twice: into the key
//! file, which the observer ratchets, and into a verification key, which the
//! operator moves off the host. Whoever has K(0) derives every K(n), checks
//! every line, and could forge any. MACs are symmetric, so the trail is worth
//! no more than the secrecy of the verification key.
//!
//! A seal is made in this order:
//!
//! 1. The next key state (K(n+1), the number of the first line under it, the
//!    seal's MAC) is written to a file beside the key file and synced.
//! 2. The seal line is appended and synced.
//! 3. The new state is renamed over the old one, and the folder synced.
//! 4. K(n) is wiped, and the old state's bytes are overwritten.
//!
//! Only then is a line of epoch n+1 written. Key file and trail must belong to
//! the observer's user: one that another user made, or that others may write to
//! (or, the key file, read), is refused.
//!
//! A crash leaves one of two situations: the key file holds K(n), and the trail
//! ends within epoch n or with its seal (and then the seal is completed); or it
//! holds K(n+1), and the trail ends with the seal of epoch n. At start all lines
//! since the key file's position are verified with its key. What follows the
//! last good line and has no line in it is a write that the crash interrupted:
//! it is cut off, and a `repair` line records what it was. If the file is empty or
//! missing, a file beside it may have had its name: one that leads on from the key
//! file's position up to its own last byte is continued in a new file. Anything
//! else is tampering, and the trail is not continued, unless somebody demands it
//! ([`repair`]): then after the last line that verifies with the key at hand, with
//! a `continuation` line that says what was found.
//!
//! What [`verify`] detects, given K(0):
//!
//! - Any line edited, inserted, removed or moved, in and across files, by
//!   anyone who does not hold the key of the line's epoch.
//! - Files that are missing, there twice, or of another trail, whatever their
//!   names are.
//! - Oldest files removed, unless a `retention` line records that the observer
//!   removed them.
//! - A tail cut off. A trail that was stopped ends with `stop` and a seal. One
//!   without is open, and that is a finding, unless the caller knows that the
//!   observer was killed or still runs. If the host's key file is at hand, an
//!   open trail has to reach its position: lines can then be missing from the
//!   running epoch only. Whoever cuts off sealed lines cannot make a key file
//!   that fits: the key of the earlier epoch is gone, and a key that is not
//!   K(0), ratcheted as often as its file claims, is a finding. (A copy of the
//!   earlier key file fits; see below.)
//! - Bytes after the last line that are no beginning of the next one, and any
//!   bytes after an ordered stop, unless the caller knows that the observer runs
//!   again.
//!
//! A saved copy of the key file, in a backup or a snapshot, undoes part of
//! this. Whoever has both the copy and the host can cut the trail back to where
//! the copy was made and put the copy in the key file's place, and the two fit.
//! He can also write other lines from there on, because he has that epoch's
//! key. So keep the key file out of backups and snapshots, and copy the trail
//! itself off the host as it grows: a later trail has to begin with the same
//! bytes.
//!
//! What nobody can detect:
//!
//! - Lines of the running epoch that were edited or cut off by whoever holds
//!   its key, that is root on the host at that moment. An epoch lasts at most
//!   [`Options::seal_after`] from its first incident.
//! - What an intruder had the observer leave out afterwards. The time of the
//!   last trustworthy seal is what counts then. If the key file is gone with the
//!   tail, the trail still ends open, at a seal that has a time.
//!
//! Overwriting a key file is not reliable on flash or on copy-on-write file
//! systems, where old blocks may survive. There, put it on a `tmpfs` or an
//! encrypted volume, and mind that its loss ends the trail.
//!
//! # Loss
//!
//! The queue is bounded. Incidents that find it full are counted, and a `lost`
//! line records the count. When the disk is full, the lines at hand are kept and
//! written when there is room again, and the queue behind them fills up.
//! Repeats are folded into `repeat` lines at a bounded rate. Their counts are in
//! memory until then, and a kill loses what was counted since the last one.

mod chain;
mod cooldown;
mod counts;
mod evidence;
mod files;
mod fold;
pub mod follow;
mod incident;
mod incident_line;
mod key;
mod line;
mod options;
mod queue;
mod reader;
mod recover;
mod repair;
pub mod report;
mod sealed_file;
mod segments;
mod sources;
mod trail;
mod trail_file;
mod trail_line;
pub mod verify;
mod writer;

pub use counts::Counts;
pub use files::FileError;
pub use incident::{Incident, What};
pub use key::{KeyError, generate};
pub use options::Options;
pub use recover::OpenError;
pub use repair::{Repair, repair};
pub use trail::{CloseError, Trail};

#[cfg(test)]
mod tests;
