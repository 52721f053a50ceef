//! Checks that a trail is as it was written. What that can and cannot show is
//! in the documentation of [`audit`](super).

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::chain::{ChainKey, LineKey, Link, MAX_EPOCH};
use super::files::FileError;
use super::key::{KeyError, KeyState, Use};
use super::line::{self, Parsed, Position};
use super::reader::{Lines, Next};
use super::segments::{open, segments};

/// Findings that are kept; more are counted.
const MAX_FINDINGS: usize = 1000;

/// What to verify, and with what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file that lines were appended to; rotated files lie beside it.
    pub file: PathBuf,
    /// The verification key.
    pub key: PathBuf,
    /// The key file of the host, if it is at hand: shows a tail cut off.
    pub host_key: Option<PathBuf>,
    /// The observer runs or was killed, so the trail may end anywhere.
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
    #[error("there is no audit trail at {0}")]
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

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Public name of the trail.
    pub trail: String,
    /// Files read, oldest first.
    pub files: Vec<PathBuf>,
    /// Lines that verified.
    pub lines: u64,
    /// Number of the first of them.
    pub first_line: Option<u64>,
    /// Number of the last.
    pub last_line: Option<u64>,
    /// Number of the last seal: lines up to here cannot be forged by who took
    /// the host afterwards.
    pub sealed_through: Option<u64>,
    /// When that seal was made (RFC 3339).
    pub sealed_at: Option<String>,
    /// Whether the trail ends with an ordered stop and its seal.
    pub stopped: bool,
    /// Bytes of an unfinished last line, where that is no finding.
    pub unfinished_bytes: u64,
    /// Incidents that the observer says it lost.
    pub lost: u64,
    /// Lines 1 to this were removed for their age, by the word of a line that
    /// verifies; 0: none.
    pub removed_through: u64,
    /// Torn writes that the observer says it cut off.
    pub repairs: u64,
    /// What is wrong, in the order of the files.
    pub findings: Vec<Finding>,
    /// Findings beyond those kept.
    pub more_findings: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Something wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Its line, counted from 1; `None`: the whole file.
    pub line: Option<u64>,
    /// What is wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Not of the form that the observer writes.
    #[error("this is no line of the trail")]
    Malformed,
    /// Its MAC does not fit.
    #[error("line {seq} was edited or forged: its MAC does not fit")]
    Edited {
        /// The number that it claims.
        seq: u64,
    },
    /// It verifies, but not the line before it in the file was before it.
    #[error("line {seq} does not follow the line before it")]
    Unlinked {
        /// Its number.
        seq: u64,
    },
    /// An epoch ends with its seal, and only so.
    #[error("line {seq} is of epoch {epoch}, and epoch {expected} is due here")]
    WrongEpoch {
        /// Its number.
        seq: u64,
        /// The epoch under whose key it verifies.
        epoch: u64,
        /// The epoch that belongs here.
        expected: u64,
    },
    /// Lines are missing before it.
    #[error("lines {from} to {through} are missing here")]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        through: u64,
    },
    /// It verifies, but stands in the wrong place, or twice.
    #[error("line {seq} was moved or copied here, where line {expected} belongs")]
    Misplaced {
        /// Its number.
        seq: u64,
        /// The number that belongs here.
        expected: u64,
    },
    /// The file ends within a line, or with something that was appended.
    #[error(
        "after the last whole line there are {bytes} bytes: a line cut off in the middle, or \
         something that was appended"
    )]
    Torn {
        /// How many.
        bytes: u64,
    },
    /// The trail does not begin with its first line, and no line says that
    /// the observer removed what came before.
    #[error("lines 1 to {through} are missing, and no retention accounts for them")]
    BeginningMissing {
        /// The last of them.
        through: u64,
    },
    /// The host's key file speaks of lines that are not there.
    #[error(
        "the end was cut off: the key file knows of lines up to {through}, here line {last} is the last"
    )]
    Cut {
        /// The last line that there is.
        last: u64,
        /// The last line that the key file knows of.
        through: u64,
    },
    /// No ordered stop, and nobody said that there need not be one.
    #[error(
        "the trail ends with line {last} and no ordered stop: either the observer was killed or \
         still runs, or the end was cut off (the host's key file can tell)"
    )]
    OpenEnd {
        /// The last line.
        last: u64,
    },
    /// The key file's key or position is not this trail's.
    #[error("the host's key file was forged or is damaged: it does not fit the trail")]
    KeyFileForged,
    /// The trail goes on after the position of the key file.
    #[error("the host's key file was rolled back to epoch {epoch}: the trail is in epoch {trail}")]
    KeyFileOld {
        /// The key file's.
        epoch: u64,
        /// The trail's.
        trail: u64,
    },
    /// Not one line.
    #[error("there is no line that verifies")]
    Empty,
}

/// Verifies a trail, rotated files and all. Memory is bounded whatever the
/// files hold.
///
/// # Errors
/// If key or files cannot be read. What is wrong with the trail is no error
/// but a finding.
pub fn verify(request: &Request) -> Result<Verdict, VerifyError> {
    let first = KeyState::load(&request.key, Use::Verify)?;
    let files = segments(&request.file)?;
    if files.is_empty() {
        return Err(VerifyError::NoTrail(request.file.clone()));
    }
    let before = load_host_key(request, &first)?;
    let mut check = Check::new(&first, before.as_ref().map(|state| state.position));
    check.running = request.running;
    let last = files.len().saturating_sub(1);
    for (index, file) in files.iter().enumerate() {
        let lenient = index == last && (request.running || before.is_some());
        check.file(file, &request.file, lenient)?;
    }
    // A running observer may have gone on meanwhile: the trail reaches at
    // least what the key file said before, at most what it says now.
    let after = load_host_key(request, &first)?;
    check.end(&first, before.as_ref(), after.as_ref());
    check.verdict.files = files;
    check.verdict.trail = first.trail;
    Ok(check.verdict)
}

fn load_host_key(request: &Request, first: &KeyState) -> Result<Option<KeyState>, VerifyError> {
    let Some(path) = &request.host_key else {
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

/// The state of a verification.
struct Check {
    verdict: Verdict,
    file: PathBuf,
    line: u64,
    /// Key of the epoch `at.epoch`.
    key: ChainKey,
    lines: LineKey,
    /// How often keys may still be ratcheted: bounds the work that forged
    /// epochs can cause.
    ratchets: u64,
    /// Where the next line belongs.
    at: Position,
    /// Epoch that the next line has to be of.
    epoch_due: u64,
    /// A line that did not verify stands where `at` was: it may be an edited
    /// one, or an inserted one.
    doubted: bool,
    /// Lines that did not verify and whose numbers mean nothing.
    damaged: u64,
    /// The line before was `stop`.
    stop_before: bool,
    /// Lines 1 to this are missing.
    beginning_missing: u64,
    /// The host key file's position, and the MAC of the line before it.
    host: Option<Position>,
    host_link: Option<Link>,
    /// Highest epoch of a line that verified.
    epoch: u64,
    /// The observer runs, or was killed.
    running: bool,
}

impl Check {
    fn new(first: &KeyState, host: Option<Position>) -> Self {
        Self {
            verdict: Verdict::default(),
            file: PathBuf::new(),
            line: 0,
            lines: first.key.lines(),
            key: first.key.clone(),
            ratchets: MAX_EPOCH,
            at: Position::START,
            epoch_due: 0,
            doubted: false,
            damaged: 0,
            stop_before: false,
            beginning_missing: 0,
            host,
            host_link: host.filter(|at| at.seq == 1).map(|at| at.prev),
            epoch: 0,
            running: false,
        }
    }

    fn file(&mut self, path: &Path, trail: &Path, lenient: bool) -> Result<(), FileError> {
        let failed = |error: io::Error| FileError::new("read", path, error);
        path.clone_into(&mut self.file);
        self.line = 0;
        let mut lines = Lines::new(BufReader::new(open(path, trail).map_err(failed)?));
        loop {
            let found = lines.advance().map_err(failed)?;
            self.line = self.line.saturating_add(1);
            match found {
                Next::Line => self.take(lines.line()),
                Next::TooLong => self.damage(Fault::Malformed),
                Next::Torn => self.torn(lines.line(), lenient),
                Next::End => return Ok(()),
            }
        }
    }

    fn torn(&mut self, text: &[u8], lenient: bool) {
        let bytes = text.len() as u64;
        if lenient && self.may_be_unfinished(text) {
            self.verdict.unfinished_bytes = bytes;
        } else {
            self.damage(Fault::Torn { bytes });
        }
    }

    /// Whether this can be what there is so far of the next line. After an
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
        (self.running || !self.verdict.stopped) && pairs.all(|(is, due)| is == due)
    }

    fn take(&mut self, text: &[u8]) {
        let Some(line) = Parsed::new(text) else {
            return self.damage(Fault::Malformed);
        };
        if !self.fits(&line) {
            return self.refuse(&line);
        }
        self.place(&line);
        self.read(text, &line);
    }

    /// Whether the MAC is right, by the key of the line's epoch. That key is
    /// kept only if it is: nothing that is forged moves the verifier forward.
    fn fits(&mut self, line: &Parsed<'_>) -> bool {
        let Some(steps) = line.epoch.checked_sub(self.at.epoch) else {
            // Of an epoch that is over, so in the wrong place whatever it is.
            return false;
        };
        let Some(left) = self.ratchets.checked_sub(steps) else {
            return false;
        };
        if steps == 0 {
            return self.lines.fits(line.body, &line.mac);
        }
        let mut key = self.key.clone();
        for _ in 0..steps {
            key.ratchet();
        }
        self.ratchets = left;
        let lines = key.lines();
        let fits = lines.fits(line.body, &line.mac);
        if fits {
            (self.key, self.lines) = (key, lines);
            self.at.epoch = line.epoch;
        }
        fits
    }

    /// A line that is not authentic.
    fn refuse(&mut self, line: &Parsed<'_>) {
        let seq = line.seq;
        if seq < self.at.seq && line.epoch < self.at.epoch {
            let expected = self.at.seq;
            return self.find(Fault::Misplaced { seq, expected });
        }
        if seq != self.at.seq {
            return self.damage(Fault::Edited { seq });
        }
        self.find(Fault::Edited { seq });
        self.at = self.at.after(line.mac);
        self.doubted = true;
    }

    /// An authentic line: is it where it belongs?
    fn place(&mut self, line: &Parsed<'_>) {
        let expected = self.at.seq;
        let replaces_forged = self.doubted && line.seq.checked_add(1) == Some(expected);
        if line.seq < expected && !replaces_forged {
            let seq = line.seq;
            return self.find(Fault::Misplaced { seq, expected });
        }
        if line.seq > expected {
            self.gap(expected, line.seq);
        } else if line.prev != self.at.prev && !self.doubted && self.damaged == 0 {
            self.find(Fault::Unlinked { seq: line.seq });
        } else if line.epoch != self.epoch_due && !self.doubted && self.damaged == 0 {
            self.find(Fault::WrongEpoch {
                seq: line.seq,
                epoch: line.epoch,
                expected: self.epoch_due,
            });
        }
        let sealed = line.is_kind("seal");
        self.epoch_due = line.epoch.saturating_add(u64::from(sealed));
        (self.doubted, self.damaged) = (false, 0);
        self.at = line.position().after(line.mac);
    }

    /// Lines that cannot be read account for as many missing ones.
    fn gap(&mut self, expected: u64, seq: u64) {
        let from = expected.saturating_add(self.damaged);
        if from >= seq {
            return;
        }
        let through = seq.saturating_sub(1);
        if self.verdict.first_line.is_none() && expected == 1 {
            self.beginning_missing = through;
        } else {
            self.find(Fault::Missing { from, through });
        }
    }

    /// Takes in what an authentic line says.
    fn read(&mut self, text: &[u8], line: &Parsed<'_>) {
        let verdict = &mut self.verdict;
        verdict.lines = verdict.lines.saturating_add(1);
        verdict.first_line = verdict.first_line.or(Some(line.seq));
        verdict.last_line = verdict.last_line.max(Some(line.seq));
        self.epoch = self.epoch.max(line.epoch);
        if self
            .host
            .is_some_and(|host| line.seq.checked_add(1) == Some(host.seq))
        {
            self.host_link = Some(line.mac);
        }
        let is_seal = line.is_kind("seal");
        verdict.stopped = is_seal && self.stop_before;
        self.stop_before = line.is_kind("stop");
        // An authentic line is the observer's own JSON.
        let fields: Fields = serde_json::from_slice(text).unwrap_or_default();
        match fields.kind.as_str() {
            "seal" => {
                verdict.sealed_through = Some(line.seq);
                verdict.sealed_at = Some(fields.time);
            }
            "lost" => verdict.lost = verdict.lost.saturating_add(fields.count),
            "repair" => verdict.repairs = verdict.repairs.saturating_add(1),
            "retention" => {
                verdict.removed_through = verdict.removed_through.max(fields.through_seq);
            }
            _ => {}
        }
    }

    fn end(&mut self, first: &KeyState, before: Option<&KeyState>, after: Option<&KeyState>) {
        self.line = 0;
        let last = self.verdict.last_line.unwrap_or_default();
        if self.verdict.lines == 0 {
            self.find(Fault::Empty);
        }
        if self.beginning_missing > self.verdict.removed_through {
            let through = self.beginning_missing;
            self.find(Fault::BeginningMissing { through });
        }
        match (before, after) {
            (Some(before), Some(after)) => self.compare(first, before, after, last),
            _ if self.verdict.stopped || self.running || last == 0 => {}
            _ => self.find(Fault::OpenEnd { last }),
        }
    }

    /// Compares the trail with the host's key file.
    fn compare(&mut self, first: &KeyState, before: &KeyState, after: &KeyState, last: u64) {
        let through = before.position.seq.saturating_sub(1);
        if !is_descendant(first, before) {
            self.find(Fault::KeyFileForged);
        } else if last < through {
            self.find(Fault::Cut { last, through });
        } else if self.epoch > after.position.epoch {
            let (epoch, trail) = (after.position.epoch, self.epoch);
            self.find(Fault::KeyFileOld { epoch, trail });
        } else if self.host_link != Some(before.position.prev) && self.is_clean() {
            self.find(Fault::KeyFileForged);
        }
    }

    fn is_clean(&self) -> bool {
        self.verdict.is_clean()
    }

    fn damage(&mut self, fault: Fault) {
        self.damaged = self.damaged.saturating_add(1);
        self.find(fault);
    }

    fn find(&mut self, fault: Fault) {
        let Verdict {
            findings,
            more_findings,
            ..
        } = &mut self.verdict;
        if findings.len() >= MAX_FINDINGS {
            *more_findings = more_findings.saturating_add(1);
            return;
        }
        findings.push(Finding {
            file: self.file.clone(),
            line: Some(self.line).filter(|&line| line > 0),
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

/// What the verifier wants to know of an authentic line.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    kind: String,
    time: String,
    count: u64,
    through_seq: u64,
}
