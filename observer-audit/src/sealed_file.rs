//! The file that grows: lines are chained, appended, brought to the disk,
//! sealed, and rotated.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::chain::LineKey;
use crate::counts::{Counters, add};
use crate::files::FileError;
use crate::key::{KeyFile, KeyState, Prepared};
use crate::line::{self, Position};
use crate::recover::TrailEnd;
use crate::trail_file::{Altered, TrailFile};
use crate::trail_line::TrailLine;

/// Lines that wait for the disk, in bytes. Beyond it nothing is added, and the
/// queue fills up.
const MAX_PENDING: usize = 1 << 20;

/// The trail's file with its key file, and the lines between memory and disk.
#[derive(Debug)]
pub(crate) struct SealedFile {
    counters: Arc<Counters>,
    file: TrailFile,
    key_file: KeyFile,
    state: KeyState,
    /// The line key of the present epoch.
    line_key: LineKey,
    /// Where the next line goes.
    position: Position,
    /// Lines that are part of the chain and not yet in the file.
    pending: Vec<u8>,
    /// The key file's next state, once the seal before it is part of the
    /// chain. Nothing else may become part of it until the key file has
    /// followed.
    next: Option<Prepared>,
    /// A line about the file that has to wait for that, too.
    altered: Option<TrailLine>,
    /// A file was begun anew or emptied, and the key file does not lead there
    /// yet.
    is_replaced: bool,
    /// Lines of this epoch.
    unsealed: u64,
    /// When the oldest line that is not on the disk was added.
    unsynced_since: Option<Instant>,
}

impl SealedFile {
    pub(crate) fn new(end: TrailEnd, counters: Arc<Counters>) -> Self {
        let TrailEnd {
            file,
            key_file,
            state,
            position,
            unsealed,
        } = end;
        Self {
            counters,
            file,
            key_file,
            line_key: state.key.lines(),
            state,
            position,
            pending: Vec::new(),
            next: None,
            altered: None,
            is_replaced: false,
            unsealed,
            unsynced_since: None,
        }
    }

    /// The trail's public name.
    pub(crate) fn trail(&self) -> &str {
        &self.state.trail
    }

    /// Number of the next line.
    pub(crate) fn next_seq(&self) -> u64 {
        self.position.seq
    }

    /// Epoch of the next line.
    pub(crate) fn epoch(&self) -> u64 {
        self.position.epoch
    }

    /// Whether there are lines of the present epoch.
    pub(crate) fn has_unsealed(&self) -> bool {
        self.unsealed > 0
    }

    /// When the oldest line that is not on the disk was added.
    pub(crate) fn unsynced_since(&self) -> Option<Instant> {
        self.unsynced_since
    }

    /// Whether a seal was begun and is not complete.
    pub(crate) fn is_sealing(&self) -> bool {
        self.next.is_some()
    }

    /// Whether a seal must not wait.
    pub(crate) fn needs_seal(&self) -> bool {
        self.is_sealing() || self.is_replaced
    }

    /// Whether nothing may be added now: a seal is not complete, or too much
    /// waits for the disk.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_sealing() || self.pending.len() > MAX_PENDING
    }

    /// Makes a line part of the chain.
    pub(crate) fn add(&mut self, time: Timestamp, content: &impl Serialize) {
        let Self {
            pending,
            position,
            line_key,
            ..
        } = self;
        let link = line::write(pending, *position, time, content, line_key);
        self.position = self.position.after(link);
        self.unsealed = self.unsealed.saturating_add(1);
        self.count_line();
    }

    /// Appends the lines that wait to the file.
    pub(crate) fn write_out(&mut self) -> Result<(), FileError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if !self.file.is_in_place() {
            self.begin_anew()?;
        } else if let Some(altered) = self.file.take_alteration(self.first_pending()) {
            let Altered {
                expected,
                found,
                is_torn,
            } = altered;
            let how = if found == 0 {
                // Nothing in it leads on from the key file.
                self.is_replaced = true;
                "it was emptied"
            } else {
                "its length changed"
            };
            self.report_alteration(how.into(), expected, found);
            if is_torn {
                // What was cut off in the middle of a line must not swallow the
                // next.
                self.pending.insert(0, b'\n');
            }
        }
        self.file.append(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Brings what is in the file to the disk.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        if self.unsynced_since.is_none() {
            return Ok(());
        }
        self.file.sync()?;
        self.unsynced_since = None;
        let last = self.position.seq.saturating_sub(1);
        self.counters.on_disk.store(last, Ordering::Release);
        tracing::debug!("on disk through line {last}");
        Ok(())
    }

    /// Ends the epoch, in the order that the crate's documentation gives. May
    /// be called again where it failed.
    pub(crate) fn seal(&mut self) -> Result<(), FileError> {
        self.write_out()?;
        if self.next.is_none() {
            self.begin_seal()?;
            self.write_out()?;
        }
        self.sync()?;
        if let Some(next) = &self.next {
            self.key_file.commit(next)?;
        }
        if let Some(Prepared { state, .. }) = self.next.take() {
            self.line_key = state.key.lines();
            self.position = state.position;
            self.state = state;
        }
        self.unsealed = 0;
        self.is_replaced = false;
        if let Some(altered) = self.altered.take() {
            self.add(Timestamp::now(), &altered);
        }
        Ok(())
    }

    /// Begins the next file if this one has so many bytes, and removes files
    /// until no more than `keep` rotated ones are left.
    pub(crate) fn rotate_if_full(
        &mut self,
        rotate_bytes: u64,
        keep: usize,
    ) -> Result<(), FileError> {
        self.write_out()?;
        if self.file.length() < rotate_bytes {
            return Ok(());
        }
        let previous = self.file.rotate(self.position.seq)?;
        let time = Timestamp::now();
        self.add(time, &TrailLine::Rotation { previous });
        while let Some(removed) = self.file.remove_oldest(keep)? {
            let (removed, through_seq) = (removed.name, removed.through_seq);
            let retention = TrailLine::Retention {
                removed,
                through_seq,
            };
            self.add(time, &retention);
        }
        self.write_out()
    }

    /// The key file's next state first: if there is no room for it, there is
    /// no seal, and the epoch continues.
    fn begin_seal(&mut self) -> Result<(), FileError> {
        let seal = TrailLine::Seal {
            lines: self.unsealed.saturating_add(1),
        };
        let (at, now) = (self.position, Timestamp::now());
        let mut text = Vec::new();
        let link = line::write(&mut text, at, now, &seal, &self.line_key);
        let next = self.state.after_seal(link, at.seq);
        self.next = Some(self.key_file.prepare(next)?);
        self.pending.extend_from_slice(&text);
        self.position = at.after(link);
        self.count_line();
        Ok(())
    }

    fn count_line(&mut self) {
        self.unsynced_since.get_or_insert_with(Instant::now);
        add(&self.counters.lines, 1);
    }

    /// Somebody took the file away. What is to be written goes into a new one,
    /// with a seal at once, so that the key file leads there.
    fn begin_anew(&mut self) -> Result<(), FileError> {
        let length = self.file.length();
        let how = format!("it was {}", self.file.whereabouts());
        self.file.rotate(self.first_pending())?;
        self.is_replaced = true;
        self.report_alteration(how, length, 0);
        Ok(())
    }

    /// Number of the first line that the file will get.
    fn first_pending(&self) -> u64 {
        line::first_seq(&self.pending).unwrap_or(self.position.seq)
    }

    /// An alarm, not a defence: `verify` finds what was changed. Nothing may
    /// follow a seal under the same key, so the line waits for the next one.
    fn report_alteration(&mut self, how: String, expected_bytes: u64, found_bytes: u64) {
        tracing::error!(
            "{}: {how}, and not by this observer",
            self.file.path().display()
        );
        let altered = TrailLine::Altered {
            how,
            expected_bytes,
            found_bytes,
        };
        if self.is_sealing() {
            self.altered = Some(altered);
        } else {
            self.add(Timestamp::now(), &altered);
        }
    }
}
