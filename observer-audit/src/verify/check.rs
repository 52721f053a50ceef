//! Reads a trail from its first line on, and notes what is wrong.

use std::io::{self, BufReader};
use std::path::PathBuf;

use serde::Deserialize;

use crate::chain::{ChainKey, LineKey, Link, MAX_EPOCH};
use crate::files::FileError;
use crate::key::KeyState;
use crate::line::{self, Parsed, Position};
use crate::reader::{Lines, Next};

use super::finding::{Fault, Finding};
use super::sort::Part;
use super::verification::Verification;

/// Findings that are kept; more are counted.
const MAX_FINDINGS: usize = 1000;

/// The state of a verification.
pub(super) struct Check {
    pub(super) verification: Verification,
    file: PathBuf,
    line_number: u64,
    /// Key of the epoch `at.epoch`.
    key: ChainKey,
    line_key: LineKey,
    /// How often keys may still be ratcheted: bounds the work that forged
    /// epochs can cause.
    ratchets: u64,
    /// Where the next line belongs.
    at: Position,
    /// Epoch that the next line has to be of.
    epoch_due: u64,
    /// A line that did not verify stands where `at` was: it may have been
    /// edited, or inserted.
    is_doubtful: bool,
    /// Lines that did not verify and whose numbers mean nothing.
    damaged: u64,
    /// The line before was `stop`.
    is_after_stop: bool,
    /// Lines 1 to this are missing.
    beginning_missing: u64,
    /// The host key file's position, and the MAC of the line before it.
    host: Option<Position>,
    host_link: Option<Link>,
    /// Highest epoch of a line that verified.
    epoch: u64,
    /// The observer runs, or was killed.
    is_running: bool,
}

impl Check {
    /// Begins at the trail's start, with the first key; `host` is the position
    /// of the host's key file.
    pub(super) fn new(first: &KeyState, host: Option<Position>, is_running: bool) -> Self {
        Self {
            verification: Verification::default(),
            file: PathBuf::new(),
            line_number: 0,
            line_key: first.key.lines(),
            key: first.key.clone(),
            ratchets: MAX_EPOCH,
            at: Position::START,
            epoch_due: 0,
            is_doubtful: false,
            damaged: 0,
            is_after_stop: false,
            beginning_missing: 0,
            host,
            host_link: host.filter(|at| at.seq == 1).map(|at| at.prev),
            epoch: 0,
            is_running,
        }
    }

    /// Checks the next file of the trail. In the last one an unfinished line may
    /// be no finding: then `is_lenient`.
    pub(super) fn file(&mut self, part: &Part, is_lenient: bool) -> Result<(), FileError> {
        let failed = |error: io::Error| FileError::new("read", &part.path, error);
        part.path.clone_into(&mut self.file);
        self.line_number = 0;
        let mut lines = Lines::new(BufReader::new(part.open().map_err(failed)?));
        loop {
            let found = lines.advance().map_err(failed)?;
            self.line_number = self.line_number.saturating_add(1);
            match found {
                Next::Line => self.line(lines.line()),
                Next::TooLong => self.add_damage(Fault::Malformed),
                Next::Torn => self.torn(lines.line(), is_lenient),
                Next::End => return Ok(()),
            }
        }
    }

    /// Reports what is wrong with a file as such.
    pub(super) fn note(&mut self, path: PathBuf, fault: Fault) {
        self.file = path;
        self.line_number = 0;
        self.add_finding(fault);
    }

    fn torn(&mut self, text: &[u8], is_lenient: bool) {
        let bytes = text.len() as u64;
        if is_lenient && self.may_be_unfinished(text) {
            self.verification.unfinished_bytes = bytes;
        } else {
            self.add_damage(Fault::Torn { bytes });
        }
    }

    /// Whether this can be the first part of the next line. After an
    /// ordered stop there is none, unless the observer runs again. A file
    /// system that lost a write leaves zeros.
    fn may_be_unfinished(&self, text: &[u8]) -> bool {
        let Position { seq, prev, .. } = self.at;
        let due = line::beginning(Position {
            seq,
            epoch: self.epoch_due,
            prev,
        });
        let zeros = text.iter().rev().take_while(|&&byte| byte == 0).count();
        let written = text.len().saturating_sub(zeros);
        let mut pairs = text.iter().take(written).zip(due.as_bytes());
        (self.is_running || !self.verification.stopped) && pairs.all(|(is, due)| is == due)
    }

    fn line(&mut self, text: &[u8]) {
        let Some(line) = Parsed::new(text) else {
            return self.add_damage(Fault::Malformed);
        };
        if !self.try_mac(&line) {
            return self.add_forged(&line);
        }
        self.check_place(&line);
        self.add_verified(text, &line);
    }

    /// Tries the MAC with the key of the line's epoch; returns whether it fits.
    /// That key is kept only if it does: nothing that is forged moves the
    /// verifier forward.
    fn try_mac(&mut self, line: &Parsed<'_>) -> bool {
        let Some(steps) = line.epoch.checked_sub(self.at.epoch) else {
            // Of an epoch that is over, so in the wrong place whatever it is.
            return false;
        };
        let Some(left) = self.ratchets.checked_sub(steps) else {
            return false;
        };
        if steps == 0 {
            return self.line_key.fits(line.body, &line.mac);
        }
        let mut key = self.key.clone();
        for _ in 0..steps {
            key.ratchet();
        }
        self.ratchets = left;
        let line_key = key.lines();
        let fits = line_key.fits(line.body, &line.mac);
        if fits {
            (self.key, self.line_key) = (key, line_key);
            self.at.epoch = line.epoch;
        }
        fits
    }

    /// Reports a line that is not authentic.
    fn add_forged(&mut self, line: &Parsed<'_>) {
        let seq = line.seq;
        if seq < self.at.seq && line.epoch < self.at.epoch {
            let expected = self.at.seq;
            return self.add_finding(Fault::Misplaced { seq, expected });
        }
        if seq != self.at.seq {
            return self.add_damage(Fault::Edited { seq });
        }
        self.add_finding(Fault::Edited { seq });
        self.at = self.at.after(line.mac);
        self.is_doubtful = true;
    }

    /// Checks that an authentic line is where it belongs.
    fn check_place(&mut self, line: &Parsed<'_>) {
        let expected = self.at.seq;
        let replaces_forged = self.is_doubtful && line.seq.checked_add(1) == Some(expected);
        if line.seq < expected && !replaces_forged {
            let seq = line.seq;
            return self.add_finding(Fault::Misplaced { seq, expected });
        }
        if line.seq > expected {
            self.add_gap(expected, line.seq);
        } else if line.prev != self.at.prev && !self.is_doubtful && self.damaged == 0 {
            self.add_finding(Fault::Unlinked { seq: line.seq });
        } else if line.epoch != self.epoch_due && !self.is_doubtful && self.damaged == 0 {
            self.add_finding(Fault::WrongEpoch {
                seq: line.seq,
                epoch: line.epoch,
                expected: self.epoch_due,
            });
        }
        let sealed = line.is_kind("seal");
        self.epoch_due = line.epoch.saturating_add(u64::from(sealed));
        (self.is_doubtful, self.damaged) = (false, 0);
        self.at = line.position().after(line.mac);
    }

    /// Reports missing lines, less those that stand there and cannot be read.
    fn add_gap(&mut self, expected: u64, seq: u64) {
        let from = expected.saturating_add(self.damaged);
        if from >= seq {
            return;
        }
        let through = seq.saturating_sub(1);
        if self.verification.first_line.is_none() && expected == 1 {
            self.beginning_missing = through;
        } else {
            self.add_finding(Fault::Missing { from, through });
        }
    }

    /// Keeps what an authentic line reports.
    fn add_verified(&mut self, text: &[u8], line: &Parsed<'_>) {
        let verification = &mut self.verification;
        verification.lines = verification.lines.saturating_add(1);
        verification.first_line = verification.first_line.or(Some(line.seq));
        verification.last_line = verification.last_line.max(Some(line.seq));
        self.epoch = self.epoch.max(line.epoch);
        if self
            .host
            .is_some_and(|host| line.seq.checked_add(1) == Some(host.seq))
        {
            self.host_link = Some(line.mac);
        }
        let is_seal = line.is_kind("seal");
        verification.stopped = is_seal && self.is_after_stop;
        self.is_after_stop = line.is_kind("stop");
        // An authentic line is the observer's own JSON.
        let fields: Fields = serde_json::from_slice(text).unwrap_or_default();
        match fields.kind.as_str() {
            "seal" => {
                verification.sealed_through = Some(line.seq);
                verification.sealed_at = Some(fields.time);
            }
            "lost" => verification.lost = verification.lost.saturating_add(fields.count),
            "altered" => verification.alterations = verification.alterations.saturating_add(1),
            "repair" => verification.repairs = verification.repairs.saturating_add(1),
            "continuation" => {
                verification.continuations = verification.continuations.saturating_add(1);
                self.add_continuation(line.seq, fields);
            }
            "retention" => {
                verification.removed_through = verification.removed_through.max(fields.through_seq);
            }
            _ => {}
        }
    }

    /// Lines that were lost where others went on with their numbers are missed by
    /// nothing else.
    fn add_continuation(&mut self, seq: u64, fields: Fields) {
        let Fields {
            found,
            unverified_bytes: bytes,
            ..
        } = fields;
        if bytes > 0 {
            self.add_finding(Fault::Continued { seq, bytes, found });
        }
    }

    /// Checks the end of the trail, against the host's key file as it was before
    /// the trail was read and as it was after.
    pub(super) fn end(
        &mut self,
        first: &KeyState,
        before: Option<&KeyState>,
        after: Option<&KeyState>,
    ) {
        self.line_number = 0;
        let last = self.verification.last_line.unwrap_or_default();
        if self.verification.lines == 0 {
            self.add_finding(Fault::Empty);
        }
        if self.beginning_missing > self.verification.removed_through {
            let through = self.beginning_missing;
            self.add_finding(Fault::BeginningMissing { through });
        }
        match (before, after) {
            (Some(before), Some(after)) => self.compare(first, before, after, last),
            _ if self.verification.stopped || self.is_running || last == 0 => {}
            _ => self.add_finding(Fault::OpenEnd { last }),
        }
    }

    /// Compares the trail with the host's key file.
    fn compare(&mut self, first: &KeyState, before: &KeyState, after: &KeyState, last: u64) {
        let through = before.position.seq.saturating_sub(1);
        if !is_descendant(first, before) {
            self.add_finding(Fault::KeyFileForged);
        } else if last < through {
            self.add_finding(Fault::Cut { last, through });
        } else if self.epoch > after.position.epoch {
            let (epoch, trail) = (after.position.epoch, self.epoch);
            self.add_finding(Fault::KeyFileOld { epoch, trail });
        } else if self.host_link != Some(before.position.prev) && self.is_clean() {
            self.add_finding(Fault::KeyFileForged);
        }
    }

    fn is_clean(&self) -> bool {
        self.verification.is_clean()
    }

    /// Reports a line whose number means nothing.
    fn add_damage(&mut self, fault: Fault) {
        self.damaged = self.damaged.saturating_add(1);
        self.add_finding(fault);
    }

    fn add_finding(&mut self, fault: Fault) {
        let Verification {
            findings,
            more_findings,
            ..
        } = &mut self.verification;
        if findings.len() >= MAX_FINDINGS {
            *more_findings = more_findings.saturating_add(1);
            return;
        }
        findings.push(Finding {
            file: self.file.clone(),
            line: Some(self.line_number).filter(|&line| line > 0),
            fault,
        });
    }
}

/// Whether a key file's key comes from the first key, ratcheted as often as it
/// says. Compared by names, which are one-way functions of the keys.
fn is_descendant(first: &KeyState, state: &KeyState) -> bool {
    let mut key = first.key.clone();
    for _ in 0..state.position.epoch.min(MAX_EPOCH) {
        key.ratchet();
    }
    key.name() == state.key.name()
}

/// The fields of an authentic line that a [`Verification`] reports.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    kind: String,
    time: String,
    count: u64,
    through_seq: u64,
    found: String,
    unverified_bytes: u64,
}
